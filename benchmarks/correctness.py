"""Is the fused engine as right as the reference? One guided step, a whole decode, a whole short clip.

    python -m benchmarks.correctness [--device cpu|cuda] [--checkpoint NAME] [--frames N] [--steps N] [--json FILE]

Both engines run the same weights in the same type, on fresh random inputs. In half precision each
is compared with the reference in fp32 (tf32 off) on the same weights and inputs, by relative L2:
the fused engine's error may be 1.05 times the reference's own. In fp32 the two are compared with
each other. Of a whole clip the share of pixel values within one grey level is given; in half
precision also each engine's distance from the fp32 clip, because that is what half precision itself
costs. Every step's input is drawn anew, so that nothing is right by luck.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import StableVideoDiffusionPipeline
from torch import Tensor

from benchmarks.common import Result, arguments_for, finish
from benchmarks.options import count, run
from benchmarks.setting import Setting, picture
from svd_local.engine import reference
from svd_local.engine.architecture import COMPONENTS
from svd_local.engine.fused import render as fused_render
from svd_local.engine.fused.denoise import guidance_ramp
from svd_local.engine.fused.kernels.choice import using
from svd_local.engine.fused.render import Fused
from svd_local.engine.loading import load
from svd_local.engine.placement import empty_cache, place
from svd_local.engine.streams import whole

ALLOWED_RATIO = 1.05
ALLOWED_FP32 = {"step": 5e-6, "decode": 5e-6}
ALLOWED_SHARE = 0.999
SIGMAS = (700.0, 20.0, 1.0, 0.1)
"""Noise levels at which a step is tried, from the first to nearly the last."""

Frames = np.ndarray[Any, np.dtype[np.uint8]]


def main() -> None:
    """Compare, print, and write the result. A failed comparison is a result, not an error."""
    parser = arguments_for(__doc__)
    parser.add_argument("--steps", type=count, default=4, help="of the whole clip")
    arguments = parser.parse_args()
    finish(compare(Setting.of(arguments), arguments.steps), arguments.json)


def compare(setting: Setting, steps: int) -> Result:
    """All three comparisons."""
    torch.manual_seed(0)
    with torch.inference_mode(), plain_fp32(), using(setting.kernels):
        compared = _compare(setting, steps)
    return {
        **setting.describe("correctness"),
        "steps": steps,
        **compared,
        "passed": all(part["passed"] for part in compared.values()),
    }


def _compare(setting: Setting, steps: int) -> dict[str, Result]:
    """One network after another goes up to fp32, when both engines are done with it in half."""
    pipeline = load(setting.checkpoint, setting.device, setting.precision)
    place(pipeline, "resident", setting.device)
    fused = Fused.from_pipeline(pipeline)
    half = setting.precision.itemsize == 2
    clips = Clips(setting, steps)
    by_reference = clips.frames(pipeline, None)
    by_fused = clips.frames(pipeline, fused)

    inputs = [StepInputs.drawn(setting, pipeline, sigma) for sigma in SIGMAS]
    latents = setting.random(setting.frames, 4, setting.height // 8, setting.width // 8)
    ours = [step_by_fused(fused, given) for given in inputs], fused.decoder.decode(latents)
    del fused
    theirs = [step_by_reference(pipeline, given) for given in inputs], decode(pipeline, latents)
    empty_cache()
    if not half:
        return {
            "step": _same("step", ours[0], theirs[0]),
            "decode": _same("decode", [ours[1]], [theirs[1]]),
            "clip": clip_result(by_fused, by_reference, None),
        }
    for name in COMPONENTS:
        getattr(pipeline, name).to(torch.float32)
    empty_cache()
    exact = [step_by_reference(pipeline, given.widened()) for given in inputs]
    step = _as_near(ours[0], theirs[0], exact)
    decoded = _as_near([ours[1]], [theirs[1]], [decode(pipeline, latents.float())])
    del ours, theirs, exact
    empty_cache()
    clip = clip_result(by_fused, by_reference, clips.frames(pipeline, None))
    return {"step": step, "decode": decoded, "clip": clip}


@contextmanager
def plain_fp32() -> Iterator[None]:
    """Within it products and convolutions of fp32 are what they say, not tf32."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


@dataclasses.dataclass(frozen=True)
class StepInputs:
    """What a guided step is given: batch 1 of latents, the rest for both halves of guidance."""

    latents: Tensor
    image: Tensor
    context: Tensor
    ids: Tensor
    timestep: Tensor
    guidance: Tensor

    @classmethod
    def drawn(
        cls, setting: Setting, pipeline: StableVideoDiffusionPipeline, sigma: float
    ) -> StepInputs:
        """Random inputs of the sizes and magnitudes that the pipeline has at ``sigma``."""
        height, width = setting.height // 8, setting.width // 8
        image = setting.random(1, 4, height, width)
        context = setting.random(1, 1, pipeline.unet.config.cross_attention_dim)
        ramp = guidance_ramp(1.0, 3.0, setting.frames)
        assert ramp is not None
        return cls(
            latents=setting.random(1, setting.frames, 4, height, width),
            image=torch.cat([torch.zeros_like(image), image]),
            context=torch.cat([torch.zeros_like(context), context]),
            ids=torch.tensor([[6.0, 127.0, 0.02]]).to(image),
            # The scheduler's continuous timesteps.
            timestep=torch.tensor(0.25 * np.log(sigma), dtype=torch.float32, device=image.device),
            guidance=ramp.to(image),
        )

    def widened(self) -> StepInputs:
        """The same numbers in fp32."""
        fields = {f.name: getattr(self, f.name).float() for f in dataclasses.fields(self)}
        return StepInputs(**fields)


