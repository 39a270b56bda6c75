"""What a service sends is kept as it is where it plays everywhere, and encoded anew where it does not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers.hub import FILES, HUB, MODEL, ROUTER, Hub
from servers.scripted import serving

from svd_local.generator import VideoGenerator
from svd_local.media import ffmpeg
from svd_local.media.probe import decode_frames, probe, read_comment
from svd_local.result import Clip
from svd_local.settings import Settings
from svd_local.tiers.huggingface import HuggingFaceTier

Make = Callable[..., Clip]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temp_files: Path) -> Make:
    import huggingface_hub.inference._providers as providers

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(providers.fal_ai, "_POLLING_INTERVAL", 0.01)

    def clip_of(video: bytes, **fields: Any) -> Clip:
        with serving(Hub(video)) as server:
            route = dict.fromkeys((ROUTER, HUB, FILES), server.url)
            tier = HuggingFaceTier("hf_x", True, MODEL, route=route)
            settings = Settings.load(media_dir=tmp_path / "media")
            with VideoGenerator(settings, tiers=[tier]) as generator:
                return generator.generate(prompt="a pump", tier="huggingface", **fields)

    return clip_of


def converted(video: bytes, folder: Path, *arguments: str) -> bytes:
    source, target = folder / "source.mp4", folder / "converted.mp4"
    source.write_bytes(video)
    command = [ffmpeg.executable(), "-v", "error", "-i", source, *arguments, target]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return target.read_bytes()


def same_pictures(path: Path, video: bytes, folder: Path) -> bool:
    sent = folder / "sent.mp4"
    sent.write_bytes(video)
    return all(
        np.array_equal(ours, theirs)
        for ours, theirs in zip(decode_frames(path), decode_frames(sent), strict=True)
    )


def test_it_is_kept_picture_for_picture(make: Make, service_video: bytes, tmp_path: Path) -> None:
    clip = make(service_video, seed=1)
    assert (clip.width, clip.height, clip.frames, clip.fps) == (128, 72, 9, 16.0)
    assert same_pictures(clip.path, service_video, tmp_path)
    comment = json.loads(read_comment(clip.path))
    assert (comment["fingerprint"], comment["output_size"]) == (
        clip.fingerprint,
        "the service's own",
    )
    assert clip.files.poster is not None
    assert clip.quality is not None
    again = make(service_video, seed=1)
    assert (again.cached, again.id) == (True, clip.id)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"title": "Pumps"}, (128, 72)),
        ({"size": (256, 144)}, (256, 144)),
        ({"resolution": "720p"}, (1280, 720)),
    ],
    ids=["title", "size", "resolution"],
)
def test_what_is_asked_of_the_file_is_done(
    make: Make, service_video: bytes, tmp_path: Path, fields: dict[str, Any], size: tuple[int, int]
) -> None:
    clip = make(service_video, **fields)
    assert (clip.width, clip.height) == size
    assert size != (128, 72) or not same_pictures(clip.path, service_video, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c:v", "libx265", "-x265-params", "log-level=none"),
        ("-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
        ("-c:v", "libx264", "-pix_fmt", "yuv444p", "-vf", "scale=127:71"),
        ("-vf", "setpts='if(lt(N,5),N,N*3)/16/TB'", "-fps_mode", "vfr"),
    ],
    ids=["hevc", "ten bits", "odd sides", "uneven"],
)
def test_what_does_not_play_everywhere_is_made_to(
    make: Make, service_video: bytes, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    clip = make(converted(service_video, tmp_path, *arguments))
    info = probe(clip.path)
    assert (info.codec, info.pixel_format, info.constant_rate) == ("h264", "yuv420p", True)
    assert (info.frames, info.width % 2, info.height % 2) == (9, 0, 0)


@pytest.mark.parametrize("fps", [12, 16, 24, 30])
def test_a_container_whose_times_are_not_exact_costs_no_clip(
    make: Make, service_video: bytes, tmp_path: Path, fps: int
) -> None:
    """Matroska's times are milliseconds: a copy would have frames of 62 and of 63."""
    source, target = tmp_path / "sent.mp4", tmp_path / "sent.mkv"
    source.write_bytes(service_video)
    command = [ffmpeg.executable(), "-v", "error", "-r", str(fps), "-i", source, target]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    clip = make(target.read_bytes())
    info = probe(clip.path)
    assert (info.codec, info.frames, info.constant_rate) == ("h264", 9, True)
    assert (clip.fps, info.fps) == (fps, pytest.approx(fps))
    made = f"fal-ai made 9 frames of 128x72 at {fps} a second with org/motion"
    assert [said for said in clip.warnings if "second" in said] == [made]


@pytest.mark.parametrize(
    ("arguments", "warning", "frames", "fps"),
    [
        (("-f", "lavfi", "-i", "sine=d=1", "-c:v", "copy"), "with sound, which is left out", 9, 16),
        (
            ("-vf", "setpts='if(lt(N,5),N,N*3)/16/TB'", "-fps_mode", "vfr"),
            "were not evenly apart",
            9,
            None,
        ),
        (
            ("-vf", "setpts=N/240/TB,fps=240"),
            "240 frames a second, which few programs play: 2 of its 9 are kept, 60 a second",
            2,
            60,
        ),
        (
            ("-pix_fmt", "yuv444p", "-vf", "scale=127:71"),
            "9 frames of 127x71 at 16 a second with org/motion; they are scaled to 126x70: few",
            9,
            16,
        ),
    ],
    ids=["sound", "uneven", "too fast", "odd sides"],
)
def test_what_is_left_out_or_bent_is_told(
    make: Make,
    service_video: bytes,
    tmp_path: Path,
    arguments: tuple[str, ...],
    warning: str,
    frames: int,
    fps: float | None,
) -> None:
    clip = make(converted(service_video, tmp_path, *arguments))
    assert [warning in said for said in clip.warnings].count(True) == 1, clip.warnings
    assert (clip.frames, clip.fps) == (frames, fps or clip.fps)
