"""The one place that talks HTTP: every byte of a remote tier goes through a ``Door``.

A door belongs to one call. It lets a request out only to where its gate allows, ends with the call,
reads no more than the policy's bytes, tries again what passes, and turns every answer but a good one
into our errors, so that what is behind it never sees one.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from svd_local.errors import RemoteFailed, SvdLocalError, TierBusy, TierUnavailable
from svd_local.tiers.policy import DROPPED, PASSING, Policy
from svd_local.tiers.remote.call import Call
from svd_local.tiers.remote.exchange import Exchanges, TooSlow, Unreached, proxy_for
from svd_local.tiers.remote.gate import Gate
from svd_local.tiers.remote.library import http_library
from svd_local.tiers.remote.pace import Pace
from svd_local.tiers.remote.refusals import asked_wait, loading_time, refusal

_log = logging.getLogger(__name__)

_DONE = (
    "The work was done, and is paid for where it costs, but its file could not be fetched; asked "
    "again it is done anew."
)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """An exchange that came to nothing."""

    error: SvdLocalError
    again: bool
    why: str
    wait_s: float | None = None
    """Seconds the server asks to be left alone."""
    loading: bool = False


class Door:
    """HTTP for one call, one request at a time. Close it when the call is over."""

    def __init__(self, call: Call, policy: Policy, gate: Gate, pace: Pace | None = None) -> None:
        self.call, self.policy, self.gate = call, policy, gate
        self._pace = Pace() if pace is None else pace
        self._exchanges = Exchanges(call, policy, gate, self._leaving, self._answered)
        self._sent = 0.0
        self.begun = 0.0
        """When the last request left, on the monotonic clock."""
        self.eve: Callable[[], None] = lambda: None
        """Called before a request for work is sent, each time it is; raises nothing but ``Over``."""
        self.at_work = False
        """Whether the service has a request for work that it has not answered: it may be at it."""
        self.worked_s = 0.0
        """How long it had the last one."""

    def close(self) -> None:
        """Close every connection."""
        self._exchanges.close()

    def json(self, method: str, url: str, document: Any = None) -> Any:
        """The JSON document a route answers with; None for an empty answer.

        Raises:
            RemoteFailed: it is none. Otherwise as ``send``.
        """
        headers = {"user-agent": "svd_local", "accept": "application/json"}
        request = http_library().Request(method, url, headers=headers, json=document)
        body = self.send(request).content
        if not body.strip():
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            kind = "a web page" if body.lstrip()[:1] == b"<" else "no complete JSON"
            raise RemoteFailed(
                f"{self.gate.who} answered {kind} at {urllib.parse.urlsplit(url).path}",
                hint="Check that the address is the service's own and no proxy's.",
            ) from None

    def send(self, request: Any) -> Any:
        """The answer to ``request``, read to its end; its status is one of 2xx.

        Raises:
            TierBusy, TierUnavailable, RemoteFailed: there is none, in ``refusals``' words. A file
                elsewhere is the result of work that was done: where it cannot be had, the work failed.
            Over: the call has ended or run out of time.
        """
        if self.gate.is_home(request.url.host):
            return self._answer_to(request)
        try:
            return self._answer_to(request)
        except (TierBusy, TierUnavailable, RemoteFailed) as error:
            error.hint = f"{_DONE} {error.hint}".strip()
            if isinstance(error, TierUnavailable):
                raise RemoteFailed(error.message, hint=error.hint) from error
            raise

    def _answer_to(self, request: Any) -> Any:
        tries = 0
        while True:
            answer = self._try(request)
            if not isinstance(answer, _Trouble):
                return answer
            tries += not answer.loading
            if not answer.again or tries >= self.policy.tries:
                raise answer.error
            self._wait(answer, tries)

    def _try(self, request: Any) -> Any:
        """The good answer to one exchange, or a ``_Trouble``."""
        gate, asks = self.gate, _asks(request)
        harmless = asks or self.policy.resend_dropped
        home = gate.is_home(request.url.host)
        if home:
            self._pace.approach(self.call, asks=asks)
        if not asks:
            self.eve()
        try:
            response = self._exchanges.send(request)
        except Unreached as error:
            return self._unconnected(error)
        except TooSlow:
            return self._silent(request)
        except http_library().TransportError as error:
            return self._dropped(error, harmless)
        status, headers, body = response.status_code, response.headers, response.content
        if 200 <= status < 300:
            if home:
                self._pace.heed(headers)
            return response
        who = gate.who if home else f"{gate.clean(request.url.host)}, where {gate.who} leads,"
        refused = refusal(who, status, headers, body, advice=gate.advice, secrets=gate.secrets)
        if not home:
            refused.hint = ""  # the advice is for the service itself
        if status == 429 and home:
            wait_s = asked_wait(headers, body)
            self._pace.slow_down(headers, wait_s, sent=self._sent, asks=asks)
        loading = status == 503 and loading_time(body) is not None
        return _Trouble(
            refused,
            again=status in PASSING and (harmless or loading or status not in DROPPED),
            why="the model is loading" if loading else f"status {status}",
            wait_s=asked_wait(headers, body),
            loading=loading,
        )

    def _leaving(self, request: Any) -> None:
        """The moment before ``request`` is sent: its turn is taken here, where nothing but its way can
        delay it any more.
        """
        asks = _asks(request)
        if self.gate.is_home(request.url.host):
            self._sent = self._pace.turn(self.call, asks=asks)
        self.at_work = not asks
        self.begun = time.monotonic()

    def _answered(self, request: Any) -> None:
        if self.at_work:
            self.worked_s = time.monotonic() - self.begun
        self.at_work = False

    def _silent(self, request: Any) -> _Trouble:
        seconds = self.policy.answer_s
        return _Trouble(
            TierBusy(
                f"{self.gate.who} did not answer {request.url.path} within {seconds:g} s",
                hint="Look whether it is at other work, or stuck.",
            ),
            again=False,
            why="silent",
        )

    def _unconnected(self, error: Unreached) -> _Trouble:
        """Nobody there: tried again, since a server may be starting; then it is not available. A
        certificate that is not trusted will not be the next time.
        """
        self.call.check()
        url = error.url
        reason = self.gate.clean(str(error)) or type(error.reason).__name__
        who = self.gate.who
        if error.sent_on:
            who = f"{self.gate.place(url)}, where {who} sends requests on,"
        elif not self.gate.is_home(url.host):
            who = f"{self.gate.clean(url.host)}, where {who} leads,"
        if (distrust := _distrust(error.reason)) is not None:
            why = self.gate.clean(distrust)
            return _Trouble(
                TierUnavailable(
                    f"{who} cannot be trusted: {why}",
                    hint="Check the address. If its certificate is of an authority of your own, "
                    "set SSL_CERT_FILE to that one's certificate.",
                ),
                again=False,
                why="not trusted",
            )
        hint = "Check that it runs, its address, and the network."
        if "WRONG_VERSION_NUMBER" in reason:  # OpenSSL's name for what is no TLS
            hint = "It does not speak https: write http:// in its address."
        proxy = None if url.host in self.gate.route else proxy_for(url)
        through = "" if proxy is None else f" through the proxy {self.gate.clean(proxy)}"
        return _Trouble(
            TierUnavailable(f"{who} cannot be reached{through}: {reason}", hint=hint),
            again=self.policy.seeks,
            why="no connection",
        )

    def _dropped(self, error: Exception, again: bool) -> _Trouble:
        self.call.check()  # whoever ended the call has work to call off; here the server ended it
        self.at_work = False
        reason = self.gate.clean(str(error)) or type(error).__name__
        return _Trouble(
            TierBusy(
                f"{self.gate.who} broke the connection off: {reason}",
                hint="Try again; the server's own log may say why.",
            ),
            again=again,
            why="the connection broke",
        )

    def _wait(self, trouble: _Trouble, tries: int) -> None:
        """Wait as long as the server asks, or a drawn time; give up where that is too long. What it asks
        may be nothing, or a date gone by: then the time is drawn, too.
        """
        wait = trouble.wait_s
        if wait is None or wait < self.policy.backoff_s:
            wait = max(wait or 0.0, self.policy.backoff(max(tries, 1)))
        if wait > self.policy.longest_wait_s or wait >= self.call.remaining:
            raise trouble.error
        self.call.note = f"{self.gate.who}: {trouble.why}, waiting {wait:.1f} s"
        _log.info("%s", self.call.note)
        self.call.pause(wait)
        self.call.note = ""


def _asks(request: Any) -> bool:
    """Whether it is a question, and starts no work."""
    return request.method in ("GET", "HEAD")


def _distrust(error: BaseException | None) -> str | None:
    """Why the server's certificate was refused; None where something else is the matter."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(error.verify_message or error)
        error = error.__cause__ or error.__context__
    return None
