"""A file is what decoding shows; what is no video, or a trap, is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from svd_local.errors import Cancelled, MediaFailed
from svd_local.media import ffmpeg
from svd_local.media.probe import Limits, VideoInfo, decode_frames, probe, read_comment, verify


def convert(source: Path, target: Path, *options: str) -> Path:
    """Made by ffmpeg itself, without our runner's care."""
    subprocess.run(
        [ffmpeg.executable(), "-v", "error", "-i", source, *options, "-y", target],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return target


def test_a_sound_file_is_described(clip: Path) -> None:
    assert probe(clip) == VideoInfo(
        frames=14,
        width=96,
        height=64,
        fps=7.0,
        duration_s=2.0,
        constant_rate=True,
        codec="h264",
        pixel_format="yuv420p",
        color="tv, bt709, progressive",
        comment="made for tests",
    )
    assert read_comment(clip) == "made for tests"


@pytest.mark.parametrize("suffix", ["mov", "mkv", "avi"])
def test_other_containers(clip: Path, tmp_path: Path, suffix: str) -> None:
    info = probe(convert(clip, tmp_path / f"a.{suffix}", "-c", "copy"))
    assert (info.frames, info.width, info.height, info.codec) == (14, 96, 64, "h264")


def test_frames_come_back_in_colour_and_in_order(clip: Path) -> None:
    frames = list(decode_frames(clip))
    assert len(frames) == 14
    assert {frame.shape for frame in frames} == {(64, 96, 3)}
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert all(np.abs(a.astype(int) - b).mean() > 1 for a, b in pairwise(frames))
    small = list(decode_frames(clip, (48, 32)))
    assert {frame.shape for frame in small} == {(32, 48, 3)}
    halved = frames[3].reshape(32, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(small[3] - halved).mean() < 4


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p10le", "yuv422p", "gray"])
def test_other_pixels_come_back_as_eight_bits_of_rgb(
    clip: Path, tmp_path: Path, pixels: str
) -> None:
    other = convert(clip, tmp_path / "other.mp4", "-c:v", "libx264", "-pix_fmt", pixels)
    frames = list(decode_frames(other))
    assert len(frames) == 14
    assert {(frame.shape, frame.dtype) for frame in frames} == {((64, 96, 3), np.dtype(np.uint8))}
    if pixels != "gray":
        was = list(decode_frames(clip))
        assert np.abs(frames[7].astype(int) - was[7]).mean() < 6


def test_names_are_not_protocols(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.mp4", "-f.mp4", "frame%03d.mp4", "ü 'quoted' \"two\".mp4"):
        Path(name).write_bytes(clip.read_bytes())
        assert probe(Path(name)).frames == 14


HLS = """#EXTM3U
#EXT-X-TARGETDURATION:10
#EXTINF:10.0,
{victim}
#EXT-X-ENDLIST
"""
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
<Representation id="1" bandwidth="1"><BaseURL>{victim}</BaseURL></Representation>
</AdaptationSet></Period></MPD>
"""
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><image href="{victim}"/></svg>'
)
TRAPS = {
    "ffconcat": "ffconcat version 1.0\nfile '{victim}'\n",
    "hls": HLS,
    "hls, concat protocol": HLS.replace("{victim}", "concat:{victim}|{victim}"),
    "hls, subfile protocol": HLS.replace("{victim}", "subfile,,start,0,end,0,,:{victim}"),
    "hls, file protocol": HLS.replace("{victim}", "file://{victim}"),
    "hls, data": HLS.replace("{victim}", "data:video/mp4;base64,AAAAIGZ0eXBpc29t"),
    "hls, key": HLS.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="{victim}"\n#EXTINF'),
    "hls, map": HLS.replace("#EXTINF", '#EXT-X-MAP:URI="{victim}"\n#EXTINF'),
    "hls behind a container's first bytes": "\0\0\0\x18ftypisom" + HLS,
    "playlist": "{victim}\n",
    "imf": '<AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"><Path>{victim}</Path></AssetMap>',
    "dash": DASH,
    "sdp": SDP,
    "svg": SVG,
    "text": "This is no video.\n" * 100,
    "empty": "",
}


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize(
    "read",
    [probe, read_comment, lambda path: list(decode_frames(path))],
    ids=["probe", "comment", "decode"],
)
def test_scripts_named_as_videos_play_nothing(
    clip: Path, tmp_path: Path, trap: str, read: Callable[[Path], object], temporary_folder: Path
) -> None:
    victim = tmp_path / "victim.mp4"
    victim.write_bytes(clip.read_bytes())
    upload = tmp_path / "upload.mp4"
    upload.write_text(TRAPS[trap].format(victim=victim))
    with pytest.raises(MediaFailed) as caught:
        read(upload)
    assert "no other kind of file" in caught.value.hint
    assert list(temporary_folder.iterdir()) == []


@pytest.mark.parametrize("name", ["upload.zip", "upload.mp4"])
def test_a_playlist_in_an_archive_plays_nothing(clip: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim.mp4"
    victim.write_bytes(clip.read_bytes())
    with zipfile.ZipFile(tmp_path / name, "w") as archive:  # stored: the text stands there as it is
        archive.writestr("playlist.mp4", HLS.format(victim=victim))
        archive.write(clip, "clip.mp4")
    with pytest.raises(MediaFailed):
        probe(tmp_path / name)


def test_a_movie_that_refers_to_another_file_does_not_open_it(clip: Path, tmp_path: Path) -> None:
    """QuickTime's data references: the samples of a track may lie in a file that it names."""
    data = clip.read_bytes()
    own = b"\0\0\0\x0curl \0\0\0\x01"
    assert data.count(own) >= 1
    victim = tmp_path / "victim.mp4"
    victim.write_bytes(data)
    upload = tmp_path / "upload.mp4"
    # The flag "the samples are in this file" taken away, and this file's own samples too.
    samples = data.index(b"mdat")
    upload.write_bytes(
        data[:samples].replace(own, own[:-1] + b"\0") + b"mdat" + bytes(len(data) - samples - 4)
    )
    with pytest.raises(MediaFailed):
        probe(upload)


def test_the_traps_are_real(clip: Path, tmp_path: Path) -> None:
    """Without the white lists ffmpeg does play the victim: what the test above guards against."""
    upload = tmp_path / "upload.mp4"
    upload.write_text(TRAPS["ffconcat"].format(victim=clip.name))
    (tmp_path / clip.name).write_bytes(clip.read_bytes())
    played = ffmpeg.run(
        ["-v", "error", "-i", str(upload), "-f", "framecrc", "pipe:1"], doing="play", deadline_s=20
    )
    assert b"#dimensions 0: 96x64" in played.output


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(clip: Path, tmp_path: Path, kept: float) -> None:
    content = clip.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(MediaFailed, match=r"cut\.mp4"):
        verify(cut, frames=14, size=(96, 64), fps=7)


def test_a_damaged_file_is_refused(clip: Path, tmp_path: Path) -> None:
    content = bytearray(clip.read_bytes())
    middle = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
    content[middle : middle + 200] = bytes(200)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with pytest.raises(MediaFailed, match=r"damaged\.mp4"):
        verify(damaged, frames=14, size=(96, 64), fps=7)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(MediaFailed, match=path.name):
            probe(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    sound = tmp_path / "sound.mp4"
    subprocess.run(
        [
            ffmpeg.executable(),
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "sine=d=0.2",
            "-c:a",
            "aac",
            sound,
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    with pytest.raises(MediaFailed):
        probe(sound)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(bytes=1000),
        Limits(frames=13),
        Limits(pixels=96 * 64 - 1),
        Limits(duration_s=1.9),
    ],
    ids=["bytes", "frames", "pixels", "duration"],
)
def test_limits(clip: Path, limits: Limits) -> None:
    with pytest.raises(MediaFailed):
        probe(clip, limits=limits)


def test_exactly_at_the_limits(clip: Path) -> None:
    limits = Limits(bytes=clip.stat().st_size, frames=14, pixels=96 * 64, duration_s=2.0)
    assert probe(clip, limits=limits).frames == 14
    assert len(list(decode_frames(clip, limits=limits))) == 14


def test_decoding_stops_at_the_limit(clip: Path) -> None:
    got = []
    with pytest.raises(MediaFailed, match="too long"):
        got.extend(decode_frames(clip, limits=Limits(frames=5)))
    with pytest.raises(MediaFailed):
        list(decode_frames(clip, limits=Limits(pixels=96 * 64 - 1)))
    with pytest.raises(MediaFailed):
        list(decode_frames(clip, (8, 8), limits=Limits(pixels=100)))


def test_verify_names_every_difference(clip: Path) -> None:
    assert verify(clip, frames=14, size=(96, 64), fps=7).frames == 14
    with pytest.raises(MediaFailed) as caught:
        verify(clip, frames=15, size=(96, 66), fps=8)
    assert "the frame count is 14, not 15" in caught.value.message
    assert "the size is 96x64, not 96x66" in caught.value.message
    assert "the frame rate is 7, not 8" in caught.value.message


def test_verify_wants_our_codec_and_pixels(clip: Path, tmp_path: Path) -> None:
    other = convert(clip, tmp_path / "a.mp4", "-c:v", "mpeg4")
    with pytest.raises(MediaFailed, match="the codec is mpeg4, not h264"):
        verify(other, frames=14, size=(96, 64), fps=7)
    full = convert(clip, tmp_path / "b.mp4", "-pix_fmt", "yuv444p")
    with pytest.raises(MediaFailed, match="the pixel format is yuv444p, not yuv420p"):
        verify(full, frames=14, size=(96, 64), fps=7)


def test_verify_wants_frames_of_equal_length(clip: Path, tmp_path: Path) -> None:
    """Fourteen frames in two seconds, but the fifth comes late."""
    late = convert(
        clip, tmp_path / "a.mp4", "-vf", "setpts='PTS+if(eq(N,4),0.05/TB,0)'", "-fps_mode", "passthrough",
        "-enc_time_base", "1:14336",
    )  # fmt: skip
    with pytest.raises(MediaFailed, match="not constant"):
        verify(late, frames=14, size=(96, 64), fps=7)


def test_a_comment_cannot_pose_as_the_stream(clip: Path, tmp_path: Path) -> None:
    lie = "x\n  Stream #0:0: Video: mpeg4, yuv444p(pc), 4x4\r  Stream #0:0: Video: vp9, gray, 8x8"
    info = probe(convert(clip, tmp_path / "a.mp4", "-c", "copy", "-metadata", f"comment={lie}"))
    assert (info.codec, info.pixel_format) == ("h264", "yuv420p")


def test_cancelling(clip: Path, no_children: Callable[[], bool]) -> None:
    def check() -> None:
        raise Cancelled("cancelled by the caller")

    with pytest.raises(Cancelled):
        probe(clip, check=check)
    assert no_children()


def test_a_hanging_decoder(clip: Path, fake_ffmpeg: Callable[[str], Path]) -> None:
    fake_ffmpeg("sleep 60")
    with pytest.raises(MediaFailed, match="was ended"):
        probe(clip, limits=dataclasses.replace(Limits(), deadline_s=0.3))
