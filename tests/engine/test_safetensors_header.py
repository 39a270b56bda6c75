import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from svd_local.engine.safetensors_header import BrokenHeader, read_header

Make = Callable[..., bytes]


def test_it_reads_what_the_library_writes(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"b": torch.ones(2, 3), "a": torch.ones(4, dtype=torch.int8)}, tmp_path / "x")

    header = read_header(tmp_path / "x")

    assert {tensor.name: tensor.shape for tensor in header.tensors} == {"a": (4,), "b": (2, 3)}
    assert header.elements == 10
    assert header.tensors[-1].end == (tmp_path / "x").stat().st_size


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda raw: raw[:-1], "truncated"),
        (lambda raw: raw + b"x", "too long"),
        (lambda raw: raw[:20], "truncated within its header"),
        (lambda raw: raw[:5], "no safetensors"),
        (lambda raw: b"", "0 bytes"),
        (lambda raw: b"\x80\x04\x95" + raw, "no safetensors"),
        (lambda raw: raw.replace(b'"F16"', b'"F32"'), "unreadable header"),
        (lambda raw: raw.replace(b"[0, 4]", b"[1, 5]"), "inconsistent"),
        (lambda raw: raw.replace(b"{", b"[", 1), "unreadable header"),
    ],
)
def test_damage_is_named(
    tmp_path: Path, make_safetensors: Make, damage: Callable[[bytes], bytes], what: str
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(damage(make_safetensors({"a": [2], "b": [3]})))

    with pytest.raises(BrokenHeader, match=what):
        read_header(path)


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + json.dumps({}).encode())

    with pytest.raises(BrokenHeader):
        read_header(path)
