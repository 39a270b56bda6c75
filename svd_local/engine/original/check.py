"""Is a single file whole? Answered from its header, without torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from svd_local.engine.original.layout import is_unused, layout_of
from svd_local.engine.original.recognise import PICKLES, NoSvd, kind_of
from svd_local.engine.safetensors_header import BrokenHeader, Header, read_header

TYPES = ("F16", "BF16", "F32")
"""How weights may be stored; anything smaller needs a scale that such a file does not explain."""
_ANY = 25
"""A frame count, which no weight's shape depends on."""


def problems_of(path: Path) -> tuple[str, ...]:
    """What is wrong with the file, one sentence each; empty where nothing is."""
    if path.suffix.lower() in PICKLES:
        return (
            f"{path.name} is a pickle, which can run code when it is loaded and is never opened; "
            "get it as safetensors",
        )
    try:
        status = path.stat()
    except OSError as error:
        return (f"{path.name} cannot be read: {error}",)
    return _problems(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _problems(path: Path, _size: int, _modified: int) -> tuple[str, ...]:
    try:
        header = read_header(path)
        kind = kind_of(header)
    except (BrokenHeader, OSError) as error:
        return (str(error),)
    except NoSvd as error:
        return (f"{path.name} {error}",)
    keys = {tensor.name for tensor in header.tensors}
    wanted = {
        weight.source: weight.source_shape
        for weights in layout_of(kind.build(_ANY), keys).values()
        for weight in weights
        if weight.form != "identity"
    }
    return tuple(f"{path.name} {problem}" for problem in _differences(header, wanted))


def _differences(header: Header, wanted: dict[str, tuple[int, ...]]) -> Iterator[str]:
    found = {tensor.name: tensor for tensor in header.tensors}
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        yield f"lacks {_some(missing)}"
    extra = sorted(key for key in found.keys() - wanted.keys() if not is_unused(key))
    if extra:
        yield f"holds what is no part of Stable Video Diffusion: {_some(extra)}"
    here = [(found[key], shape) for key, shape in wanted.items() if key in found]
    wrong = [
        f"{tensor.name}, which is {_sides(tensor.shape)} and should be {_sides(shape)}"
        for tensor, shape in here
        if tensor.shape != shape
    ]
    if wrong:
        yield f"has the wrong shapes: {_some(wrong)}"
    types = sorted({tensor.dtype for tensor, _ in here} - set(TYPES))
    if types:
        yield f"stores weights as {', '.join(types)}; {', '.join(TYPES)} can be read"


def _some(names: list[str]) -> str:
    """How many there are, and which the first is."""
    weights = "1 weight" if len(names) == 1 else f"{len(names)} weights"
    return f"{weights}, {names[0]}" + ("" if len(names) == 1 else " among them")


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
