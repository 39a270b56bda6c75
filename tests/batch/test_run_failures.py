from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from helpers import batches
from helpers.night import Night, Tier
from servers.databases import on_either_server

from svd_local.batch import events
from svd_local.catalog import Catalog
from svd_local.errors import CommitUnknown
from svd_local.tiers.base import Job


@on_either_server
def test_what_fails_is_tried_again_and_then_given_up_with_its_reason(night: Night) -> None:
    night.tier = Tier("failed*3,ok")
    specs = [batches.spec(0), batches.spec(1)]
    summary = night.run(specs, lanes=1, tries=2)
    assert summary.exit_status == 1
    assert (summary.postponed, summary.made) == (2, 1)
    assert summary.batch.counts == {"failed": 1, "done": 1}
    (failed,) = summary.failures
    assert failed.reason is not None
    assert (failed.reason.code, failed.attempt) == ("tier-failed", 2)
    assert summary.to_json()["failures"][0]["reason"]["message"] == "the fake tier was told to fail"


def test_a_busy_tier_is_waited_for_as_long_as_it_says(night: Night) -> None:
    def busy(job: Job) -> None:
        from svd_local.errors import TierBusy

        if not moments:
            moments.append(time.monotonic())
            raise TierBusy("not now", retry_after_s=0.6)
        moments.append(time.monotonic())

    moments: list[float] = []
    night.tier.before = busy
    specs = [batches.spec(0)]
    summary = night.run(specs)
    assert night.faults(specs) == []  # no placeholder either
    assert (summary.made, summary.postponed) == (1, 1)
    assert moments[1] - moments[0] >= 0.6
    (postponed,) = night.of(events.JobPostponed)
    assert postponed.reason.code == "tier-busy"
    assert len(night.of(events.Waiting)) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fields": {"frames": 1}}, "frames"),
        ({"fields": {"image": "/nowhere/picture.png", "prompt": None}}, "image"),
        ({"fields": {"nonsense": 1}}, "nonsense"),
        ({"fields": {"tier": "placeholder"}}, "tier"),
        ({"folder": "../out of it"}, "folder"),
        ({"folder": "/etc"}, "folder"),
        ({"name": "a/b"}, "a/b"),
        ({"name": ".hidden"}, "hidden"),
    ],
)
def test_bad_input_is_given_up_at_once_and_the_rest_is_made(
    night: Night, change: dict[str, Any], field: str
) -> None:
    summary = night.run([batches.spec(0, **change), batches.spec(1)])
    assert summary.batch.counts == {"failed": 1, "done": 1}
    (failed,) = summary.failures
    assert failed.reason is not None
    assert (failed.row, failed.attempt) == (2, 1)
    assert field in failed.reason.message or field in failed.reason.hint
    assert len(list(night.root.rglob("*.mp4"))) == 1


def test_a_link_that_leads_out_of_the_folder_is_not_followed(night: Night) -> None:
    (night.root / "elsewhere").mkdir()
    (night.root / "out").mkdir()
    (night.root / "out" / "link").symlink_to(night.root / "elsewhere")
    summary = night.run([batches.spec(0, folder="link")])
    assert summary.batch.counts == {"failed": 1}
    assert list((night.root / "elsewhere").iterdir()) == []


def test_a_bug_is_a_reason_too(night: Night) -> None:
    def bug(job: Job) -> None:
        raise ZeroDivisionError("by nothing")

    night.tier.before = bug
    summary = night.run([batches.spec(0)], tries=2)
    (failed,) = summary.failures
    assert failed.reason is not None
    assert failed.reason.code == "bug"
    assert "ZeroDivisionError: by nothing" in failed.reason.message
    assert failed.attempt == 2


def test_who_lost_the_lease_while_publishing_takes_the_files_back(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.storage import Staging

    publish = Staging.publish

    def lose_it_first(staging: Staging, *args: Any, **options: Any) -> dict[str, Path]:
        paths = publish(staging, *args, **options)
        assert all(path.exists() for path in paths.values())
        with night.catalog() as catalog:
            catalog.jobs.cancel(catalog.jobs.batch("night").id)
        return paths

    monkeypatch.setattr(Staging, "publish", lose_it_first)
    summary = night.run([batches.spec(0)])
    assert summary.batch.counts == {"cancelled": 1}
    assert len(night.of(events.JobLost)) == 1
    assert list((night.root / "out").iterdir()) == []
    with night.catalog() as catalog:
        assert catalog.clips() == []


@pytest.mark.parametrize("committed", [True, False])
def test_a_clip_whose_commit_is_not_known_is_kept_and_not_made_again(
    night: Night, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    add = Catalog.add

    def unknown(self: Catalog, *args: Any, **options: Any) -> str:
        monkeypatch.setattr(
            Catalog, "add", add
        )  # not undone: which server it is is patched in, too
        if committed:
            add(self, *args, **options)
        raise CommitUnknown("the answer was lost")

    monkeypatch.setattr(Catalog, "add", unknown)
    specs = [batches.spec(0)]
    summary = night.run(specs)
    assert (summary.made, summary.adopted, summary.postponed) == (committed, not committed, 0)
    assert night.faults(specs) == []
    assert len(night.tier.made) == 1
    assert len(night.of(events.JobDone)) == 1
