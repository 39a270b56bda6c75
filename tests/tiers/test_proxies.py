"""The machine's proxy is used as every program uses it, and named where it is the trouble."""

from __future__ import annotations

import pytest
from servers.scripted import serving
from servers.webui import WebUI

from svd_local.errors import TierUnavailable
from svd_local.request import ClipRequest
from svd_local.tiers.policy import Policy
from svd_local.tiers.webui import WebUITier

QUICK = Policy(deadline_s=5.0, tries=1)


@pytest.fixture(autouse=True)
def _no_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def plan(url: str = "http://web-ui.example:7860") -> None:
    WebUITier(url, "user:secret", policy=QUICK).plan(ClipRequest(prompt="x"))


@pytest.mark.parametrize("prefix", ["http://", ""])
def test_it_is_asked_for_other_machines(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    with serving(WebUI()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", prefix))
        plan()
        assert proxy.seen[0].headers["host"] == "web-ui.example:7860"


def test_not_for_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(WebUI()) as server, serving(WebUI()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        plan(server.url)
        assert proxy.seen == []


@pytest.mark.parametrize("proxy", ["foo://host", "socks5://127.0.0.1:1", "http://[::1"])
def test_one_that_means_nothing(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(TierUnavailable, match="the proxy") as caught:
        plan()
    assert "HTTPS_PROXY" in caught.value.hint


def test_one_that_is_not_there_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://me:canary@127.0.0.1:1")
    with pytest.raises(TierUnavailable, match=r"through the proxy http://\*\*\*@127") as caught:
        plan()
    assert "canary" not in str(caught.value)
