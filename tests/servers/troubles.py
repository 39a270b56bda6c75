"""What real services do to their clients."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from servers.scripted import Answer, Exchange, Trouble


def hang(exchange: Exchange) -> None:
    """Take the request and never answer."""
    exchange.wait()


def slow(seconds: float) -> Trouble:
    """The usual answer, later."""

    def trouble(exchange: Exchange) -> None:
        exchange.wait(seconds)
        exchange.send(exchange.usual())

    return trouble


def drip(exchange: Exchange) -> None:
    """The usual answer, a byte at a time and never to its end."""
    answer = exchange.usual()
    exchange.head(answer.status, {"content-type": answer.type, "content-length": str(10**6)})
    for byte in answer.body * 1000:
        exchange.write(bytes([byte]))
        exchange.wait(0.02)
        if exchange.server.closing.is_set() or exchange.client_left():
            return


def drop(exchange: Exchange) -> None:
    """Reset the connection instead of answering."""
    connection = exchange.handler.connection
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    exchange.handler.close_connection = True


def cut(exchange: Exchange) -> None:
    """Half of the usual answer, then the end of the connection."""
    answer = exchange.usual()
    exchange.head(answer.status, {"content-length": str(len(answer.body))})
    exchange.write(answer.body[: len(answer.body) // 2])
    exchange.handler.close_connection = True


def endless(exchange: Exchange) -> None:
    """A body that does not end, without a length."""
    exchange.head(200, {"content-type": "application/json", "connection": "close"})
    exchange.handler.close_connection = True
    while not exchange.server.closing.is_set():
        exchange.write(b"0" * (1 << 20))


def huge(exchange: Exchange) -> None:
    """A body of 4 GB, by its own account."""
    exchange.head(200, {"content-type": "video/mp4", "content-length": str(4 << 30)})
    exchange.handler.close_connection = True
    exchange.write(b"0" * 1024)
    exchange.wait()


def compressed(exchange: Exchange) -> None:
    """A small body that is said to be compressed, as a bomb would be."""
    exchange.send(Answer(200, b"\x1f\x8b", headers={"content-encoding": "gzip"}))


def status(code: int, body: Any = None, **headers: str) -> Trouble:
    """An error, with a JSON document, or bytes as they are; ``retry_after`` becomes ``retry-after``."""

    def trouble(exchange: Exchange) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body or {"error": "no"}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        exchange.send(Answer(code, data, headers=named))

    return trouble


def says(body: Any, type: str = "application/json", code: int = 200) -> Trouble:
    """An answer of another content than the usual."""

    def trouble(exchange: Exchange) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        exchange.send(Answer(code, data, type))

    return trouble


def redirect(to: str, code: int = 302) -> Trouble:
    def trouble(exchange: Exchange) -> None:
        exchange.send(Answer(code, b"", headers={"location": to}))

    return trouble


def truncated(exchange: Exchange) -> None:
    """The first half of the usual JSON, as if it were all."""
    body = exchange.usual().body
    exchange.send(Answer(200, body[: len(body) // 2]))


web_page = says(b"<html><head><title>Sign in</title></head></html>", "text/html")
