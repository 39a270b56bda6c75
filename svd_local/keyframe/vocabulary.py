"""From a lesson's words to the icons that show it.

The words are known by ``icons/vocabulary.toml``: every icon has words of its own, and subjects have
words and a list of icons. Matching is done on stems, the longest known phrase first, so that "first
aid" is not found under "aid".
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ICONS = Path(__file__).parent / "icons"
NEUTRAL = "learning"
"""The subject of words that are not known."""

_LONGEST_PHRASE = 4
_PHRASE_BONUS = 0.6
_WEAK = 0.4
_RANK_DECAY = 0.9
_SUBJECT_SHARE = 0.8
_PEOPLE = ("man", "woman", "older", "baby", "people")
_MOST_PEOPLE = 2


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``terms``: stemmed phrase -> (subject or icon, its weight) pairs; ``subjects``: name -> icons,
    the aptest first; ``busts``: icons of people that end at the chest; ``floating``: icons that do
    not stand on the ground.
    """

    icon_terms: dict[tuple[str, ...], tuple[str, ...]]
    subject_terms: dict[tuple[str, ...], tuple[tuple[str, float], ...]]
    subjects: dict[str, tuple[str, ...]]
    busts: frozenset[str]
    floating: frozenset[str]


def rank(words: str) -> list[str]:
    """Icon names that show ``words``, the aptest first; empty where no word is known.

    An icon named by the words counts most, then the icons of the subjects the words point to, in
    the order of the subject's list.
    """
    vocabulary = load()
    icons: dict[str, float] = defaultdict(float)
    subjects: dict[str, float] = defaultdict(float)
    for phrase, weight in _matches(words, vocabulary):
        owners = vocabulary.icon_terms.get(phrase, ())
        for icon in owners:
            icons[icon] += weight / math.sqrt(len(owners))
        pairs = vocabulary.subject_terms.get(phrase, ())
        for subject, strength in pairs:
            subjects[subject] += weight * strength / math.sqrt(len(pairs))
    for subject, score in subjects.items():
        for place, icon in enumerate(vocabulary.subjects[subject]):
            icons[icon] += _SUBJECT_SHARE * score * _RANK_DECAY**place
    ranked = sorted(icons, key=lambda icon: (-icons[icon], icon))
    return _varied(ranked)


def neighbours(icon: str) -> list[str]:
    """What stands well beside ``icon``: the rest of the first subject that lists it."""
    for name, icons in load().subjects.items():
        if icon in icons and name != NEUTRAL:
            return [other for other in icons if other != icon]
    return []


@lru_cache(maxsize=1)
def load() -> Vocabulary:
    """The packaged vocabulary, read once."""
    raw = tomllib.loads((ICONS / "vocabulary.toml").read_text("utf-8"))
    icon_terms: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for icon, text in raw["icons"].items():
        own = [] if text.startswith("!") else [icon]
        for phrase in {stems(item) for item in [*own, *text.lstrip("!").split(",")]}:
            if phrase:
                icon_terms[phrase].append(icon)
    subject_terms: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for name, subject in raw["subjects"].items():
        for key, strength in (("weak", _WEAK), ("words", 1.0)):
            for phrase in {stems(item) for item in subject[key].split(",")}:
                if phrase:
                    subject_terms[phrase][name] = strength
    return Vocabulary(
        icon_terms={phrase: tuple(icons) for phrase, icons in icon_terms.items()},
        subject_terms={phrase: tuple(pairs.items()) for phrase, pairs in subject_terms.items()},
        subjects={name: _listed(subject["icons"]) for name, subject in raw["subjects"].items()},
        busts=frozenset(_listed(raw["figures"]["busts"])),
        floating=frozenset(_listed(raw["figures"]["floating"])),
    )


def stems(text: str) -> tuple[str, ...]:
    """The words of ``text`` without case, accents, punctuation and the commonest English endings."""
    plain = "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text.casefold())
        if not unicodedata.combining(letter)
    )
    return tuple(_stem(word) for word in re.findall(r"[^\W_]+", plain.replace("'s ", " ")))


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if len(word) - len(ending) >= 3 and word.endswith(ending):
            word = word[: -len(ending)]
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _matches(words: str, vocabulary: Vocabulary) -> Iterator[tuple[tuple[str, ...], float]]:
    """Known phrases of ``words``, longest first at each place, with their weights.

    What comes late in a long text and what is said again counts for less.
    """
    text = stems(words)
    seen: dict[tuple[str, ...], int] = defaultdict(int)
    place = 0
    while place < len(text):
        for length in range(min(_LONGEST_PHRASE, len(text) - place), 0, -1):
            phrase = text[place : place + length]
            if phrase in vocabulary.icon_terms or phrase in vocabulary.subject_terms:
                late = 1.0 if place < 12 else 0.7 if place < 40 else 0.4
                repeated = 0.3 ** seen[phrase]
                yield phrase, late * repeated * (1 + _PHRASE_BONUS * (length - 1))
                seen[phrase] += 1
                place += length
                break
        else:
            place += 1


def _varied(icons: list[str]) -> list[str]:
    """``icons`` without near-doubles: one globe, one lock, not more than two people."""
    kept: list[str] = []
    families: set[str] = set()
    people = 0
    for icon in icons:
        family = icon.partition("-")[0]
        if family in _PEOPLE:
            people += 1
            if people > _MOST_PEOPLE:
                continue
        elif family in families:
            continue
        families.add(family)
        kept.append(icon)
    return kept


def _listed(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())
