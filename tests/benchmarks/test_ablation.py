"""Each saving, undone, gives the same step with more to do; and what is measured of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from benchmarks.subject import Size, Subject


@pytest.fixture(scope="module")
def small() -> Size:
    """Odd heights: one enlargement is exactly twofold, the other is not."""
    from benchmarks.subject import CPU

    shape = {
        "block_out_channels": (32, 64, 64),
        "num_attention_heads": (2, 4, 4),
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * 2
        + ("DownBlockSpatioTemporal",),
        "up_block_types": ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 2,
        "cross_attention_dim": 24,
        "layers_per_block": 2,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
    }
    return dataclasses.replace(CPU, dtype=torch.float64, frames=3, height=10, width=12, unet=shape)


@pytest.fixture(scope="module")
def subject(small: Size) -> Subject:
    from diffusers import UNetSpatioTemporalConditionModel

    from benchmarks.subject import Subject

    torch.manual_seed(2)
    unet = UNetSpatioTemporalConditionModel(**small.unet).eval().double()
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            # Blends are not half and half, and biases and norms are not what they begin as.
            if weight.dim() <= 1:
                weight.add_(torch.randn_like(weight) * (1 if "mix_factor" in name else 0.2))
    return Subject.of(unet, small)


def names() -> list[str]:
    from benchmarks.undone import SAVINGS

    return [saving.name for saving in SAVINGS]


@pytest.mark.parametrize("name", names())
def test_a_step_with_a_saving_undone_is_the_same_step(subject: Subject, name: str) -> None:
    from benchmarks.undone import SAVINGS

    [saving] = [saving for saving in SAVINGS if saving.name == name]
    with torch.inference_mode():
        whole = subject.step()
        operations = Operations()
        with saving.undo(subject), operations:
            undone = subject.step()
        usual = Operations()
        with usual:
            again = subject.step()
        reference = subject.reference_step()
    assert float((undone - whole).norm() / whole.norm()) < 1e-13
    assert float((undone - reference).norm() / reference.norm()) < 1e-12
    assert torch.equal(again, whole)  # nothing stays undone
    assert operations.called != usual.called


class Operations(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.called: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]
        key = f"{func} {shapes}"
        self.called[key] = self.called.get(key, 0) + 1
        return func(*args, **(kwargs or {}))


def test_the_work_that_is_spared_is_counted_without_a_gpu(small: Size) -> None:
    from benchmarks.ablation import work
    from benchmarks.undone import SAVINGS, cross_attention, enlargement, guidance_first

    size = dataclasses.replace(small, device="cuda", dtype=torch.float16)
    spared = work(list(SAVINGS), size)
    assert min(spared.values()) >= 0
    more = {saving.undo for saving in SAVINGS if spared[saving.name] > 0}
    assert {cross_attention, enlargement, guidance_first} <= more


def test_what_is_measured(small: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import ablation, undone

    size = dataclasses.replace(small, dtype=torch.float32)
    fewer = undone.SAVINGS[:2]
    monkeypatch.setattr(ablation, "SAVINGS", fewer)
    monkeypatch.setattr(ablation, "work", lambda savings: {s.name: 7 for s in savings})
    result = ablation.measure(size, 1, 1)
    assert result["step"]["speedup"]["n"] == 1
    assert {part["name"] for part in result["parts"]} >= {"level 0: resblock"}
    assert {one["name"] for one in result["savings"]} == {saving.name for saving in fewer}
    for one in result["savings"]:
        assert one["times_as_long"]["n"] == 1
        assert one["full_size_flop"] == 7
