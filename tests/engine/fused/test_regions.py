"""Parts of a step compiled by themselves: the same step, each shape once, and no harm where it fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import cache_dir

from svd_local.engine.fused import fp8, regions
from svd_local.engine.fused.compiled_cache import keep_compiled
from svd_local.engine.fused.counting import peak_bytes
from svd_local.engine.fused.regions import Compilation, region
from svd_local.engine.fused.unet import ClipConstants, FusedUNet
from svd_local.engine.fused.weights import map_tensors


@pytest.fixture
def stepped(unet_case: Callable[..., Any]) -> tuple[FusedUNet, ClipConstants, torch.Tensor]:
    """One level with attention: of each region all there is, in single precision."""
    case = unet_case(
        1, smallest=9, frames=3, levels=1, block_out_channels=(32,), num_attention_heads=(2,),
        down_block_types=("CrossAttnDownBlockSpatioTemporal",), layers_per_block=1,
        up_block_types=("CrossAttnUpBlockSpatioTemporal",), transformer_layers_per_block=1,
        in_channels=8,
    )  # fmt: skip
    unet = FusedUNet.from_reference(case.unet.float())
    with torch.inference_mode():
        clip = unet.prepare(
            image_latents=torch.randn(2, 4, 9, 10),
            image_embeddings=case.context[:1].float().expand(2, 1, -1),
            added_time_ids=torch.rand(1, 3),
            timesteps=torch.tensor([0.5, -0.5]),
            num_frames=3,
            guidance=torch.linspace(1, 3, 3),
        )
    return unet, clip, torch.randn(1, 3, 4, 9, 10)


def compare(stepped: Any, compilation: Compilation) -> list[tuple[float, int]]:
    """Of two steps: how far the compiled one is from the other, and the graphs till then."""
    unet, clip, latents = stepped
    compiled = FusedUNet(unet.weights, unet.conditioning, compilation=compilation)
    found = []
    with torch.inference_mode():
        for step in range(2):
            wanted = unet.step(latents, clip, step)
            far = (compiled.step(latents, clip, step) - wanted).norm() / wanted.norm()
            found.append((float(far), compilation.graphs))
    return found


def test_a_compiled_step_is_the_same_and_its_parts_are_compiled_once(stepped: Any) -> None:
    compilation = Compilation("eager")
    first, second = compare(stepped, compilation)

    assert (first[0], second[0]) == (0.0, 0.0)
    # Resblocks of 32 and of 64 channels, their temporal half, with the two epsilons there are,
    # and a transformer's three parts.
    assert first[1] == second[1] == 8
    assert compilation.failure is None
    assert compilation.seconds > 0


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_by_torchs_own_compiler_it_is_the_same_to_rounding(
    stepped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compilation = Compilation()
    found = compare(stepped, compilation)

    assert compilation.failure is None
    assert max(far for far, _ in found) < 1e-5
    assert any(tmp_path.iterdir())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("in_fp8", [False, True])
def test_on_a_gpu_it_is_the_same_to_rounding(
    stepped: Any, in_fp8: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_fp8 and torch.cuda.get_device_capability() < fp8.LEAST_CAPABILITY:
        pytest.skip("needs a GPU that multiplies in 8 bits")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(fp8, "LEAST_INPUTS", 32)

    def moved(tree: Any) -> Any:
        return map_tensors(tree, lambda w: w.cuda().half() if w.is_floating_point() else w.cuda())

    unet, clip, latents = stepped
    unet = FusedUNet(moved(unet.weights), unet.conditioning)
    compilation = Compilation()
    found = compare((unet.in_fp8() if in_fp8 else unet, moved(clip), moved(latents)), compilation)

    assert compilation.failure is None
    assert max(far for far, _ in found) < (5e-2 if in_fp8 else 5e-3)


@pytest.mark.parametrize("backend", ["none such", "raising"])
def test_what_cannot_be_compiled_runs_as_it_is(backend: str, monkeypatch: Any) -> None:
    calls: list[int] = []

    @region
    def add_(x: torch.Tensor, y: torch.Tensor) -> None:
        if backend == "raising":
            torch._dynamo.graph_break()
        x.add_(y)

    compilation = Compilation("eager" if backend == "raising" else backend)
    monkeypatch.setattr(
        compilation, "_of", lambda f: calls.append(1) or Compilation._of(compilation, f)
    )
    x = torch.zeros(3)
    with compilation.at_work():
        for _ in range(2):
            add_(x, torch.ones(3))

    assert x.tolist() == [2, 2, 2]  # each time once
    assert compilation.failure is not None
    assert len(calls) == 1  # not tried again
    told = compilation.told()
    assert told is not None
    assert told.startswith("not compiled, so slower and otherwise the same: ")


def test_outside_of_a_compilation_a_region_is_its_function() -> None:
    seen: list[bool] = []

    @region
    def note() -> None:
        seen.append(torch.compiler.is_compiling())

    note()
    assert seen == [False]
    assert regions._at_work.get() is None


def test_under_a_count_of_operations_nothing_is_compiled() -> None:
    @region
    def add_(x: torch.Tensor) -> None:
        x.add_(1)

    compilation, x = Compilation("none such"), torch.zeros(3)
    with compilation.at_work():
        assert peak_bytes(lambda: add_(x), "cpu") == 0

    assert x.tolist() == [1, 1, 1]
    assert (compilation.graphs, compilation.failure) == (0, None)


def test_what_compiling_took_is_told_once() -> None:
    compilation = Compilation()
    assert compilation.told() is None
    compilation.seconds = 12.3
    told = compilation.told()
    assert told is not None
    assert "12 s of compiling" in told
    assert compilation.told() is None


def test_compiled_code_is_kept_in_the_users_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    theirs = cache_dir()  # which sets the variable
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == theirs
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = keep_compiled("cpu")

    assert folder is not None
    assert folder.parent == tmp_path / "svd_local" / "compiled"
    assert torch.__version__.split("+")[0] in folder.name
    assert folder.stat().st_mode & 0o077 == 0
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    assert keep_compiled("cpu") == Path("/elsewhere")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert keep_compiled("cpu") is None
