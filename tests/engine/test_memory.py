import dataclasses
import itertools
import re
from typing import Any

import pytest
from helpers.samplings import FULL_SIZE as CLIP
from hypothesis import given
from hypothesis import strategies as st

from svd_local.engine.architecture import full_size
from svd_local.engine.memory import GPU_OVERHEAD, Rung, Sizes, ladder, predict
from svd_local.engine.placement import PLACEMENTS
from svd_local.engine.sizes import of_architecture
from svd_local.engine.values import Sampling
from svd_local.errors import InvalidRequest, OutOfMemory

GIB = 2**30
REAL = of_architecture(full_size(25))


def rungs(sizes: Sizes = REAL, sampling: Sampling = CLIP, **options: Any) -> tuple[Rung, ...]:
    given: dict[str, Any] = {
        "itemsize": 2,
        "on_gpu": True,
        "free": None,
        "total": None,
        "budget": None,
        "allow_approximate": False,
    }
    return ladder(sizes, sampling, **{**given, **options})


def test_the_estimates_agree_with_what_was_counted_at_full_size() -> None:
    unguided = dataclasses.replace(CLIP, guidance=(1.0, 1.0), decode_chunk=1)
    guided = dataclasses.replace(CLIP, decode_chunk=1)

    both = predict("group-offload", REAL, guided, itemsize=2)
    one = predict("group-offload", REAL, unguided, itemsize=2)
    decode = predict("group-offload", REAL, CLIP, itemsize=2)

    assert both / GIB == pytest.approx(7.73, rel=0.05)
    assert one / GIB == pytest.approx(3.87, rel=0.05)
    assert decode / GIB == pytest.approx(28.1, rel=0.05)


def test_without_limits_everything_is_resident() -> None:
    assert [rung.placement for rung in rungs()] == list(PLACEMENTS)


@pytest.mark.parametrize(
    ("free", "first"),
    [(80, "resident"), (31, "model-offload"), (29.25, "group-offload"), (2, "group-offload")],
)
def test_the_first_rung_is_the_fastest_that_fits(free: float, first: str) -> None:
    ladder = rungs(free=int(free * GIB))

    assert ladder[0].placement == first
    assert all(a.peak_bytes > b.peak_bytes for a, b in itertools.pairwise(ladder))


def test_pixels_change_only_with_leave() -> None:
    exact = rungs(free=12 * GIB)
    approximate = rungs(free=12 * GIB, total=12 * GIB, allow_approximate=True)

    assert {rung.decode_chunk for rung in exact} == {25}
    assert approximate[0] == Rung("model-offload", 8, approximate[0].peak_bytes)
    assert approximate[0].peak_bytes + GPU_OVERHEAD <= 12 * GIB


def test_a_clip_that_fits_exactly_is_never_approximate() -> None:
    assert rungs(free=40 * GIB, allow_approximate=True)[0].decode_chunk == 25


@given(
    extra=st.integers(0, 40 * GIB),
    frames=st.integers(2, 25),
    width=st.integers(8, 160).map(lambda n: 8 * n),
    approximate=st.booleans(),
)
def test_the_least_a_refusal_names_would_do(
    extra: int, frames: int, width: int, approximate: bool
) -> None:
    sampling = dataclasses.replace(CLIP, frames=frames, width=width, decode_chunk=frames)
    options = {"sampling": sampling, "allow_approximate": approximate}

    with pytest.raises(InvalidRequest) as refused:
        rungs(budget=1, **options)
    named = re.search(r"at least (\d+)MiB", refused.value.hint)
    assert named is not None
    least = int(named[1]) * 2**20

    assert refused.value.field == "vram_budget"
    assert rungs(budget=least + extra, **options)[0].peak_bytes + GPU_OVERHEAD <= least + extra
    with pytest.raises(InvalidRequest):
        rungs(budget=least - 2**20, **options)


def test_a_gpu_that_is_too_small_as_a_whole_is_refused_before_work() -> None:
    with pytest.raises(OutOfMemory, match="25 frames at 1024x576 needs about") as refused:
        rungs(free=7 * GIB, total=8 * GIB)

    assert "--allow-approximate" in refused.value.hint
    assert refused.value.falls_through


def test_a_gpu_that_others_use_is_tried_all_the_same() -> None:
    assert [rung.placement for rung in rungs(free=GIB, total=80 * GIB)] == ["group-offload"]
