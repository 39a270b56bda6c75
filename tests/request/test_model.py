"""What a request takes, refuses and keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from svd_local.errors import InvalidRequest
from svd_local.request import ClipRequest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", 0),
        ("frames", 1),
        ("frames", -3),
        ("frames", "many"),
        ("frames", 14.5),
        ("fps", 0),
        ("fps", -7),
        ("steps", 0),
        ("duration", 0),
        ("duration", float("nan")),
        ("duration", float("inf")),
        ("seed", -1),
        ("seed", 2**63),
        ("motion", -1),
        ("noise", -0.1),
        ("noise", float("nan")),
        ("guidance", "high"),
        ("guidance", "1:2:3"),
        ("guidance", "-1:3"),
        ("size", "wide"),
        ("size", "0x0"),
        ("size", "20000x20000"),
        ("tier", "gpu"),
        ("engine", "turbo"),
        ("device", "tpu"),
        ("quality", "best"),
        ("speed", "ludicrous"),
        ("resolution", "8k"),
        ("vram_budget", "banana"),
        ("vram_budget", 0),
        ("background", "white"),
        ("title", "x" * 201),
        ("prompt", "x\x00y"),
    ],
)
def test_what_means_nothing_is_refused_by_name_and_with_advice(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ClipRequest(**{"prompt": "a lesson", field: value})
    assert caught.value.field == field
    assert caught.value.hint
    assert field in caught.value.message
    assert caught.value.exit_status == 2


def test_something_to_show_is_needed() -> None:
    with pytest.raises(InvalidRequest, match="neither"):
        ClipRequest(title="Only letters")
    with pytest.raises(InvalidRequest):
        ClipRequest(prompt="   ")


@pytest.mark.parametrize("more", [(), ("b.jpg", "c.jpg")])
def test_the_first_of_several_pictures_is_the_image(more: tuple[str, ...]) -> None:
    request = ClipRequest(images=["a.jpg", *more])
    assert request == ClipRequest(image="a.jpg", images=more)
    assert ClipRequest(image="x.jpg", images=["a.jpg"]).images == (Path("a.jpg"),)


def test_an_unknown_field_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidRequest) as caught:
        ClipRequest(prompt="a lesson", framez=14)
    assert caught.value.field == "framez"
    assert "frames" in caught.value.hint


def test_words_are_understood_as_the_command_line_writes_them() -> None:
    request = ClipRequest(
        image="photo.jpg",
        frames="20",
        guidance="1.2:2.8",
        size="768x448",
        vram_budget="4GiB",
        seed="7",
    )
    assert request.image == Path("photo.jpg")
    assert (request.frames, request.seed) == (20, 7)
    assert request.guidance == (1.2, 2.8)
    assert request.size == (768, 448)
    assert request.vram_budget == 4 * 2**30


def test_it_is_frozen() -> None:
    request = ClipRequest(prompt="a lesson")
    with pytest.raises(ValidationError, match="frozen"):
        request.frames = 3  # type: ignore[misc]


def test_description_leaves_defaults_out_and_hides_picture_bytes() -> None:
    described = ClipRequest(image=b"secret picture", frames=20).describe()
    assert described["frames"] == 20
    assert described["image"].startswith("sha256:")
    assert "tier" not in described


_CHANGES: list[dict[str, Any]] = [
    {"prompt": "other"},
    {"title": "T"},
    {"caption": "C"},
    {"fit": "pad"},
    {"background": "#000000"},
    {"resolution": "1080p"},
    {"quality": "high"},
]


@pytest.mark.parametrize("change", _CHANGES)
def test_the_fingerprint_tells_apart_what_changes_pixels(change: dict[str, Any]) -> None:
    base = {"prompt": "a lesson", "image": "a.png"}
    ran = {"sources": ["d"], "parameters": {"seed": 1}}
    assert ClipRequest(**base).fingerprint(ran) != ClipRequest(**base | change).fingerprint(ran)


def test_the_fingerprint_does_not_depend_on_where_the_clip_goes() -> None:
    ran = {"sources": ["d"], "parameters": {"seed": 1}}
    one = ClipRequest(prompt="a lesson", out="here", no_cache=True)
    two = ClipRequest(prompt="a lesson", out="there", tier="local")
    assert one.fingerprint(ran) == two.fingerprint(ran)
    assert one.fingerprint(ran) != one.fingerprint({**ran, "engine": "fused"})


@given(st.text(max_size=50))
def test_any_text_as_prompt_is_taken_or_refused_clearly(text: str) -> None:
    if text.strip() and "\x00" not in text:
        assert ClipRequest(prompt=text).prompt == text.strip()
    else:
        with pytest.raises(InvalidRequest) as caught:
            ClipRequest(prompt=text)
        assert caught.value.field == "prompt"


def test_all_that_is_wrong_can_be_asked_for() -> None:
    fields = {
        "prompt": "x" * 3000,
        "frames": 1,
        "vram_budget": "banana",
        "colour": "red",
        "guidance": ("a", "b"),
        "size": "9x9",
    }
    told = ClipRequest.problems_of(fields)
    assert {error.field for error in told} == set(fields)
    assert len(told) == len(fields)
    for name, value in fields.items():
        with pytest.raises(InvalidRequest) as caught:
            ClipRequest(**{"prompt": "a", name: value})
        assert caught.value.message in {error.message for error in told}
    assert [error.field for error in ClipRequest.problems_of({})] == ["prompt"]
    assert ClipRequest.problems_of({"prompt": "a"}) == []
