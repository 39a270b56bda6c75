"""Nothing runs that was not measured, unless told; what does not work is said and left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from svd_local.engine.fused.kernels import choice, proof
from svd_local.engine.fused.kernels.choice import ALL, KERNELS, NONE, Kernels, choose, takes, using

WON = Kernels(won={("geglu", 320): {"rows": 4}, ("geglu", 640): {}, ("group-norm", 320): {}})


def test_a_gpu_of_which_nothing_is_known_runs_plain_torch() -> None:
    assert choose("auto", "A card of tomorrow", 2) == NONE
    assert choose("all", "A card of tomorrow", 2) == ALL
    assert choose("none", "A card of tomorrow", 2) == NONE


def test_the_cpu_and_single_precision_run_plain_torch() -> None:
    assert choose("all", None, 2) == NONE
    assert choose("all", "any", 4) == NONE


def test_another_wish_is_refused() -> None:
    with pytest.raises(ValueError, match="fastest is none of auto, all, none"):
        choose("fastest", "any", 2)  # type: ignore[arg-type]


def test_what_won_runs_where_it_won() -> None:
    known = {"X": {"kernels": {"geglu": {"320": {"config": {"rows": 4}, "times_faster": 2.0}}}}}
    found = choice.measured("X", known)
    assert found.has("geglu", 320)
    assert not found.has("geglu", 640)
    assert not found.has("group-norm", 320)
    assert found.config("geglu", 320) == {"rows": 4}
    assert choice.measured("Y", known) == NONE


def test_the_packages_table_is_one_that_can_be_read() -> None:
    for gpu, entry in choice.table().items():
        assert choice.measured(gpu, choice.table()).widths()
        assert entry["versions"]
        assert set(entry["kernels"]) <= set(KERNELS)


def test_a_choice_holds_within_its_block_and_for_half_precision() -> None:
    half, single = torch.zeros(1, dtype=torch.float16), torch.zeros(1)
    assert not takes("geglu", half, 320)
    with using(WON):
        assert takes("geglu", half, 320)
        assert not takes("geglu", half, 1280)
        assert not takes("geglu", single, 320)
        with using(NONE):
            assert not takes("geglu", half, 320)
        assert choice.active() is WON
    assert choice.active() is NONE


def test_a_choice_is_told_by_kernel_and_width() -> None:
    assert WON.to_json() == {"group-norm": [320], "geglu": [320, 640]}
    assert WON.without("geglu").to_json() == {"group-norm": [320]}
    assert ALL.to_json() == dict.fromkeys(KERNELS, "all")
    assert json.loads(json.dumps(WON.to_json())) == WON.to_json()


def test_without_triton_torch_does_it_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "find_spec", lambda _: None)
    kernels, notes = proof.proven(ALL, "cpu", torch.float16)
    assert kernels.widths() == {}
    assert notes == ("Triton is not installed, so plain torch does what its kernels would",)
    assert proof.proven(NONE, "cpu", torch.float16) == (NONE, ())


@pytest.fixture
def _triton_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "find_spec", lambda _: object())
    proof._why_not.cache_clear()


@pytest.mark.usefixtures("_triton_is_there")
def test_a_kernel_that_does_not_compile_is_left_out(
    stood_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.engine.fused.kernels import registered

    usual = registered._kernel

    def broken(module: str, *rest: Any) -> Any:
        if module == "geglu":
            raise RuntimeError("ptxas fatal: no such architecture\nand much more")
        return usual(module, *rest)

    monkeypatch.setattr(registered, "_kernel", broken)
    kernels, notes = proof.proven(WON, "cpu", torch.float16)
    assert kernels.to_json() == {"group-norm": [320]}
    assert notes == (
        "the geglu kernel is not used, plain torch is: RuntimeError: ptxas fatal: no such architecture",
    )
    assert "normalise" in stood_in


@pytest.mark.usefixtures("_triton_is_there")
def test_a_kernel_that_computes_something_else_is_left_out(
    stood_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from svd_local.engine.fused.kernels import registered

    wrong = SimpleNamespace(geglu=lambda x, _: x[:, : x.shape[1] // 2].contiguous(), DEFAULT={})
    monkeypatch.setattr(registered, "_kernel", lambda *_: (wrong, {}))
    kernels, [note] = proof.proven(Kernels(won={("geglu", 64): {}}), "cpu", torch.float16)
    assert not kernels.widths()
    assert note.startswith("the geglu kernel is not used, plain torch is: at width 64 it is")
