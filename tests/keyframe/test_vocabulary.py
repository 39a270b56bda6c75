"""The words of lessons find the icons that show them."""

from __future__ import annotations

import hashlib
import json

import pytest
from PIL import Image

from svd_local.keyframe import vocabulary
from svd_local.keyframe.vocabulary import rank, stems


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Handling price objections", {"handshake", "label"}),
        ("Using a fire extinguisher", {"fire-extinguisher"}),
        ("PHISHING: how to spot it", {"fishing-pole", "envelope-with-arrow"}),
        ("First-aid basics", {"adhesive-bandage", "ambulance"}),
        ("Forklift safety in the warehouse", {"delivery-truck", "rescue-workers-helmet"}),
        ("GDPR for new employees", {"shield", "locked"}),
        ("Onboarding: your first day", {"waving-hand-medium", "door"}),
        ("Stakeholder KPIs", {"clipboard", "bullseye"}),
        ("Ladders", {"ladder"}),
        ("Photosynthesis", {"deciduous-tree"}),
        ("Café Crème: making coffee", {"hot-beverage"}),
        ("Compliance and the code of conduct", {"balance-scale"}),
        ("Password hygiene", {"locked-with-key"}),
        ("Hand hygiene", {"soap"}),
    ],
)
def test_a_subject_is_shown_by_what_belongs_to_it(words: str, expected: set[str]) -> None:
    assert expected <= set(rank(words)[:5])


def test_unknown_words_find_nothing() -> None:
    assert rank("Хранение документов") == []
    assert rank("zzyzx 42 …") == []


def test_the_longest_phrase_decides() -> None:
    """Password hygiene is about passwords: the soap of hygiene stays away."""
    assert "soap" not in rank("Password hygiene")


def test_case_accents_plurals_and_endings_do_not_matter() -> None:
    assert stems("Négociations") == stems("negociation")
    assert stems("planning") == stems("plans")
    assert stems("batteries") == stems("Battery")
    assert stems("prices") == stems("pricing") == stems("price")
    assert rank("ladders!") == rank("LADDER")


def test_near_doubles_do_not_stand_side_by_side() -> None:
    icons = rank("geography of the world, global travel across the globe, asia, europe, america")
    assert sum(icon.startswith("globe-") for icon in icons) == 1
    people = rank("doctor nurse teacher developer chef farmer judge pilot")
    assert sum(icon.startswith(("man-", "woman-")) for icon in people) == 2


def test_every_icon_of_the_vocabulary_is_packaged_unchanged() -> None:
    known = vocabulary.load()
    index = json.loads((vocabulary.ICONS / "index.json").read_text("utf-8"))["icons"]
    files = {path.stem: path.read_bytes() for path in vocabulary.ICONS.glob("*.webp")}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} == index
    named = {icon for icons in known.subjects.values() for icon in icons}
    named |= {icon for icons in known.icon_terms.values() for icon in icons}
    assert named | known.busts | known.floating <= set(files)
    assert sum(map(len, files.values())) < 5_200_000


def test_icons_are_cut_out() -> None:
    with Image.open(vocabulary.ICONS / "handshake.webp") as icon:
        assert icon.mode == "RGBA"
        assert max(icon.size) == 384
        assert icon.getchannel("A").getextrema() == (0, 255)


def test_the_icons_licence_lies_beside_them() -> None:
    text = (vocabulary.ICONS / "LICENSE-fluent-emoji.txt").read_text("utf-8")
    assert "MIT License" in text
    assert "Copyright (c) Microsoft Corporation." in text
