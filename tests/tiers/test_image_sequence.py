import hashlib
import json
import threading

import numpy as np
import PIL
import pytest
from PIL import Image

from svd_local.errors import Cancelled, TierFailed
from svd_local.keyframe.types import Keyframe
from svd_local.media.planar import to_rgb
from svd_local.request import ClipRequest
from svd_local.tiers.base import Job, Monitor
from svd_local.tiers.image_sequence import ImageSequenceTier
from svd_local.tiers.stills import render as renderer

TIER = ImageSequenceTier()


def request(**fields):
    return ClipRequest(
        **{"image": b"first", "size": (128, 72), "duration": 0.5, "tier": "image-sequence"} | fields
    )


def keyframe(name, size):
    digest = hashlib.sha256(name.encode())
    low, noise = np.array([*digest.digest()[:3]]) // 2, np.random.default_rng(len(name))
    image = Image.fromarray((low + noise.integers(0, 128, (9, 16, 1))).astype(np.uint8))
    return Keyframe(image.resize(size), digest.hexdigest(), "picture")


def make(wanted, names=("first",), monitor=None):
    plan = TIER.plan(wanted)
    if wanted.seed is None:
        plan = plan.seeded(1)
    frames = tuple(keyframe(name, plan.size) for name in names)
    return TIER.generate(Job(wanted, plan, frames, monitor or Monitor()))


def pixels(frames):
    """In RGB: (frames, height, width, 3)."""
    assert frames.pixels == "yuv420p"
    return np.stack([to_rgb(chunk[0]) for chunk in frames.chunks])


def test_it_is_there_on_every_machine():
    assert TIER.availability().available
    assert not TIER.availability(request()).leaves_machine


def test_four_seconds_at_24_fps_and_native_size_unless_asked_otherwise():
    plan = TIER.plan(ClipRequest(prompt="a lighthouse"))
    assert (plan.kind, plan.fps, plan.parameters["frames"]) == ("animated-stills", 24, 96)
    assert plan.output_size == (1024, 576)
    assert plan.pictures == "all"


def test_pictures_are_wanted_larger_than_the_file_by_more_than_the_deepest_zoom():
    plan = TIER.plan(request(resolution="1080p", size=None))
    assert plan.output_size == (1920, 1080)
    assert plan.size == (2400, 1350)
    assert plan.size[0] / plan.output_size[0] > plan.parameters["animation"]["max_zoom"]


def test_corrections_are_passed_on():
    plan = TIER.plan(request(duration=900.0, frames=25))
    assert {c.field for c in plan.corrections} == {"duration", "frames"}
    assert plan.parameters["duration_s"] == 60.0


def test_the_fingerprint_knows_what_else_changes_pixels():
    plan = TIER.plan(request())
    assert plan.fingerprint == {"renderer": renderer.RENDERER, "pillow": PIL.__version__}
    assert "fade" in plan.parameters["animation"]
    json.dumps([plan.fingerprint, plan.parameters])


def test_without_a_seed_one_is_to_be_drawn():
    assert TIER.plan(request()).parameters["seed"] is None
    assert TIER.plan(request(seed=0)).parameters["seed"] == 0


def test_pictures_that_would_only_flash_by_are_warned_of():
    many = request(images=(b"second", b"third"), duration=2.0)
    assert "3 pictures share 2 s" in TIER.plan(many).warnings[0]
    assert TIER.plan(request(images=(b"second", b"third"), duration=3.0)).warnings == ()
    assert TIER.plan(request(duration=0.5)).warnings == ()


def test_frames_are_as_many_and_as_large_as_planned_and_come_one_by_one():
    frames = make(request())
    chunks = list(frames.chunks)
    assert (frames.count, frames.width, frames.height) == (12, 128, 72)
    assert [chunk.shape for chunk in chunks] == [(1, 108, 128)] * 12
    assert {chunk.dtype for chunk in chunks} == {np.dtype(np.uint8)}


def test_the_same_request_makes_the_same_pixels_and_another_seed_others():
    assert np.array_equal(pixels(make(request())), pixels(make(request())))
    seeds = [pixels(make(request(seed=seed))).tobytes() for seed in range(8)]
    assert len(set(seeds)) == 8


def test_two_pictures_begin_with_the_first_and_end_with_the_second():
    wanted = request(images=(b"second",), duration=2.0)
    frames = pixels(make(wanted, ("a", "longer")))
    alone = [pixels(make(request(seed=1), (name,))).mean((0, 1, 2)) for name in ("a", "longer")]
    assert np.abs(frames[0].mean((0, 1)) - alone[0]).max() < 12
    assert np.abs(frames[-1].mean((0, 1)) - alone[1]).max() < 12
    assert np.abs(alone[0] - alone[1]).max() > 12


def test_the_manifest_says_what_every_frame_shows():
    wanted = request(images=(b"second",), duration=2.0, seed=5)
    manifest = json.loads(json.dumps(make(wanted, ("first", "second")).manifest))
    assert (manifest["frames"], manifest["fps"], manifest["duration_s"]) == (48, 24, 2.0)
    assert manifest["seed"] == 5
    assert manifest["pictures"][1] == {
        "digest": hashlib.sha256(b"second").hexdigest(),
        "origin": "picture",
        "width": 160,
        "height": 90,
    }
    first, second = manifest["shots"]
    assert (first["start_frame"], second["end_frame"]) == (0, 47)
    assert first["end_frame"] - second["start_frame"] == pytest.approx(second["fade_in_frames"])
    assert first["move"] != second["move"]
    assert all(0 <= edge <= 1 for shot in (first, second) for edge in shot["from"] + shot["to"])


def test_a_seed_keeps_its_move_whatever_the_duration():
    moves = [make(request(duration=seconds)).manifest["shots"][0]["move"] for seconds in (1, 3)]
    assert moves[0] == moves[1]


def test_progress_counts_the_frames():
    seen = []
    pixels(make(request(), monitor=Monitor(seen.append)))
    assert [(p.stage, p.done, p.total) for p in seen] == [("render", n, 12) for n in range(13)]


def test_a_cancelled_clip_stops_at_the_next_frame_and_leaves_no_thread():
    stop = threading.Event()
    chunks = iter(make(request(duration=5.0), monitor=Monitor(None, stop.is_set)).chunks)
    next(chunks)
    stop.set()
    with pytest.raises(Cancelled):
        next(chunks)
    assert not [t for t in threading.enumerate() if t.name.startswith("stills")]


def test_frames_are_made_while_they_are_read_never_all_held(monkeypatch):
    drawn = []
    draw = renderer.draw
    monkeypatch.setattr(renderer, "draw", lambda *args: (drawn.append(args[2]), draw(*args))[1])
    chunks = iter(make(request(duration=10.0)).chunks)
    assert drawn == []
    for _ in range(3):
        next(chunks)
    chunks.close()
    assert len(drawn) <= 3 + renderer.THREADS + 1


def test_a_job_without_a_picture_is_an_error():
    with pytest.raises(TierFailed, match="no picture"):
        make(request(), ())
