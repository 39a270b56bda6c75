"""What is measured on a GPU, the most important first; the same in small to rehearse on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PLAIN = ("reference", "fused")
"""Engines that compile nothing."""


@dataclass(frozen=True)
class Step:
    """One measurement: a module, its options, and the seconds it usually and at most takes.

    ``given`` names earlier ones whose results it goes by: each is handed over as the option of its module's name.
    """

    name: str
    module: str
    options: tuple[str, ...]
    usual_s: int
    limit_s: int
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        device: ``cuda`` or ``cpu``.
        checkpoints: for the longer and the shorter clip.
        frames: of the longer and the shorter clip.
        size: options that set a picture's size.
        options: of each kind of step beside.
        hurry: what share of the usual time a step needs.
    """

    device: str
    checkpoints: tuple[str, str]
    frames: tuple[int, int]
    size: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    hurry: float

    def common(self, which: int) -> tuple[str, ...]:
        """Device, checkpoint and size of the longer (0) or the shorter (1) clip."""
        frames = ("--frames", str(self.frames[which]))
        checkpoint = ("--checkpoint", self.checkpoints[which])
        return ("--device", self.device, *checkpoint, *frames, *self.size)


def scale_for(device: str, checkpoint: str | None) -> Scale:
    """Full size on CUDA; on the CPU all paths with next to no work."""
    if device == "cuda":
        names = (checkpoint, checkpoint) if checkpoint else ("synthetic:svd-xt", "synthetic:svd")
        return Scale(device, names, (25, 14), (), {}, 1.0)
    name = checkpoint or "tiny-svd"
    return Scale(
        device,
        (name, name),
        (3, 2),
        ("--width", "128", "--height", "64"),
        {
            "clip": ("--steps", "2", "--runs", "1"),
            "compiled": ("--compile-backend", "eager"),
            "ceilings": ("--for-s", "0.001"),
            "attention": ("--for-s", "0.001"),
            "fp8": ("--fp8-inputs", "64"),
            "correctness": ("--steps", "1"),
            "memory": ("--steps", "1", "--caps", "0.1"),
            "ablation": ("--pairs", "1", "--rounds", "0"),
            "modes": ("--steps", "2", "--runs", "1", "--fp8-inputs", "64"),
            "twins": ("--for-s", "0"),
        },
        0.1,
    )


def steps(scale: Scale) -> Iterator[Step]:
    """All of them, the most important first."""
    long, short = (f"{frames}f" for frames in scale.frames)
    measured = ("attention", f"twins_{long}")

    def clip(
        engine: str,
        which: int,
        usual_s: int,
        *more: str,
        suffix: str = "",
        given: tuple[str, ...] = measured,
    ) -> Step:
        compiled = scale.options.get("compiled", ()) if engine not in PLAIN else ()
        more += scale.options.get("fp8", ()) if any("fp8" in one for one in more) else ()
        fixed = () if "--schedule" in more else scale.options.get("clip", ())
        runs = ("--runs", "1") if "--schedule" in more and scale.device == "cpu" else ()
        name = f"clip_{engine}_{(long, short)[which]}{suffix}"
        options = (*scale.common(which), "--engine", engine, *compiled, *fixed, *runs, *more)
        own = given if "fused" in engine else ()
        return Step(name, "clip", options, usual_s, 5 * usual_s, own)

    def other(
        module: str,
        name: str,
        which: int,
        usual_s: int,
        *more: str,
        given: tuple[str, ...] = (),
    ) -> Step:
        options = (*scale.common(which), *scale.options.get(module, ()), *more)
        return Step(name, module, options, usual_s, 4 * usual_s, given)

    def memory(engine: str, caps: str, usual_s: int) -> Step:
        caps_there = ("--caps", caps) if scale.device == "cuda" else ()
        name = f"memory_{engine}_{caps.replace(',', '-')}"
        more = ("--engine", engine, *caps_there)
        given = measured if engine == "fused" else ()
        return other("memory", name, 0, usual_s, *more, given=given)

    # The card, and plain torch on it, right and timed; then the kernels that the rest goes by.
    yield other("ceilings", "ceilings", 0, 60)
    also = ("--also-frames", str(scale.frames[1]))
    yield other("attention", "attention", 0, 45, *also)
    yield other("correctness", f"correctness_{long}", 0, 60)
    yield clip("reference", 0, 75)
    yield clip("fused", 0, 60, "--kernels", "none", suffix="_plain", given=())
    yield other("twins", f"twins_{long}", 0, 150)
    yield clip("fused", 0, 60)
    yield other("kernels", f"kernels_fused_{long}", 0, 30, "--engine", "fused", given=measured)

    # Compiled, its cache on disk with it: the two belong in one call of a machine that is not kept.
    yield clip("fused-compiled", 0, 90)
    yield clip("fused-compiled", 0, 60, suffix="_warm")
    yield other("correctness", f"correctness_{long}_kernels", 0, 60, given=measured)
    yield memory("fused", "8,4", 110)
    yield clip("compiled", 0, 180)
    yield clip("fused", 1, 45)
    yield other("correctness", f"correctness_{short}", 1, 45)

    # The speeds that approximate, and what the targets ask beside.
    yield other("modes", f"modes_{long}", 0, 180, given=measured)
    yield clip("fused-compiled", 0, 75, "--speed", "fp8", suffix="_fp8")
    yield clip("fused", 0, 45, "--speed", "fp8+cached", suffix="_fp8-cached")
    yield clip("fused", 0, 45, "--schedule", "align-your-steps", suffix="_ten-steps")
    yield clip("fused-compiled", 1, 90)
    yield clip("fused", 0, 75, "--from-disk", suffix="_from-disk")
    yield clip("reference", 1, 50)
    yield clip("fused", 0, 60, "--speed", "fp8", suffix="_fp8")

    # What explains the rest.
    yield other("kernels", f"kernels_reference_{long}", 0, 30, "--engine", "reference")
    yield other("twins", f"twins_{short}", 1, 120)
    yield Step(
        f"ablation_{scale.device}",
        "ablation",
        ("--device", scale.device, *scale.options.get("ablation", ())),
        120,
        360,
    )
    yield clip("fused", 0, 60, "--kernels", "none", suffix="_attention", given=measured[:1])
    yield memory("fused", "24,16,12,6", 170)
    yield memory("reference", "24,16,12", 140)
    yield clip("fused-compiled-decoder", 0, 100)
    yield clip("fused-one-graph", 0, 150)
