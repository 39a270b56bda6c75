"""One request and its answer, over connections that can be cut."""

from __future__ import annotations

import math
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from svd_local.errors import RemoteFailed, TierUnavailable
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.call import Call, Over
from svd_local.tiers.remote.gate import Gate
from svd_local.tiers.remote.library import http_library, trust, unlogged
from svd_local.tiers.remote.refusals import clean

_MOST_REDIRECTS = 5
_REFUSAL_BYTES = 1 << 17
"""So much of a refusal is read: it is to say why, in a sentence."""


class Unreached(Exception):
    """Nobody could be connected to at ``url``; ``sent_on`` says that a redirect led there."""

    def __init__(self, url: Any, sent_on: bool, reason: Exception) -> None:
        super().__init__(str(reason))
        self.url, self.sent_on, self.reason = url, sent_on, reason


class TooSlow(Exception):
    """The answer took longer than the policy has for one."""


class Exchanges:
    """Sends requests as they are: nothing is tried again and no status is judged.

    It uses the library's transports directly, and keeps headers out of their logs. The clients above
    them log whole URLs, and a URL may be a signed one, that is, a key.

    Args:
        call: whose time it is.
        policy: bytes and seconds of one answer.
        gate: where requests may go.
        leaving: called with each request once its connection is there, just before it is sent; may
            wait, and may raise.
        answered: called with each request whose answer has begun.
    """

    def __init__(
        self,
        call: Call,
        policy: Policy,
        gate: Gate,
        leaving: Callable[[Any], None] = lambda request: None,
        answered: Callable[[Any], None] = lambda request: None,
    ) -> None:
        self._call, self._policy, self._gate = call, policy, gate
        self._leaving, self._answered = leaving, answered
        self._transports: dict[str | None, Any] = {}

    def close(self) -> None:
        """Close every connection."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            transport.close()

    def send(self, request: Any) -> Any:
        """The answer, read to its end, after all redirects.

        Raises:
            RemoteFailed: it is too large or compressed, or leads where it may not.
            TierUnavailable: it redirects what must not be sent on.
            Over: the call ended.
            Unreached: nobody could be connected to.
            TooSlow: as it says.
            TransportError: the library's: dropped.
        """
        try:
            return self._followed(request)
        except (http_library().InvalidURL, UnicodeError):  # also of a name that no host can have
            raise RemoteFailed(
                f"{self._gate.who} named an address that is none",
                hint="Check that it is the service's own and no proxy's that answers.",
            ) from None

    def _followed(self, request: Any) -> Any:
        """The answer to ``request`` after all redirects."""
        library = http_library()
        for hops in range(_MOST_REDIRECTS):
            try:
                response = self._once(request)
            except (library.ConnectError, library.ConnectTimeout) as error:
                raise Unreached(request.url, hops > 0, error) from error
            except library.TimeoutException:
                self._call.check()
                raise (Over if math.isinf(self._policy.answer_s) else TooSlow) from None
            target = response.headers.get("location")
            if not (300 <= response.status_code < 400 and target):
                return response
            url = request.url.join(target)
            self._gate.follow(request, url)
            request = library.Request("GET", url, headers={"user-agent": "svd_local"})
        raise RemoteFailed(
            f"{self._gate.who} redirects in a circle", hint="Check the address of the service."
        )

    def _once(self, request: Any) -> Any:
        self._call.check()
        self._gate.admit(request)
        outward = self._outward(request)
        with unlogged():
            response = self._transport(outward.url).handle_request(outward)
            try:
                body = self._read(response, time.monotonic() + self._policy.answer_s)
            finally:
                response.close()
        return http_library().Response(
            response.status_code,
            headers=[(k, v) for k, v in response.headers.raw if k.lower() not in _OF_THE_BODY],
            content=body,
            request=request,
        )

    def _outward(self, request: Any) -> Any:
        """The request as it leaves: routed, timed, uncompressed, its connections held by the call."""
        url, headers = request.url, dict(request.headers)
        base = self._gate.route.get(url.host)
        if base is not None:
            there = http_library().URL(base)
            url = url.copy_with(scheme=there.scheme, host=there.host, port=there.port)
            headers["host"] = url.netloc.decode("ascii")
        headers["accept-encoding"] = "identity"
        left = self._call.remaining
        answer = min(left, self._policy.answer_s)
        timeout = {"connect": min(left, self._policy.connect_s), "read": answer, "write": answer}
        return http_library().Request(
            request.method,
            url,
            headers=headers,
            stream=request.stream,
            extensions={
                "timeout": {**timeout, "pool": left},
                "trace": lambda event, info: self._step(request, url, event, info),
            },
        )

    def _step(self, request: Any, url: Any, event: str, info: dict[str, Any]) -> None:
        """Called by the library at each step of a request, a proxy's own exchange among them."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._connected(request.url.host, url, info)
        elif event.endswith("send_request_headers.started"):
            if info["request"].method != b"CONNECT":
                self._leaving(request)
        elif event.endswith("receive_response_headers.complete"):
            self._answered(request)

    def _connected(self, host: str, url: Any, info: dict[str, Any]) -> None:
        connection = info["return_value"].get_extra_info("socket")
        self._call.hold(connection)
        if proxy_for(url) is None:
            try:
                self._gate.admit_address(host, connection.getpeername()[0])
            except RemoteFailed:
                connection.close()
                raise

    def _read(self, response: Any, until: float) -> bytes:
        """The body, within the bytes and the time there are; of a refusal's, the beginning."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._rejected("compressed, which it was asked not to be")
        if not 200 <= response.status_code < 300:
            return self._beginning(response)
        most = self._policy.max_bytes
        if int(_digits(response.headers.get("content-length", "0"))) > most:
            raise self._rejected(f"larger than {most >> 20} MiB")
        body = bytearray()
        for block in response.stream:
            self._call.check()
            if time.monotonic() > until:
                raise TooSlow
            body += block
            if len(body) > most:
                raise self._rejected(f"larger than {most >> 20} MiB")
        return bytes(body)

    def _beginning(self, response: Any) -> bytes:
        body = bytearray()
        for block in response.stream:
            self._call.check()
            body += block
            if len(body) >= _REFUSAL_BYTES:
                break
        return bytes(body[:_REFUSAL_BYTES])

    def _rejected(self, what: str) -> RemoteFailed:
        return RemoteFailed(
            f"{self._gate.who}'s answer is {what}", hint="Check that the address is the service's."
        )

    def _transport(self, url: Any) -> Any:
        """The connections to ``url``, straight or through the machine's proxy.

        Raises:
            TierUnavailable: that one's address means nothing.
        """
        proxy = proxy_for(url)
        if proxy not in self._transports:
            library, context = http_library(), trust()
            try:
                self._transports[proxy] = library.HTTPTransport(verify=context, proxy=proxy)
            except (ValueError, ImportError, library.InvalidURL) as error:
                raise TierUnavailable(
                    f"the proxy {clean(proxy or '')} cannot be used: {clean(str(error))}",
                    hint="Correct HTTPS_PROXY (or HTTP_PROXY), or name the host in NO_PROXY.",
                ) from None
        return self._transports[proxy]


_OF_THE_BODY = (b"content-length", b"transfer-encoding", b"content-encoding")


def proxy_for(url: Any) -> str | None:
    """The proxy the environment names for ``url``, as every program on the machine takes it."""
    if url.host in ("localhost", "127.0.0.1", "::1") or urllib.request.proxy_bypass(url.host):
        return None
    proxy = urllib.request.getproxies().get(url.scheme)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdigit() else "0"
