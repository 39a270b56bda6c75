"""Certificates are verified: against a loopback server with one of a CA made for the test."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from servers import troubles
from servers.hub import FILES, HUB, MODEL, ROUTER, Hub
from servers.scripted import serving
from servers.webui import WebUI

from svd_local.errors import TierUnavailable
from svd_local.request import ClipRequest
from svd_local.tiers.base import Job
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.library import trust
from svd_local.tiers.webui import WebUITier

QUICK = Policy(deadline_s=5.0, tries=3, backoff_s=0.02, longest_wait_s=1.0)
OPTIONS = "/sdapi/v1/options"

JobMaker = Callable[..., Job]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def _fresh_trust() -> Iterator[None]:
    trust.cache_clear()
    yield
    trust.cache_clear()


@pytest.fixture
def _trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


def certificate(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.usefixtures("_trusted")
def test_a_trusted_server_serves(authority: trustme.CA, make_job: JobMaker) -> None:
    with serving(WebUI(auth="user:secret"), certificate(authority)) as server:
        assert server.url.startswith("https://")
        tier = WebUITier(server.url, "user:secret", policy=QUICK)
        assert tier.generate(make_job(tier, image=None, duration=1.0)).count == 24
        assert server.quiet()


def test_an_unknown_authority_is_refused_before_anything_is_sent(authority: trustme.CA) -> None:
    with serving(WebUI(), certificate(authority)) as server:
        with pytest.raises(TierUnavailable, match="cannot be trusted") as caught:
            WebUITier(server.url, "user:secret", policy=QUICK).plan(ClipRequest(prompt="x"))
        assert server.seen == []
    assert "SSL_CERT_FILE" in caught.value.hint


@pytest.mark.usefixtures("_trusted")
def test_another_hosts_certificate_is_refused(authority: trustme.CA) -> None:
    with serving(WebUI(), certificate(authority, "other.example")) as server:
        with pytest.raises(TierUnavailable, match=r"not valid for '127\.0\.0\.1'"):
            WebUITier(server.url, "user:secret", policy=QUICK).plan(ClipRequest(prompt="x"))
        assert server.seen == []


@pytest.mark.usefixtures("_trusted")
@pytest.mark.parametrize("auth", ["user:secret", None])
def test_what_is_encrypted_is_not_led_into_the_open(
    authority: trustme.CA, auth: str | None
) -> None:
    with serving(WebUI()) as plain, serving(WebUI(), certificate(authority)) as server:
        server.meet(OPTIONS, troubles.redirect(plain.url + OPTIONS), always=True)
        with pytest.raises(TierUnavailable, match="sends requests on to http://"):
            WebUITier(server.url, auth, policy=QUICK).plan(ClipRequest(prompt="x"))
        assert plain.seen == []


@pytest.mark.usefixtures("_trusted")
def test_the_hubs_whole_protocol_over_tls(
    authority: trustme.CA,
    service_video: bytes,
    make_job: JobMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub.inference._providers as providers

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(providers.fal_ai, "_POLLING_INTERVAL", 0.01)
    with serving(Hub(service_video), certificate(authority)) as server:
        route = dict.fromkeys((ROUTER, HUB, FILES), server.url)
        tier = HuggingFaceTier("hf_x", True, MODEL, policy=QUICK, route=route)
        assert tier.generate(make_job(tier)).count == 9


def test_a_plain_server_behind_an_https_address(make_job: JobMaker) -> None:
    with serving(WebUI()) as server:
        url = server.url.replace("http://", "https://")
        with pytest.raises(TierUnavailable, match="cannot be reached") as caught:
            WebUITier(url, policy=QUICK).plan(ClipRequest(prompt="x"))
    assert "write http://" in caught.value.hint


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_certificates_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with serving(WebUI()) as server, pytest.raises(TierUnavailable, match=r"ca\.pem") as caught:
        WebUITier(server.url.replace("http:", "https:")).plan(ClipRequest(prompt="x"))
    assert "SSL_CERT_FILE" in caught.value.hint
