from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from svd_local.batch.asked import asked, command_of, differences
from svd_local.catalog.jobs import Batch


def batch(options: dict[str, Any] | None, manifest: str | None = "/m/lessons.csv") -> Batch:
    return Batch("b", "night", datetime.now(UTC), manifest, "/o/my clips", options=options)


def test_what_was_given_is_kept_as_plain_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = asked(
        {"steps": 10, "image": Path("a.png"), "images": ["/b.png"]},
        output_template="{title}",
        allow_outside=False,
        encoding=None,
    )
    assert kept == {
        "steps": 10,
        "image": str(tmp_path / "a.png"),
        "images": ["/b.png"],
        "output_template": "{title}",
    }


def test_what_differs_is_told_an_option_each() -> None:
    then = {"steps": 25, "allow_outside": True, "quality": "high"}
    assert differences(batch(then), {"steps": 10, "quality": "high", "fps": 8}) == [
        "allow-outside True, now not given",
        "fps not given, now 8",
        "steps 25, now 10",
    ]
    assert differences(batch(then), then) == []
    assert differences(batch(None), then) == differences(batch(then), None) == []


def test_the_command_that_goes_on() -> None:
    options = {"image": "/a b.png", "images": ["/c.png"], "allow_outside": True, "steps": 10}
    command = command_of(batch(options))
    assert command is not None
    assert shlex.split(command) == [
        *("svd-local", "batch", "/m/lessons.csv", "--out", "/o/my clips", "--name", "night"),
        *("--image", "/a b.png", "--image", "/c.png", "--allow-outside", "--steps", "10"),
    ]
    assert command_of(batch(None)) is command_of(batch({}, None)) is None
