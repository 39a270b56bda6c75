"""Letters that can be read, wherever they lie, and a logo that is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from svd_local.errors import ImageRejected
from svd_local.keyframe import fonts, lettering
from svd_local.keyframe.lettering import Typesetter
from svd_local.keyframe.overlay import render_overlay
from svd_local.keyframe.types import Overlays

HD = (1280, 720)


def layer(overlays: Overlays, size: tuple[int, int] = HD) -> Image.Image:
    image, warnings = render_overlay(overlays, size)
    assert image is not None
    assert warnings == ()
    assert (image.mode, image.size) == ("RGBA", size)
    return image


def letters(image: Image.Image) -> np.ndarray:
    """Where the layer is white and opaque."""
    values = np.asarray(image)
    return (values[..., :3].min(2) > 200) & (values[..., 3] > 200)


def luminance(colour: np.ndarray) -> float:
    """Relative luminance as the accessibility guidelines define it."""
    share = colour[..., :3] / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float((linear @ np.array([0.2126, 0.7152, 0.0722])).max())


def test_nothing_to_draw_is_no_layer() -> None:
    assert render_overlay(Overlays(), HD) == (None, ())


@pytest.mark.parametrize("size", [(256, 144), (1024, 576), (1920, 1080), (576, 1024)])
def test_letters_reach_4_5_to_1_even_on_white(size: tuple[int, int]) -> None:
    image = layer(Overlays("Lesson 3: Ünïcödé", "Handling price objections"), size)
    found = letters(image)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    shown = Image.alpha_composite(Image.new("RGBA", size, "white"), image)
    block = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    # What holds no part of a letter, nor of its smooth edge.
    behind = np.asarray(shown, float)[block][np.asarray(image)[block][..., :3].max(2) == 0]
    assert len(behind) > 100
    assert 1.05 / (luminance(behind) + 0.05) >= 4.5


@pytest.mark.parametrize("size", [(256, 144), (1920, 1080), (576, 1024)])
def test_margins_stay_free_and_the_upper_half_untouched(size: tuple[int, int]) -> None:
    image = layer(Overlays("A title of an ordinary length", "And a caption"), size)
    found = letters(image)
    margin = round(min(size) * 0.05)
    assert not found[:, :margin].any()
    assert not found[:, -margin:].any()
    assert not found[-margin:].any()
    assert np.asarray(image)[: size[1] // 2, :, 3].max() < 60


def test_letters_are_crisp_at_output_size() -> None:
    """Twice the size is drawn anew: edges stay one pixel wide."""
    for size in ((640, 360), (1280, 720)):
        found = np.asarray(layer(Overlays("HHH"), size).convert("L"), int)
        row = found[letters(layer(Overlays("HHH"), size)).sum(1).argmax()]
        soft = ((row > 60) & (row < 240)).sum()
        assert soft <= 6 * 2 * 2


def test_a_long_title_is_wrapped_and_shrunk_before_it_is_cut() -> None:
    typesetter = Typesetter(bold=True)
    short = typesetter.fit("Short", 600, largest=60, smallest=20, lines=2)
    long = typesetter.fit(
        "Handling price objections in long negotiations with several partners",
        600,
        largest=60,
        smallest=20,
        lines=2,
    )
    assert (short.size, len(short.lines)) == (60, 1)
    assert 20 <= long.size < 60
    assert len(long.lines) == 2
    assert not long.shortened
    widths = [typesetter.measure(line, long.size) for line in long.lines]
    assert max(widths) <= 600
    assert min(widths) > 0.6 * max(widths)  # of about the same length


def test_what_does_not_fit_is_cut_with_an_ellipsis_and_a_warning() -> None:
    image, warnings = render_overlay(Overlays("word " * 40), (256, 144))
    assert image is not None
    assert len(warnings) == 1
    assert warnings[0].startswith("title: too long for the picture, cut after 'word")
    assert warnings[0].endswith("…'")


def test_a_word_wider_than_the_picture_is_broken() -> None:
    typesetter = Typesetter(bold=True)
    word = "Donaudampfschifffahrtsgesellschaftskapitän"
    block = typesetter.fit(word, 200, largest=40, smallest=20, lines=3)
    assert "".join(block.lines) == word
    assert len(block.lines) > 1
    assert all(typesetter.measure(line, block.size) <= 200 for line in block.lines)


def test_a_word_is_shrunk_rather_than_broken() -> None:
    block = Typesetter(bold=True).fit("Verhandlungen", 200, largest=60, smallest=20, lines=3)
    assert block.lines == ("Verhandlungen",)
    assert block.size < 60


def test_marks_are_not_torn_from_their_letters() -> None:
    block = Typesetter(bold=False).fit("x\u0323" * 60, 100, largest=20, smallest=20, lines=30)
    assert len(block.lines) > 1
    assert all(not line.startswith("\u0323") for line in block.lines)


def test_newlines_are_kept() -> None:
    block = Typesetter(bold=False).fit("one\ntwo\r\nthree", 800, largest=30, smallest=20, lines=3)
    assert block.lines == ("one", "two", "three")


def test_ideographs_break_anywhere_but_before_closing_marks() -> None:
    pieces = lettering._pieces("处理价格异议。Excel 教程")
    assert pieces == ["处", "理", "价", "格", "异", "议。", "Excel ", "教", "程"]
    assert lettering._pieces("（价）格") == ["（价）", "格"]
    assert lettering._pieces("follow-up call") == ["follow-", "up ", "call"]


@pytest.mark.parametrize(
    "text", ["Ünïcödé – œuvre", "Łukasz Žižek", "Урок третий", "Ελληνικά μάθημα"]
)
def test_accents_cyrillic_and_greek_come_from_the_packaged_font(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "system_fonts", lambda: ())
    fonts._system_font.cache_clear()
    assert letters(layer(Overlays(text))).any()


@pytest.fixture
def no_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "system_fonts", lambda: ())
    fonts._system_font.cache_clear()


@pytest.mark.usefixtures("no_system_fonts")
def test_letters_no_font_has_are_named() -> None:
    image, warnings = render_overlay(Overlays("Lesson 课"), HD)
    assert warnings == ("title: no font on this machine has 课 (U+8BFE)",)
    assert image is not None
    assert letters(image).any()


@pytest.mark.usefixtures("no_system_fonts")
def test_an_emoji_no_font_has_is_left_out_and_named() -> None:
    with_it, warnings = render_overlay(Overlays("Well done 🎉"), HD)
    without, _ = render_overlay(Overlays("Well done "), HD)
    assert warnings == ("title: no font on this machine has 🎉 (U+1F389)",)
    assert with_it is not None
    assert without is not None
    assert with_it.tobytes() == without.tobytes()


@pytest.mark.usefixtures("no_system_fonts")
def test_nothing_but_an_emoji_is_no_layer_but_a_warning() -> None:
    image, warnings = render_overlay(Overlays("🎉"), HD)
    assert image is None
    assert len(warnings) == 1


def test_other_scripts_come_from_a_system_font(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A font made for this test has the one letter that Noto Sans lacks."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for point in ((100, 700), (900, 700), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "lesson"])
    builder.setupCharacterMap({ord("课"): "lesson"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "lesson": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "lesson": (1000, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test CJK", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    folder = tmp_path / "fonts" / "deep"
    folder.mkdir(parents=True)
    builder.save(folder / "TestCJK.ttf")
    (folder / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    fonts.system_fonts.cache_clear()
    fonts._system_font.cache_clear()
    try:
        found = letters(layer(Overlays("课")))
    finally:
        fonts.system_fonts.cache_clear()
        fonts._system_font.cache_clear()
    # The drawn square, filled.
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert found[rows[0] : rows[-1], columns[0] : columns[-1]].mean() > 0.9


def test_right_to_left_lines_are_ordered_and_set_flush_right() -> None:
    runs = [
        (run.text, run.leftward)
        for run in lettering._reordered(Typesetter(bold=False)._runs("שלום Excel עולם"))
    ]
    assert "".join(text for text, _ in runs if text.isascii() and text.strip()) == "Excel"
    texts = [text for text, _ in runs]
    assert texts.index("Excel") > next(i for i, text in enumerate(texts) if "עולם" in text)
    assert texts.index("Excel") < next(i for i, text in enumerate(texts) if "שלום" in text)
    image, _ = render_overlay(Overlays("שלום"), HD)
    assert image is not None
    columns = np.flatnonzero(letters(image).any(0))
    assert columns[0] > HD[0] / 2


def test_digits_within_a_leftward_line_keep_their_order() -> None:
    runs = lettering._reordered(Typesetter(bold=False)._runs("שיעור 2024 א"))
    assert "2024" in [run.text for run in runs]


@pytest.mark.parametrize("text", ["مرحبا", "שלום", "नमस्ते"])
def test_without_raqm_scripts_that_need_it_are_warned_of(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = features.check
    monkeypatch.setattr(features, "check", lambda name: name != "raqm" and real(name))
    warnings = render_overlay(Overlays(caption=text), HD)[1]
    assert any(warning.startswith("caption:") and "Raqm" in warning for warning in warnings)
    assert render_overlay(Overlays(caption="plain"), HD)[1] == ()


def logo(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


def test_a_logo_stands_at_the_upper_right_in_its_proportions(tmp_path: Path) -> None:
    path = logo(tmp_path / "logo.png", Image.new("RGB", (400, 200), (200, 10, 30)))
    values = np.asarray(layer(Overlays(logo=path)))
    inside = (values[..., 0] > 150) & (values[..., 3] == 255)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    assert width / height == pytest.approx(2, rel=0.02)
    assert width <= 0.2 * HD[0] + 1
    assert height <= 0.15 * HD[1] + 1
    assert columns[0] > HD[0] * 0.7
    assert rows[-1] < HD[1] * 0.3
    assert columns[-1] < HD[0] * 0.975


def test_a_small_logo_is_not_blown_up(tmp_path: Path) -> None:
    path = logo(tmp_path / "logo.png", Image.new("RGB", (20, 20), "red"))
    values = np.asarray(layer(Overlays(logo=path), (1920, 1080)))
    assert (values[..., 3] > 0).sum() <= 40 * 40


@pytest.mark.parametrize(("ink", "dark_plate"), [("#ffffff", True), ("#101010", False)])
def test_a_transparent_logo_gets_a_plate_it_is_seen_on(
    tmp_path: Path, ink: str, dark_plate: bool
) -> None:
    image = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    image.paste(ink, (30, 30, 70, 70))
    path = logo(tmp_path / "logo.png", image)
    values = np.asarray(layer(Overlays(logo=path)), int)
    plate = values[(values[..., 3] > 150) & (values[..., 3] < 250)][:, :3]
    assert len(plate) > 500
    assert bool(plate.mean() < 60) is dark_plate


def test_a_bad_logo_is_the_logos_fault(tmp_path: Path) -> None:
    path = tmp_path / "logo.svg"
    path.write_text("<svg/>")
    with pytest.raises(ImageRejected, match=r"logo: 'logo\.svg'") as caught:
        render_overlay(Overlays(title="A", logo=path), HD)
    assert caught.value.field == "logo"
