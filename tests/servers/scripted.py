"""An HTTP server on loopback that can be told to misbehave.

It answers by its ``dialect``; each trouble put in its way by ``server.meet(path, trouble)`` replaces one
answer (or all of them, with ``always=True``). Every request is kept in ``server.seen``.
"""

from __future__ import annotations

import fnmatch
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    type: str = "application/json"
    headers: Mapping[str, str] | None = None


class Dialect(Protocol):
    def answer(self, request: Seen) -> Answer: ...


Trouble = Callable[["Exchange"], None]


class Exchange:
    """One request being answered, as a trouble sees it."""

    def __init__(self, handler: BaseHTTPRequestHandler, seen: Seen, server: Scripted) -> None:
        self.handler, self.seen, self.server = handler, seen, server

    def wait(self, seconds: float | None = None) -> None:
        """Sleep, but not beyond the server's life or the client's patience."""
        until = None if seconds is None else time.monotonic() + seconds
        while until is None or time.monotonic() < until:
            left = 0.02 if until is None else min(0.02, until - time.monotonic())
            if self.server.closing.wait(max(left, 0)) or self.client_left():
                return

    def client_left(self) -> bool:
        import select
        import socket

        readable, _, _ = select.select([self.handler.connection], [], [], 0)
        if not readable:
            return False
        with suppress(OSError):
            return self.handler.connection.recv(1, socket.MSG_PEEK) == b""
        return True

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def write(self, data: bytes) -> None:
        self.handler.wfile.write(data)
        self.handler.wfile.flush()

    def send(self, answer: Answer) -> None:
        length = {"content-length": str(len(answer.body))} if answer.status != 204 else {}
        self.head(answer.status, {"content-type": answer.type, **length, **(answer.headers or {})})
        self.write(answer.body)

    def usual(self) -> Answer:
        return self.server.dialect.answer(self.seen)


class Scripted:
    """The server. Use ``serving``."""

    def __init__(self, dialect: Dialect, certificate: ssl.SSLContext | None = None) -> None:
        self.dialect = dialect
        self._scheme = "http" if certificate is None else "https"
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self.open_connections = 0
        self._lock = threading.Lock()
        self._troubles: list[tuple[str, Trouble, bool]] = []
        self._http = _Server(("127.0.0.1", 0), _handler(self, certificate))
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return self._http.server_port

    def meet(self, path: str, *troubles: Trouble, always: bool = False) -> None:
        """Answer the next requests whose path matches (``*`` allowed) with these, in order."""
        with self._lock:
            self._troubles += [(path, trouble, always) for trouble in troubles]

    def asked(self, path: str) -> list[Seen]:
        with self._lock:
            return [seen for seen in self.seen if fnmatch.fnmatch(seen.path, path)]

    def take(self, seen: Seen) -> Trouble | None:
        with self._lock:
            self.seen.append(seen)
            for index, (path, trouble, always) in enumerate(self._troubles):
                if fnmatch.fnmatch(seen.path, path):
                    if not always:
                        del self._troubles[index]
                    return trouble
        return None

    def counted(self, change: int) -> None:
        with self._lock:
            self.open_connections += change

    def quiet(self, within_s: float = 1.0) -> bool:
        """Whether every connection has gone, by then at the latest."""
        until = time.monotonic() + within_s
        while self.open_connections and time.monotonic() < until:
            time.sleep(0.01)
        return self.open_connections == 0

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is nothing to report."""


def _handler(server: Scripted, certificate: ssl.SSLContext | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes, as in servers that stream

        def setup(self) -> None:
            if certificate is not None:  # the handshake in the connection's own thread
                self.request = certificate.wrap_socket(self.request, server_side=True)
            super().setup()

        def finish(self) -> None:
            super().finish()
            if certificate is not None:
                self.request.close()

        def handle(self) -> None:
            server.counted(+1)
            try:
                with suppress(ConnectionError, TimeoutError):
                    super().handle()
            finally:
                server.counted(-1)

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, parts.path, parts.query, headers, body, time.monotonic())
            trouble = server.take(seen)
            exchange = Exchange(self, seen, server)
            if trouble is None:
                exchange.send(exchange.usual())
            else:
                trouble(exchange)

        def log_message(self, *args: Any) -> None:
            """Silent."""

    return Handler


@contextmanager
def serving(dialect: Dialect, certificate: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """A server for the time of the block; with a ``certificate`` it speaks https."""
    server = Scripted(dialect, certificate)
    try:
        yield server
    finally:
        server.close()
