"""Which pictures a request's keyframes are made from, and how they are told apart."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from svd_local.errors import ImageRejected
from svd_local.keyframe import make_keyframes, source_digests
from svd_local.request import ClipRequest

SIZE = (256, 144)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = []
    for tint in ("red", "lime", "blue"):
        path = tmp_path / f"{tint}.png"
        Image.new("RGB", (160, 90), tint).save(path)
        paths.append(path)
    return paths


def test_a_picture_comes_before_the_words(pictures: list[Path]) -> None:
    request = ClipRequest(prompt="Ladder safety", image=pictures[0])
    (keyframe,) = make_keyframes(request, SIZE)
    assert keyframe.origin == "picture"
    assert keyframe.digest == hashlib.sha256(pictures[0].read_bytes()).hexdigest()
    assert keyframe.image.size == SIZE
    assert keyframe.image.getpixel((128, 72)) == (255, 0, 0)


def test_all_takes_every_picture_in_order(pictures: list[Path]) -> None:
    data = pictures[2].read_bytes()
    request = ClipRequest(image=pictures[0], images=(pictures[1], data))
    keyframes = make_keyframes(request, SIZE, pictures="all")
    colours = [keyframe.image.getpixel((9, 9)) for keyframe in keyframes]
    assert colours == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert len(make_keyframes(request, SIZE)) == 1


def test_further_pictures_alone_also_beat_the_words(pictures: list[Path]) -> None:
    request = ClipRequest(prompt="Ladders", images=tuple(pictures[1:]))
    assert [k.origin for k in make_keyframes(request, SIZE, pictures="all")] == ["picture"] * 2


def test_words_alone_become_one_scene_or_three() -> None:
    request = ClipRequest(prompt="Ladder safety")
    first = make_keyframes(request, SIZE)
    every = make_keyframes(request, SIZE, pictures="all")
    assert [keyframe.origin for keyframe in every] == ["illustration"] * 3
    assert first[0].image.tobytes() == every[0].image.tobytes()
    assert len({keyframe.image.tobytes() for keyframe in every}) == 3
    assert len({keyframe.digest for keyframe in every}) == 3


def test_none_makes_none(pictures: list[Path]) -> None:
    request = ClipRequest(prompt="Ladders", image=pictures[0])
    assert make_keyframes(request, SIZE, pictures="none") == ()
    assert source_digests(request, pictures="none")["pictures"] == []


def test_text_to_image_takes_the_words_where_it_is_set_up(pictures: list[Path]) -> None:
    asked = []

    def paint(words: str, size: tuple[int, int]) -> Image.Image:
        asked.append((words, size))
        return Image.new("RGBA", (512, 512), "purple")

    request = ClipRequest(prompt="Ladder safety")
    (keyframe,) = make_keyframes(request, SIZE, pictures="all", text2image=paint)
    assert asked == [("Ladder safety", SIZE)]
    assert keyframe.origin == "text2image"
    assert (keyframe.image.mode, keyframe.image.size) == ("RGB", SIZE)
    with_picture = ClipRequest(prompt="Ladder safety", image=pictures[0])
    assert make_keyframes(with_picture, SIZE, text2image=paint)[0].origin == "picture"
    assert len(asked) == 1


def test_digests_are_those_of_the_keyframes_without_making_them(pictures: list[Path]) -> None:
    for request in (
        ClipRequest(prompt="Ladder safety"),
        ClipRequest(image=pictures[0], images=tuple(pictures[1:])),
    ):
        for mode in ("first", "all"):
            made = [k.digest for k in make_keyframes(request, SIZE, pictures=mode)]
            assert source_digests(request, pictures=mode) == {"pictures": made, "logo": None}


def test_a_changed_file_or_logo_changes_the_digests(pictures: list[Path]) -> None:
    request = ClipRequest(image=pictures[0], logo=pictures[1])
    before = source_digests(request)
    assert before["logo"] == hashlib.sha256(pictures[1].read_bytes()).hexdigest()
    Image.new("RGB", (160, 90), "pink").save(pictures[0])
    Image.new("RGB", (160, 90), "gray").save(pictures[1])
    after = source_digests(request)
    assert after["pictures"] != before["pictures"]
    assert after["logo"] != before["logo"]


def test_fit_and_background_are_the_requests(tmp_path: Path) -> None:
    path = tmp_path / "tall.png"
    Image.new("RGBA", (90, 160), (0, 0, 0, 0)).save(path)
    cropped = ClipRequest(image=path, background="#00ff00")
    padded = ClipRequest(image=path, background="#00ff00", fit="pad")
    assert make_keyframes(cropped, SIZE)[0].image.getpixel((3, 3)) == (0, 255, 0)
    assert make_keyframes(padded, SIZE)[0].image.getpixel((3, 3)) != (0, 255, 0)
    assert make_keyframes(padded, SIZE)[0].image.getpixel((128, 72)) == (0, 255, 0)


def test_an_error_names_the_field_the_picture_came_in(pictures: list[Path], tmp_path: Path) -> None:
    absent = tmp_path / "absent.png"
    cases = {
        "image": ClipRequest(image=absent),
        "images": ClipRequest(image=pictures[0], images=(absent,)),
        "logo": ClipRequest(image=pictures[0], logo=absent),
    }
    for field, request in cases.items():
        with pytest.raises(
            ImageRejected, match=rf"{field}: 'absent\.png' does not exist"
        ) as caught:
            source_digests(request, pictures="all")
        assert caught.value.field == field
    with pytest.raises(ImageRejected) as caught:
        make_keyframes(cases["images"], SIZE, pictures="all")
    assert caught.value.field == "images"


def test_importing_loads_no_imaging_library() -> None:
    code = "import sys, svd_local.keyframe; print({'PIL', 'numpy', 'fontTools', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "set()"
