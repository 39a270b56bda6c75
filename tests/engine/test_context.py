"""A broken CUDA context told from an error that passes; torch's calls are made to answer as CUDA's would."""

from __future__ import annotations

import pytest
import torch

from svd_local.engine.context import why_lost


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def accelerator_error(message: str, code: int) -> Exception:
    error = torch.AcceleratorError(message)
    error.error_code = code
    return error


@pytest.fixture
def cuda(monkeypatch):
    """A GPU that computes, as far as the probe can see."""
    ones = torch.ones
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch, "ones", lambda size, device: ones(size))
    return monkeypatch


def test_a_context_that_computes_is_not_lost(cuda):
    assert why_lost() is None


@pytest.mark.parametrize(
    "error",
    [
        accelerator_error("CUDA error: device-side assert triggered\nCUDA kernel errors ...", 710),
        accelerator_error("CUDA error: an illegal memory access was encountered", 700),
        accelerator_error("CUDA error: uncorrectable ECC error encountered", 214),
        RuntimeError("CUDA error: unspecified launch failure"),
    ],
)
def test_an_error_that_stays_is_a_lost_context(cuda, error):
    cuda.setattr(torch.cuda, "synchronize", failing(error))

    assert why_lost() == str(error).partition("\n")[0]


def test_an_error_of_the_computation_alone_counts_too(cuda):
    cuda.setattr(torch, "ones", failing(RuntimeError("CUDA error: misaligned address")))

    assert why_lost() == "CUDA error: misaligned address"


def test_a_gpu_that_computes_rubbish_is_lost(cuda):
    zeros = torch.zeros
    cuda.setattr(torch, "ones", lambda size, device: zeros(size))

    assert why_lost() == "1 + 1 is not 2 on the GPU"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("no room"), accelerator_error("CUDA error: out of memory", 2)]
)
def test_a_full_gpu_is_not_a_lost_one(cuda, error):
    cuda.setattr(torch, "ones", failing(error))

    assert why_lost() is None


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_a_torch_without_cuda_says_so():
    assert "CUDA" in why_lost()
