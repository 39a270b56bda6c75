"""The matrix products, convolutions and attentions that a step and a decode of the fused engine consist of.

Read off the engine itself, run on fake ``cuda`` tensors: whatever it does today is what is listed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from svd_local.engine.architecture import Architecture
from svd_local.engine.fused.counting import fake_cuda, fake_parameters
from svd_local.engine.fused.decoder import FusedDecoder
from svd_local.engine.fused.kernels.choice import NONE, Kernels, using
from svd_local.engine.fused.unet import FusedUNet


@dataclass(frozen=True)
class Product:
    """(m, k) times (k, n)."""

    m: int
    n: int
    k: int
    bias: bool

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k


@dataclass(frozen=True)
class Convolution:
    """A 2-D convolution in channels-last order."""

    images: int
    channels: int
    height: int
    width: int
    out: int
    kernel: tuple[int, int]
    stride: int
    padding: tuple[int, int]
    bias: bool

    @property
    def flops(self) -> int:
        height, width = (
            (side + 2 * pad - kernel) // self.stride + 1
            for side, pad, kernel in zip(
                (self.height, self.width), self.padding, self.kernel, strict=True
            )
        )
        taps = self.kernel[0] * self.kernel[1] * self.channels
        return 2 * self.images * height * width * self.out * taps


@dataclass(frozen=True)
class Attention:
    """Attention of (batch, heads, tokens, size) to itself; ``strides`` are those of each input."""

    batch: int
    heads: int
    tokens: int
    size: int
    strides: tuple[int, int, int, int]

    @property
    def flops(self) -> int:
        return 4 * self.batch * self.heads * self.tokens**2 * self.size


@dataclass(frozen=True)
class Ours:
    """An operation of our own kernels, by its name, and the sizes of the tensors it is given."""

    name: str
    sizes: tuple[tuple[int, ...], ...]

    @property
    def flops(self) -> int:
        return 0


Operation = Product | Convolution | Attention | Ours
Shapes = dict[str, Counter[Operation]]
"""Of ``step`` and of ``decode``: each operation and how often it occurs."""


def shapes_of(
    architecture: Architecture, frames: int, width: int, height: int, kernels: Kernels = NONE
) -> Shapes:
    """What is run for a clip of ``frames`` frames of ``width`` x ``height`` pixels, with guidance.

    With ``kernels`` of our own, those are listed in place of what they stand for.
    """
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(**architecture.unet).eval()
        vae = AutoencoderKLTemporalDecoder(**architecture.vae).eval()
    rows, columns = height // 8, width // 8
    with fake_cuda(), using(kernels):
        fake_parameters(unet, torch.float16)
        fake_parameters(vae, torch.float16)
        fused = FusedUNet.from_reference(unet)
        clip = fused.prepare(
            image_latents=_fake(2, 4, rows, columns),
            image_embeddings=_fake(2, 1, unet.config["cross_attention_dim"]),
            added_time_ids=_fake(1, 3),
            timesteps=torch.empty(1, device="cuda"),
            num_frames=frames,
            guidance=_fake(frames),
        )
        latents = _fake(1, frames, 4, rows, columns)
        decoder = FusedDecoder.from_reference(vae)
        return {
            "step": recorded(lambda: fused.step(latents, clip, 0)),
            "decode": recorded(lambda: decoder.decode(latents[0])),
        }


def recorded(work: Callable[[], object]) -> Counter[Operation]:
    """Every operation in ``work`` that has a shape above, and how often."""
    recorder = _Recorder()
    with recorder:
        work()
    return recorder.found


def as_json(operation: Operation) -> dict[str, Any]:
    """The shape as results write it."""
    return {"kind": type(operation).__name__.lower(), **dataclasses.asdict(operation)}


def _fake(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float16, device="cuda")


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[Operation] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        aten = torch.ops.aten
        if func is aten.mm.default:
            self.found[_product(args[0], args[1], bias=False)] += 1
        elif func is aten.addmm.default:
            self.found[_product(args[1], args[2], bias=True)] += 1
        elif func is aten.convolution.default:
            self.found[_convolution(*args[:5])] += 1
        elif func is aten._scaled_dot_product_flash_attention.default:
            self.found[_attention(args[0])] += 1
        elif func.namespace == "svd_local":
            sizes = tuple(tuple(one.shape) for one in args if isinstance(one, Tensor))
            self.found[Ours(func._schema.name.partition("::")[2], sizes)] += 1
        elif func is not torch.ops.prim.device.default:
            # In inference mode linear and conv2d come here whole: see what they are made of.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        return func(*args, **kwargs)


def _product(x: Tensor, weight: Tensor, *, bias: bool) -> Product:
    return Product(m=x.shape[0], n=weight.shape[1], k=x.shape[1], bias=bias)


def _attention(query: Tensor) -> Attention:
    batch, heads, tokens, size = query.shape
    strides = query.stride()
    return Attention(batch, heads, tokens, size, (strides[0], strides[1], strides[2], strides[3]))


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]
) -> Convolution:
    return Convolution(
        images=x.shape[0],
        channels=x.shape[1],
        height=x.shape[2],
        width=x.shape[3],
        out=weight.shape[0],
        kernel=(weight.shape[2], weight.shape[3]),
        stride=stride[0],
        padding=(padding[0], padding[-1]),
        bias=bias is not None,
    )
