import json
import shlex
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import typer

from svd_local.request import ClipRequest
from svd_local.result import Attempt
from svd_local.tiers.placeholder import placeholder_document

MADE_AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
BUSY = Attempt("huggingface", "busy", "tier-busy", "it is loading.", 90.0, 1.23456)
LATER = Attempt("webui", "busy", "tier-busy", "it answers 429.", 600.0)
ABSENT = Attempt("local", "unavailable", "tier-unavailable", "no GPU. Install a CUDA driver.")


def document(request, *attempts, made_at=MADE_AT):
    """As it is read back from the file."""
    return json.loads(json.dumps(placeholder_document(request, attempts, made_at)))


def test_it_says_what_was_wanted_without_the_picture_s_bytes():
    request = ClipRequest(image=b"secret pixels", title="Lesson 3", tier="huggingface")
    found = document(request, BUSY)
    assert found["kind"] == "placeholder"
    assert found["request"]["title"] == "Lesson 3"
    assert found["request"]["image"].startswith("sha256:")
    assert "secret" not in json.dumps(found)


def test_every_attempt_is_told_with_its_reason():
    found = document(ClipRequest(prompt="x"), ABSENT, BUSY)
    assert [a["tier"] for a in found["attempts"]] == ["local", "huggingface"]
    assert found["attempts"][0]["reason"] == ABSENT.reason
    assert found["attempts"][0]["retry_at"] is None
    assert found["attempts"][1]["retry_at"] == "2026-03-01T12:01:30.250Z"


def test_the_time_to_retry_is_the_earliest_any_tier_named():
    retry = document(ClipRequest(prompt="x"), LATER, ABSENT, BUSY)["retry"]
    assert (retry["after_s"], retry["tier"]) == (90.0, "huggingface")
    assert retry["at"] == "2026-03-01T12:01:30.250Z"


def test_times_are_utc_wherever_it_was_made():
    there = MADE_AT.astimezone(timezone(timedelta(hours=-7)))
    found = document(ClipRequest(prompt="x"), BUSY, made_at=there)
    assert found["made_at"] == "2026-03-01T12:00:00.250Z"
    with pytest.raises(ValueError, match="time zone"):
        placeholder_document(ClipRequest(prompt="x"), (), datetime(2026, 3, 1))


def test_without_a_named_time_none_is_made_up():
    retry = document(ClipRequest(prompt="x"), ABSENT)["retry"]
    assert (retry["after_s"], retry["at"], retry["tier"]) == (None, None, None)


def test_what_helps_begins_with_waiting_and_names_each_cause():
    request = ClipRequest(prompt="x", tier="huggingface")
    help_ = document(request, ABSENT, BUSY)["retry"]["what_helps"]
    assert help_[0].startswith("Try huggingface again in 90 s or later")
    assert help_[1] == "Make local available: no GPU. Install a CUDA driver."
    assert "image-sequence" in help_[-1]


def test_a_failure_and_a_wait_without_a_time_are_told_too():
    failed = Attempt("local", "failed", "out-of-memory", "2 GiB were too little.")
    waiting = Attempt("webui", "busy", "tier-busy", "it timed out.")
    help_ = document(ClipRequest(prompt="x"), failed, waiting)["retry"]["what_helps"]
    assert help_[0].startswith("Try webui again later")
    assert "2 GiB were too little." in help_[1]


def test_asking_for_the_placeholder_itself_points_to_the_other_tiers():
    retry = document(ClipRequest(prompt="x", tier="placeholder"))["retry"]
    assert "another tier" in retry["what_helps"][0]
    assert "--tier" not in retry["command"]


def test_the_command_asks_for_the_same_again():
    request = ClipRequest(
        prompt="-ten% off; rm 'x'",
        image=Path("a picture.jpg"),
        images=(Path("/b.png"), b"bytes"),
        guidance=(1.0, 2.5),
        size=(512, 288),
        seed=7,
        vram_budget="4GiB",
        allow_approximate=True,
        no_remote=True,
        tier="local",
    )
    words = shlex.split(document(request, BUSY)["retry"]["command"])
    asked = _parse(words)
    assert asked.pop("images")[1] == Path("<the picture, saved as a file>")
    again = ClipRequest(**asked, images=request.images)
    assert again == request.model_copy(update={"image": Path("a picture.jpg").absolute()})


def _parse(words):
    """The fields that the command line itself makes of these words."""
    from svd_local.cli.generate import generate

    assert words[:2] == ["svd-local", "generate"]
    app = typer.Typer()
    app.command()(generate)
    given = typer.main.get_command(app).make_context("generate", words[2:]).params
    image = [Path(p) for p in given.pop("image")]
    given |= {"image": image[0], "images": tuple(image[1:])}
    return {
        name: value for name, value in given.items() if name in ClipRequest.model_fields and value
    }
