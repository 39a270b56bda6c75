"""The header of a safetensors file, read without torch: what the file says it holds.

The format: eight bytes of header length (little endian), a JSON header that maps each tensor to its
type, shape and byte range, then the data. Nothing in it can run code.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_HEADER = 100 * 2**20
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip


class BrokenHeader(ValueError):
    """The file is truncated or no safetensors; the message says how."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's place in the file: ``begin`` to ``end``, absolute bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """A file's tensors in the order of their data, and the header's bytes as they stand."""

    tensors: tuple[Tensor, ...]
    raw: bytes

    @property
    def elements(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)


def read_header(path: Path) -> Header:
    """The header of ``path``, checked against the file's length.

    Raises:
        BrokenHeader: the file is no safetensors, or shorter or longer than its header says.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise BrokenHeader(f"{path.name} is {size} bytes long, which is no safetensors file")
        length = struct.unpack("<Q", prefix)[0]
        if length > min(_MAX_HEADER, size - 8):
            raise BrokenHeader(
                f"{path.name} is truncated within its header, or no safetensors file"
            )
        raw = file.read(length)
    try:
        entries = json.loads(raw)
        tensors = sorted(
            (
                _tensor(name, entry, 8 + length)
                for name, entry in entries.items()
                if name != "__metadata__"
            ),
            key=lambda tensor: tensor.begin,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenHeader(f"{path.name} has an unreadable header ({error!r})") from error
    expected = 8 + length
    for tensor in tensors:
        if tensor.begin != expected or tensor.end < tensor.begin:
            raise BrokenHeader(f"{path.name}: the place of {tensor.name} is inconsistent")
        expected = tensor.end
    if expected != size:
        state = "truncated" if size < expected else "too long"
        raise BrokenHeader(f"{path.name} is {state}: {size} bytes, its header says {expected}")
    return Header(tuple(tensors), raw)


def _tensor(name: str, entry: dict[str, Any], data: int) -> Tensor:
    begin, end = entry["data_offsets"]
    shape = tuple(int(side) for side in entry["shape"])
    tensor = Tensor(name, entry["dtype"], shape, data + begin, data + end)
    bits = _BITS.get(tensor.dtype)
    if bits is not None and (end - begin) * 8 != tensor.elements * bits:
        raise ValueError(f"{name} does not fill its range")
    return tensor
