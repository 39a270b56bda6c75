"""Frames on their way to main memory: in order, one behind, and never read before they are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from svd_local.engine.fused.decoder_parts import to_bytes
from svd_local.engine.fused.handover import BEHIND, Slot, handed_over, slots_for
from svd_local.engine.values import UnusableFrames

CPU = torch.device("cpu")


def pictures(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 1, 4, 6, 3, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_frames_are_the_pictures_as_bytes(count: int) -> None:
    made = pictures(count)
    frames = list(handed_over(made, slots_for(CPU)))
    assert [frame.shape for frame in frames] == [(1, 4, 6, 3)] * count
    assert np.array_equal(np.concatenate(frames), torch.stack([to_bytes(p) for p in made]).numpy())


def test_the_decoder_is_given_work_before_a_frame_is_waited_for() -> None:
    """And a buffer is used again only when what it held was read."""
    happened: list[str] = []

    class Buffer:
        """What a copy on a GPU's stream is to the host: begun by ``send``, there after the wait."""

        def __init__(self) -> None:
            self.held: torch.Tensor | None = None

        def send(self, picture: torch.Tensor) -> None:
            assert self.held is None, "overwritten before it was read"
            self.held = picture
            happened.append("sent")

        def receive(self) -> tuple[Any, bool]:
            held, self.held = self.held, None
            assert held is not None
            happened.append("read")
            return to_bytes(held)[None].numpy(), True

    slots: list[Slot] = [Buffer() for _ in range(BEHIND + 1)]
    made = pictures(4)
    frames = list(handed_over(iter(made), slots))
    assert happened == ["sent", "sent", "read", "sent", "read", "sent", "read", "read"]
    assert np.array_equal(np.concatenate(frames), torch.stack([to_bytes(p) for p in made]).numpy())


def test_a_value_that_is_not_finite_ends_it_in_its_frames_place() -> None:
    made = pictures(4)
    made[2][0, 0, 1, 1, 1] = torch.inf
    frames = handed_over(made, slots_for(CPU))
    seen = [next(frames), next(frames)]
    with pytest.raises(UnusableFrames, match="decoder gave NaN"):
        next(frames)
    assert len(seen) == 2


def test_frames_are_the_receivers_own() -> None:
    made = pictures(3)
    frames = []
    for frame in handed_over(made, slots_for(CPU)):
        frames.append(frame.copy())
        frame[:] = 0
    assert np.array_equal(np.concatenate(frames), torch.stack([to_bytes(p) for p in made]).numpy())


@pytest.mark.cuda
def test_on_the_gpu_the_frames_are_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    made = [picture.repeat(1, 1, 200, 200, 1) for picture in pictures(9)]

    def late() -> Iterator[torch.Tensor]:
        for picture in made:
            there = picture.cuda()
            for _ in range(50):  # work that the copy must wait for
                there = there * 1.0
            yield there

    frames = list(handed_over(late(), slots_for(torch.device("cuda"))))
    assert np.array_equal(np.concatenate(frames), torch.stack([to_bytes(p) for p in made]).numpy())
