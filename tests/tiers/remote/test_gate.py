"""Where requests may go, and with what."""

from __future__ import annotations

import pytest

from svd_local.errors import RemoteFailed, TierUnavailable
from svd_local.tiers.remote.address import Address
from svd_local.tiers.remote.gate import Gate
from svd_local.tiers.remote.library import http_library, trust

GATE = Gate(
    who="it",
    home=("home.example", "*.home.example"),
    authorization="Bearer secret",
    paths={"home.example": "/api/models/*"},
    downloads_from_anywhere=True,
    secrets=("secret",),
)


def request(method: str, url: str, **headers: str) -> object:
    return http_library().Request(method, url, headers=headers)


@pytest.mark.parametrize("host", ["home.example", "router.home.example"])
def test_home_gets_the_credentials(host: str) -> None:
    asked = request("GET", f"https://{host}/api/models/x")
    GATE.admit(asked)
    assert asked.headers["authorization"] == "Bearer secret"  # type: ignore[attr-defined]


def test_credentials_of_others_are_replaced_at_home() -> None:
    asked = request("GET", "https://home.example/api/models/x", authorization="Bearer found")
    GATE.admit(asked)
    assert asked.headers["authorization"] == "Bearer secret"  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", ["evil.example", "home.example.evil.example", "nothome.example"])
def test_elsewhere_gets_none(host: str) -> None:
    asked = request("GET", f"https://{host}/file")
    GATE.admit(asked)
    assert "authorization" not in asked.headers  # type: ignore[attr-defined]


@pytest.mark.parametrize("header", ["authorization", "cookie", "Proxy-Authorization"])
def test_elsewhere_is_not_asked_with_credentials(header: str) -> None:
    with pytest.raises(RemoteFailed, match="with credentials"):
        GATE.admit(request("GET", "https://evil.example/file", **{header: "x"}))


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "https://evil.example/file"),
        ("GET", "http://evil.example/file"),
        ("GET", "http://home.example/api/models/x"),
        ("GET", "https://home.example/api/agent-harnesses"),
    ],
)
def test_what_is_not_let_out(method: str, url: str) -> None:
    with pytest.raises(RemoteFailed):
        GATE.admit(request(method, url))


def test_a_gate_without_downloads_leads_home_only() -> None:
    gate = Gate(who="it", home=("home.example",))
    with pytest.raises(RemoteFailed):
        gate.admit(request("GET", "https://elsewhere.example/file"))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.8", "192.168.1.1", "169.254.169.254", "::1", "fe80::1%eth0"]
)
def test_private_addresses_are_not_fetched_from(address: str) -> None:
    with pytest.raises(RemoteFailed, match="private network"):
        GATE.admit_address("files.example", address)
    GATE.admit_address("home.example", address)


def test_public_addresses_are() -> None:
    GATE.admit_address("files.example", "93.184.216.34")


@pytest.mark.parametrize(
    ("method", "to", "allowed"),
    [
        ("GET", "https://home.example/api/models/y", True),
        ("GET", "https://other.example/x", False),
        ("GET", "http://home.example/api/models/x", False),
        ("GET", "https://home.example:444/x", False),
        ("POST", "https://home.example/api/models/y", False),
    ],
)
def test_redirects_with_credentials(method: str, to: str, allowed: bool) -> None:
    asked = request(method, "https://home.example/api/models/x", authorization="x")
    target = http_library().URL(to)
    if allowed:
        GATE.follow(asked, target)
        return
    with pytest.raises(TierUnavailable, match="sends requests on"):
        GATE.follow(asked, target)


@pytest.mark.parametrize(
    ("to", "allowed"),
    [
        ("https://other.example/y", True),
        ("http://files.example/y", False),
        ("https://home.example/api/models/x", False),
    ],
)
def test_redirects_of_a_download(to: str, allowed: bool) -> None:
    """Nobody but the service itself has the credentials used."""
    asked, target = request("GET", "https://files.example/x"), http_library().URL(to)
    if allowed:
        GATE.follow(asked, target)
        return
    with pytest.raises(TierUnavailable, match="sends requests on"):
        GATE.follow(asked, target)


@pytest.mark.parametrize(
    ("method", "to", "where"),
    [
        ("GET", "http://server.example:81/x", "http://server.example:81"),
        ("POST", "http://server.example:80/y", "http://server.example/y"),
        ("POST", "https://server.example/x", "https://server.example"),
        ("GET", "file:///etc/passwd", "an address without a host (file)"),
        ("GET", "https://word.example/x", "https://***.example"),
    ],
)
def test_where_a_redirect_leads_is_named_in_full(method: str, to: str, where: str) -> None:
    address = Address.parse("http://server.example", "user:word")
    assert address is not None
    asked = request(method, "http://server.example/x", authorization="x")
    with pytest.raises(TierUnavailable) as caught:
        address.gate({}, "ITS_SETTING").follow(asked, http_library().URL(to))
    assert caught.value.message.endswith(f"sends requests on to {where}")
    assert "set ITS_SETTING to where it leads" in caught.value.hint


def test_the_hint_of_a_redirect_is_of_some_use() -> None:
    url = http_library().URL("https://other.example/x")
    for asked in (
        request("POST", "https://home.example/api/models/x"),
        request("POST", "https://files.example/x"),
    ):
        with pytest.raises(TierUnavailable) as caught:
            GATE.follow(asked, url)
        assert "set" not in caught.value.hint
        assert "Use another provider or tier" in caught.value.hint


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(GATE)
    address = Address.parse("http://host", "user:secret")
    assert address is not None
    assert "secret" not in repr(address) + repr(address.gate({}))


def test_certificates_are_verified() -> None:
    import ssl

    assert trust().verify_mode == ssl.CERT_REQUIRED
    assert trust().check_hostname
