"""The page in a real browser: it plays, filters and prints, and asks the network for nothing."""

from __future__ import annotations

import base64

import pytest
from servers import chromium

from svd_local.batch.summary import BatchSummary, WorkerFigures

pytestmark = pytest.mark.long


@pytest.fixture
def browser(tmp_path):
    program = chromium.executable()
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with chromium.running(program, tmp_path / "profile") as browser:
        yield browser


@pytest.fixture
def page(bench):
    """A report of three videos, a failure and a cancelled job, with texts that would do harm."""
    batch = bench(
        {"title": "Price objections"},
        {"title": "<img src=x onerror=alert(1)><script>document.title='x'</script>"},
        {"title": "Closing", "prompt": "handshake"},
        {"title": "Fails"},
        {"title": "Cancelled"},
        folders=(None, "part #1 100%"),
    )
    for _ in range(3):
        batch.done()
    batch.fail(message="<b onmouseover=alert(1)>12 GiB are needed")
    batch.catalog.jobs.cancel(batch.batch.id)
    why = "ended because row 3 showed no sign of life for 31 min (denoise, 4 of 25)" * 2
    gpu = WorkerFigures(0, "NVIDIA H100 80GB HBM3", "GPU-1", 3, 90.0, 0.9, 0.97, 3, (why,) * 3, why)
    batch.ran(BatchSummary(batch.batch, 3, 0, 0, 3, 90.0, 120.0, 0.1, (), False, (gpu,)))
    return batch.report(sheets=True).html


SHOWN = "document.querySelectorAll('.item:not([hidden])').length"


def test_nothing_is_refused_and_nothing_comes_from_elsewhere(browser, page):
    browser.open(page)
    browser.ask("document.querySelectorAll('img').forEach(one => one.scrollIntoView())")
    browser.wait("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert browser.told("Log.entryAdded") == []
    assert browser.told("Runtime.exceptionThrown") == []
    urls = [one["request"]["url"] for one in browser.told("Network.requestWillBeSent")]
    folder = page.parent.as_uri()
    assert urls
    assert all(url.startswith(folder) for url in urls)
    assert not any(url.endswith(".mp4") for url in urls), "no video before it is asked for"
    assert browser.ask("document.title") == "Lessons: report"


def test_a_video_plays_while_it_is_pointed_at(browser, page):
    browser.open(page)
    box = "document.querySelectorAll('.frame')[1].getBoundingClientRect()"
    browser.ask("document.querySelectorAll('.frame')[1].scrollIntoView({block: 'center'})")
    x, y = (browser.ask(f"{box}.{side} + 20") for side in ("x", "y"))
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    video = "document.querySelectorAll('video')[1]"
    browser.wait(f"{video}.currentTime > 0")
    assert browser.ask(f"[{video}.paused, {video}.muted]") == [False, True]
    assert browser.ask("[...document.querySelectorAll('video')].filter(v => !v.paused).length") == 1
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    browser.wait(f"{video}.paused && {video}.currentTime === 0")


def test_a_video_plays_while_the_keyboard_is_on_it(browser, page):
    browser.open(page)
    frame, video = "document.querySelector('.frame')", "document.querySelector('video')"
    browser.ask(f"{frame}.focus({{focusVisible: true}})")
    browser.wait(f"{video}.currentTime > 0")
    browser.ask("document.querySelector('.filter input').focus()")
    browser.wait(f"{video}.paused")
    browser.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
    )
    browser.ask(f"{frame}.focus({{focusVisible: true}})")
    assert browser.ask(f"{video}.paused"), "nothing moves where that is not wanted"


def test_jobs_are_found_by_state_and_words(browser, page):
    browser.open(page)

    def narrowed(tag: str = "", words: str = "") -> int:
        browser.ask(
            f"(() => {{ const form = document.querySelector('.filter'); form.tag.value = '{tag}';"
            f"form.words.value = '{words}'; form.dispatchEvent(new Event('input')); }})()"
        )
        return browser.ask(SHOWN)

    assert narrowed() == 5
    assert narrowed("video") == 3
    assert browser.ask("document.querySelector('#problems').hidden") is True
    assert narrowed("failed") == narrowed("problem") == 1
    assert narrowed("cancelled") == 1
    assert browser.ask("document.querySelector('#unmade details').open") is True
    assert narrowed(words="PRICE obj") == 1
    assert narrowed(words="12 gib") == 1
    assert narrowed("video", "nothing like it") == 0
    assert browser.ask("document.querySelector('.filter output').textContent") == "0 of 5"
    assert narrowed() == 5
    assert browser.ask("document.querySelector('#problems').hidden") is False


def test_a_script_that_got_in_is_not_run(browser, page):
    source = page.read_text()
    page.write_text(source.replace("</footer>", "</footer><script>document.title='x'</script>"))
    browser.open(page)
    assert browser.ask("document.title") == "Lessons: report"
    refused = [one["entry"]["text"] for one in browser.told("Log.entryAdded")]
    assert any("Content Security Policy" in text for text in refused)


def test_without_scripts_all_is_there(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    assert browser.ask(SHOWN) == 5
    assert browser.ask("getComputedStyle(document.querySelector('.filter')).display") == "none"
    assert browser.ask("document.querySelector('.frame').href").endswith(".mp4")


@pytest.mark.parametrize("width", [320, 390, 1400])
def test_nothing_sticks_out(browser, page, width):
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=800,
        deviceScaleFactor=1,
        mobile=width < 600,
    )
    browser.open(page)
    assert browser.ask("document.documentElement.scrollWidth") <= width


def test_it_prints(browser, page):
    browser.open(page)
    pdf = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