def step_by_reference(pipeline: StableVideoDiffusionPipeline, given: StepInputs) -> Tensor:
    """As the pipeline's loop makes it: both halves through the UNet, then mixed."""
    frames = given.latents.shape[1]
    images = given.image[:, None].repeat(1, frames, 1, 1, 1)
    sample = torch.cat([torch.cat([given.latents] * 2), images], dim=2)
    (noise,) = pipeline.unet(
        sample, given.timestep, given.context, given.ids.repeat(2, 1), return_dict=False
    )
    plain, guided = noise.chunk(2)
    mixed: Tensor = plain + given.guidance[None, :, None, None, None] * (guided - plain)
    return mixed


def step_by_fused(fused: Fused, given: StepInputs) -> Tensor:
    """As the fused loop makes it."""
    clip = fused.unet.prepare(
        image_latents=given.image,
        image_embeddings=given.context,
        added_time_ids=given.ids,
        timesteps=given.timestep[None],
        num_frames=given.latents.shape[1],
        guidance=given.guidance,
    )
    return fused.unet.step(given.latents, clip, 0)


def decode(pipeline: StableVideoDiffusionPipeline, latents: Tensor) -> Tensor:
    """All frames at once, by the reference."""
    decoded: Tensor = pipeline.vae.decode(latents, num_frames=len(latents)).sample
    return decoded


@dataclasses.dataclass(frozen=True)
class Clips:
    """The same clip by whichever engine."""

    setting: Setting
    steps: int

    def frames(self, pipeline: StableVideoDiffusionPipeline, fused: Fused | None) -> Frames:
        """By the fused engine, or by the reference where ``fused`` is None."""
        image = picture(self.setting.width, self.setting.height)
        sampling = self.setting.sampling(self.steps)
        if fused is None:
            return whole(reference.render(pipeline, image, sampling)).frames
        return whole(fused_render.render(pipeline, fused, image, sampling)).frames


def distance(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Relative L2 over all of them: 0 where equal; anything not finite is infinitely far."""
    squared = scale = 0.0
    for one, other in zip(found, wanted, strict=True):
        wide = other.double()
        squared += float((one.double() - wide).square().sum())
        scale += float(wide.square().sum())
    far = (squared / scale) ** 0.5
    return far if np.isfinite(far) else float("inf")


def _as_near(ours: list[Tensor], theirs: list[Tensor], exact: list[Tensor]) -> Result:
    fused_error, reference_error = distance(ours, exact), distance(theirs, exact)
    ratio = fused_error / reference_error
    return {
        "reference_error": reference_error,
        "fused_error": fused_error,
        "ratio": round(ratio, 4),
        "allowed_ratio": ALLOWED_RATIO,
        "passed": ratio <= ALLOWED_RATIO,
    }


def _same(part: str, ours: list[Tensor], theirs: list[Tensor]) -> Result:
    far = distance(ours, theirs)
    return {"distance": far, "allowed": ALLOWED_FP32[part], "passed": far <= ALLOWED_FP32[part]}


def clip_result(fused: Frames, by_reference: Frames, exact: Frames | None) -> Result:
    """Frames (frames, height, width, 3) against frames, and both against fp32's where there are any.

    In half precision two right clips differ by what rounding does to either: the fused one passes
    when it is as near to the reference as asked, or as near to fp32 as the reference is.
    """
    result: Result = {"fused_and_reference": levels(fused, by_reference)}
    passed = result["fused_and_reference"]["share_within_1"] >= ALLOWED_SHARE
    if exact is not None:
        result["fused_and_fp32"] = levels(fused, exact)
        result["reference_and_fp32"] = levels(by_reference, exact)
        allowed = ALLOWED_RATIO * result["reference_and_fp32"]["mean"]
        passed = passed or result["fused_and_fp32"]["mean"] <= allowed
    return {**result, "allowed_share": ALLOWED_SHARE, "passed": passed}


def levels(one: Frames, other: Frames) -> Result:
    """How many grey levels the pixel values of two clips lie apart."""
    apart = np.abs(one.astype(np.int16) - other)
    return {
        "share_within_1": round(float((apart <= 1).mean()), 6),
        "mean": round(float(apart.mean()), 5),
        "most": int(apart.max()),
    }


if __name__ == "__main__":
    run(main)
