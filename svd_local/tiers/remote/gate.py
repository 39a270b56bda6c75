"""Where a tier's requests may go, and who is given its credentials."""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from svd_local.errors import RemoteFailed, TierUnavailable
from svd_local.tiers.remote.refusals import clean

_CREDENTIALS = ("authorization", "cookie", "proxy-authorization")


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules of one tier's traffic. A server's answer can name any address: a result to fetch, a
    redirect. None of them gets the credentials, or leads into the user's own network.
    """

    who: str
    """The server's name in messages."""
    home: tuple[str, ...]
    """Hosts (``*`` stands for any part) that get the credentials and everything that is sent."""
    authorization: str | None = field(default=None, repr=False)
    """The header's value."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Host -> the only paths (``*`` allowed) asked there, for a library that also asks what nobody
    wants to know."""
    downloads_from_anywhere: bool = False
    """Whether other hosts may be asked for a file: over https, at a public address, without
    credentials."""
    plain_http: bool = False
    """Whether ``home`` may be spoken to without encryption."""
    advice: Mapping[int, str] = field(default_factory=dict)
    """The hint for a status, where the general one would not do."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What is never repeated in a message."""
    setting: str = ""
    """What the user sets the address of ``home`` with; empty where it is fixed."""
    route: Mapping[str, str] = field(default_factory=dict)
    """Host -> base URL to go to in its stead: a mirror, or a test's server."""

    def admit(self, request: Any) -> None:
        """Let ``request`` out: give it the credentials, or make sure it has none.

        Raises:
            RemoteFailed: it may not go where it is addressed.
        """
        url = request.url
        at_home = self.is_home(url.host)
        if not fnmatch.fnmatchcase(url.path, self.paths.get(url.host, "*")):
            raise self._forbidden(url, f"for {url.path}")
        if url.scheme != "https" and not (at_home and url.scheme == "http" and self.plain_http):
            raise self._forbidden(url, "over anything but https")
        if at_home:
            if self.authorization is not None:
                request.headers["authorization"] = self.authorization
            return
        if any(name in request.headers for name in _CREDENTIALS):
            raise self._forbidden(url, "with credentials")
        if not (self.downloads_from_anywhere and request.method == "GET"):
            raise self._forbidden(url, "by this tier")

    def admit_address(self, host: str, address: str) -> None:
        """Refuse a host outside ``home`` that turns out to be in a private network.

        Raises:
            RemoteFailed: ``address`` is not a public one.
        """
        if self.is_home(host) or host in self.route:
            return
        if not ipaddress.ip_address(address.partition("%")[0]).is_global:
            raise RemoteFailed(
                f"{self.who} named {self.clean(host)}, which is an address of a private network",
                hint="Such a result is not fetched. Use another provider or tier.",
            )

    def follow(self, request: Any, target: Any) -> None:
        """Agree to go on from ``request`` to ``target``, a redirect's URL.

        Raises:
            TierUnavailable: what was sent, or the credentials, would go elsewhere, or what was
                encrypted would go on in the open, or another host would have the credentials used.
        """
        asks = request.method in ("GET", "HEAD")
        bare = not any(name in request.headers for name in _CREDENTIALS)
        here = (request.url.scheme, request.url.host, request.url.port)
        same = here == (target.scheme, target.host, target.port)
        as_safe = target.scheme == "https" or (request.url.scheme, target.scheme) == (
            "http",
            "http",
        )
        lent = self.is_home(target.host) and not self.is_home(request.url.host)
        if asks and as_safe and not lent and (bare or same):
            return
        where, at_home = self.place(target), self.is_home(request.url.host)
        if at_home and same:
            where += self.clean(target.path)
        hint = "Use another provider or tier."
        if at_home:
            hint = "Pictures and credentials are not sent on" + (
                f": set {self.setting} to where it leads." if self.setting else f". {hint}"
            )
        raise TierUnavailable(f"{self.who} sends requests on to {where}", hint=hint)

    def clean(self, text: str) -> str:
        """``text`` of a server, on one line and without the secrets."""
        return clean(text, self.secrets)

    def place(self, url: Any) -> str:
        """Scheme, host and port of an address a server named, for messages."""
        if not url.host:
            return f"an address without a host ({self.clean(url.scheme) or 'and without a scheme'})"
        port = "" if url.port is None else f":{url.port}"
        host = f"[{url.host}]" if ":" in url.host else url.host
        return self.clean(f"{url.scheme}://{host}{port}")

    def is_home(self, host: str) -> bool:
        """Whether ``host`` is the service itself, and not where it keeps files."""
        return any(fnmatch.fnmatchcase(host, pattern) for pattern in self.home)

    def _forbidden(self, url: Any, how: str) -> RemoteFailed:
        hint = "Use another provider or tier."
        if self.setting:
            hint = f"If that is your server, set {self.setting} to where it is."
        return RemoteFailed(
            f"{self.who} named {self.place(url)}, which is not asked {self.clean(how)}", hint=hint
        )
