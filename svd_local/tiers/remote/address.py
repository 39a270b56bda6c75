"""The address of a server a user set up, and the password that goes with it."""

from __future__ import annotations

import base64
import ipaddress
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from svd_local.tiers.remote.gate import Gate


@dataclass(frozen=True, slots=True)
class Address:
    """A base URL without its user name and password, which are kept apart from it."""

    base: str
    """``scheme://host:port/path`` without a slash at the end."""
    host: str
    shown: str
    """The address for messages."""
    auth: str | None = field(default=None, repr=False)
    """``user:password``."""

    @classmethod
    def parse(cls, url: str, auth: str | None) -> Address | None:
        """None where ``url`` is no address. Without a scheme it is plain http, as web UIs are."""
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            return None
        if parts.scheme not in ("http", "https") or not host:
            return None
        if auth is None and parts.username is not None:
            user, password = parts.username, parts.password or ""
            auth = f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password)}"
        name = f"[{host}]" if ":" in host else host
        place = f"{parts.scheme}://{name}" + ("" if port is None else f":{port}")
        return cls(place + parts.path.rstrip("/"), host, place, auth)

    @property
    def on_this_machine(self) -> bool:
        try:
            here = ipaddress.ip_address(self.host)
            return here.is_loopback or here.is_unspecified  # as a web UI names itself: 0.0.0.0
        except ValueError:
            return self.host == "localhost"

    @property
    def exposes_password(self) -> bool:
        """Whether the password crosses a network unencrypted."""
        plain = self.base.startswith("http://")
        return plain and self.auth is not None and not self.on_this_machine

    def gate(self, advice: Mapping[int, str], setting: str = "") -> Gate:
        """A gate that leads to this server, which ``setting`` names, and nowhere else."""
        authorization: str | None = None
        secrets: tuple[str, ...] = ()
        if self.auth is not None:
            coded = base64.b64encode(self.auth.encode()).decode("ascii")
            authorization = f"Basic {coded}"
            user, _, password = self.auth.partition(":")
            as_in_urls = (urllib.parse.quote(password, safe=safe) for safe in ("", "/", "@/"))
            forms = (self.auth, coded, password, f"{user}:{password}", *as_in_urls)
            secrets = tuple(dict.fromkeys(filter(None, forms)))
        return Gate(
            who=f"the web UI at {self.shown}",
            home=(self.host,),
            authorization=authorization,
            plain_http=True,
            advice=advice,
            secrets=secrets,
            setting=setting,
        )
