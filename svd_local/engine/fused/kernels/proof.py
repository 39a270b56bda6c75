"""Each kernel against its twin: the same function of the engine, with the kernel and without it.

Both are compared with the twin in double precision on the same random numbers of half precision: the
kernel may be no further from that than the twin is. `proven` does so in small before a clip relies on a
kernel, and drops one that does not compile on this machine, or computes something else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from svd_local.engine.fused import norms, ops
from svd_local.engine.fused.kernels.choice import NONE, Config, Kernel, Kernels, using
from svd_local.engine.fused.weights import Affine, Norm

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ALLOWED_RATIO = 1.05
_ANY_WIDTHS = (320, 1280)
"""Tried for a kernel that is to run at all widths."""
_SUSPECT_RATIO = 2.0
"""A small trial's errors are few numbers and scatter; what is wrong is wrong by far more."""
_EPS = 1e-5
_GROUPS = 32
_HEAD_SIZE = 64


@dataclass(frozen=True)
class Trial:
    """A kernel's work at one width and size.

    Attributes:
        kernel: its name.
        width: that it is chosen by.
        shapes: of the inputs, which are standard normal, but for matrices.
        work: the engine's function for it; may change its first input.
        elements: what must be read and written, each input and result once (a norm reads twice).
        flops: of its matrix products.
    """

    kernel: Kernel
    width: int
    shapes: tuple[tuple[int, ...], ...]
    work: Callable[..., Tensor]
    elements: int
    flops: int = 0

    def drawn(self, device: torch.device | str, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
        """Inputs, the same for a seed; a weight's rows have about the length 1."""
        import torch

        generator = torch.Generator(device).manual_seed(seed)
        made = []
        for shape in self.shapes:
            numbers = torch.randn(shape, generator=generator, device=device)
            made.append((numbers / shape[-1] ** 0.5 if len(shape) == 2 else numbers).to(dtype))
        return made

    def by(self, kernels: Kernels, inputs: list[Tensor]) -> list[Tensor]:
        """The result, and the first input as it was left; the inputs themselves stay."""
        given = [tensor.clone() for tensor in inputs]
        with using(kernels):
            result = self.work(*given)
        return [result, given[0]]

    def own(self, config: Config | None = None) -> Kernels:
        """The choice of just this kernel, with one configuration or its default."""
        if config is None:
            return Kernels(every=frozenset({self.kernel}))
        return Kernels(won={(self.kernel, self.width): config})

    def errors(self, kernels: Kernels, inputs: list[Tensor]) -> tuple[float, float]:
        """Relative L2 distances from double precision: of the kernel, and of the twin."""
        truth = self.by(NONE, [tensor.double() for tensor in inputs])
        return _distance(self.by(kernels, inputs), truth), _distance(self.by(NONE, inputs), truth)


def _distance(found: list[Tensor], truth: list[Tensor]) -> float:
    """The worst of them; infinite where anything is not finite."""
    import torch

    far = [
        float((one.double() - other).norm() / other.norm())
        for one, other in zip(found, truth, strict=True)
    ]
    return max(value if torch.isfinite(torch.tensor(value)) else float("inf") for value in far)


def group_norm(items: int, rows: int, width: int, biases: int = 0) -> Trial:
    """Norm and SiLU of (items, rows, width), with as many biases that are still to be added."""

    def work(x: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None = None) -> Tensor:
        return norms.group_norm_silu(x, Norm(weight, bias, _EPS, _groups(width)), added)

    more = ((biases, width),) if biases else ()
    shapes = ((items, rows, width), (width,), (width,), *more)
    return Trial("group-norm", width, shapes, work, 3 * items * rows * width)


def _groups(width: int) -> int:
    return _GROUPS if width % _GROUPS == 0 else 4


def pieces(items: int, rows: int, width: int) -> Trial:
    """The same from moments of two pieces that are merged."""

    def work(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        import torch

        norm = Norm(weight, bias, _EPS, _groups(width))
        parts = torch.split(x, [rows // 3, rows - rows // 3], dim=1)
        first, second = (norms.piece_moments(part, norm.groups) for part in parts)
        scaling = norms.scaling_of(first.merged(second), norm, norms.widened(weight).dtype)
        return torch.cat([norms.apply_silu(part, scaling) for part in parts], dim=1)

    shapes = ((items, rows, width), (width,), (width,))
    return Trial("group-norm", width, shapes, work, 3 * items * rows * width)


def geglu(kernel: Kernel, rows: int, width: int) -> Trial:
    """GEGLU of (1, rows, width), its product in it, by one kernel or the other."""

    def work(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ops.geglu(x, Affine(weight, bias))

    shapes = ((1, rows, width), (8 * width, width), (8 * width,))
    elements = rows * 5 * width + 8 * width * width
    return Trial(kernel, width, shapes, work, elements, 16 * rows * width**2)


def attention(items: int, frames: int, positions: int, width: int, size: int = _HEAD_SIZE) -> Trial:
    """Attention among frames of (items, frames, positions, 3 * width)."""

    def work(qkv: Tensor) -> Tensor:
        return ops.attend_over_frames(qkv, width // size)

    shapes = ((items, frames, positions, 3 * width),)
    tokens = items * frames * positions
    flops = 4 * tokens * frames * width
    return Trial("temporal-attention", width, shapes, work, 4 * tokens * width, flops)


def residual(items: int, rows: int, width: int, biases: int = 1) -> Trial:
    """A projection of (items, 1, rows, width), added to as much, and the norm of the sum."""

    def work(
        x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        return ops.add_projected_and_norm_(
            x, y, Affine(weight, None), bias, Norm(scale, shift, _EPS)
        )

    map_ = (items, 1, rows, width)
    shapes = (map_, map_, (width, width), (biases, width), (width,), (width,))
    tokens = items * rows
    elements = 4 * tokens * width + width**2
    return Trial("add-layer-norm", width, shapes, work, elements, 2 * tokens * width**2)


def small(kernel: Kernel, width: int) -> Trial:
    """A trial of next to no work."""
    if kernel == "group-norm":
        return group_norm(2, 96, width, biases=2)
    if kernel == "temporal-attention":
        return attention(2, 25, 32, width, _HEAD_SIZE if width % _HEAD_SIZE == 0 else width)
    if kernel == "add-layer-norm":
        return residual(2, 48, width, biases=2)
    return geglu(kernel, 144, width)


def proven(
    kernels: Kernels, device: torch.device | str, dtype: torch.dtype
) -> tuple[Kernels, tuple[str, ...]]:
    """``kernels`` without those that do not work here, and a sentence for each of those.

    The first time in a process every kernel is compiled, or read from Triton's cache on disk.
    """
    if kernels.widths() and find_spec("triton") is None:
        for kernel in kernels.widths():
            kernels = kernels.without(kernel)
        return kernels, ("Triton is not installed, so plain torch does what its kernels would",)
    notes = []
    for kernel, widths in kernels.widths().items():
        for width in widths or _ANY_WIDTHS:
            config = kernels.config(kernel, width)
            cuts = None if config is None else tuple(sorted(config.items()))
            why = _why_not(kernel, width, cuts, str(device), dtype)
            if why is not None:
                kernels = kernels.without(kernel)
                notes.append(f"the {kernel} kernel is not used, plain torch is: {why}")
                break
    return kernels, tuple(notes)


@functools.cache
def _why_not(
    kernel: Kernel,
    width: int,
    cuts: tuple[tuple[str, int], ...] | None,
    device: str,
    dtype: torch.dtype,
) -> str | None:
    import torch

    trial = small(kernel, width)
    chosen = trial.own(None if cuts is None else dict(cuts))
    with torch.inference_mode():
        try:
            ours, twins = trial.errors(chosen, trial.drawn(device, dtype))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a compiler and its driver can raise
            first = str(error).strip().partition("\n")[0]
            return f"{type(error).__name__}: {first}" if first else type(error).__name__
    if ours > _SUSPECT_RATIO * twins:
        return f"at width {width} it is {ours:.1e} from the truth, torch {twins:.1e}"
    return None
