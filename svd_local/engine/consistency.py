"""The scheduler of distilled checkpoints: a few jumps to a clean clip, noise again between them.

A consistency model (arXiv 2303.01469) maps a noisy clip straight to the end of its path. AnimateLCM's
SVD (arXiv 2402.00769) is one for 40 noise levels of Karras' schedule from 700 down to 0.002, with the
scalings of SVD's own preconditioning at a data deviation of 1:

    input        x / sqrt(sigma^2 + 1),  told the time  ln(sigma) / 4
    clean clip   x / (sigma^2 + 1)  -  sigma / sqrt(sigma^2 + 1) * prediction
    next x       clean clip  +  next sigma * fresh noise

With n steps every (40 // n)-th level is taken, from the noisiest; after the last one no noise is added.
At sigma = 0 the clean clip is x itself, which is the boundary condition of a consistency model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from svd_local.engine.values import Sampling

LEVELS = 40
_LEAST, _MOST, _RHO = 0.002, 700.0, 7.0


@dataclass(frozen=True, slots=True)
class Step:
    """What a step returns, as diffusers' schedulers do."""

    prev_sample: Tensor


class ConsistencyScheduler:
    """Takes the place of the pipeline's scheduler, in the reference engine and the fused one alike.

    The noise between steps comes from ``generator``, which is the clip's own and on the CPU, so that it
    is the same on every device; the pipeline has drawn the picture's noise and the first latents from
    it before.
    """

    order = 1
    init_noise_sigma = math.hypot(_MOST, 1.0)

    def __init__(self) -> None:
        self.generator: torch.Generator | None = None
        self.timesteps: Tensor | None = None
        self.sigmas: tuple[float, ...] = ()
        """Of each step, and 0 at the end."""
        self._done = 0

    def set_timesteps(
        self, num_inference_steps: int, device: torch.device | str | None = None
    ) -> None:
        """Begin anew with so many steps.

        Raises:
            ValueError: there are not so many noise levels.
        """
        import torch

        if not 1 <= num_inference_steps <= LEVELS:
            raise ValueError(f"a consistency model takes 1 to {LEVELS} steps")
        stride = LEVELS // num_inference_steps
        levels = [noise_level(stride * step) for step in range(num_inference_steps)]
        self.sigmas = (*levels, 0.0)
        self.timesteps = torch.tensor([math.log(level) / 4 for level in levels], device=device)
        self._done = 0

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """``sample`` as the network takes it at the step that comes next."""
        return sample / math.hypot(self.sigmas[self._done], 1.0)

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> Step:
        """From one noise level to the next; the arithmetic is at least in single precision.

        Args:
            model_output: the network's prediction.
            timestep: not looked at, the steps are counted.
            sample: the noisy latents that the prediction was made of.

        Raises:
            ValueError: noise is due, and nobody gave a generator.
        """
        import torch

        sigma, after = self.sigmas[self._done : self._done + 2]
        self._done += 1
        wide = torch.promote_types(sample.dtype, torch.float32)
        scale = math.hypot(sigma, 1.0)
        clean = sample.to(wide) / scale**2 - (sigma / scale) * model_output.to(wide)
        if after > 0:
            if self.generator is None:
                raise ValueError("the scheduler has no generator to draw noise from")
            noise = torch.randn(clean.shape, generator=self.generator, dtype=torch.float32)
            clean += after * noise.to(clean.device, wide)
        return Step(clean.to(model_output.dtype))


def noise_level(index: int) -> float:
    """The deviation of noise at one of the levels, 0 the noisiest: evenly spaced in its 7th root."""
    top, bottom = _MOST ** (1 / _RHO), _LEAST ** (1 / _RHO)
    return float((top + index / (LEVELS - 1) * (bottom - top)) ** _RHO)


def bind(scheduler: Any, sampling: Sampling, generator: torch.Generator) -> None:
    """Have a scheduler that draws noise draw it from the clip's generator.

    Raises:
        ValueError: the clip's schedule is not the scheduler's.
    """
    distilled = isinstance(scheduler, ConsistencyScheduler)
    if distilled != (sampling.schedule == "consistency"):
        raise ValueError(f"{type(scheduler).__name__} has no schedule {sampling.schedule}")
    if distilled:
        scheduler.generator = generator
