"""What the fused engine does not know, it refuses by name.

Folding weights is only exact for parts whose arithmetic is known. Everything else (an adapter, another
attention processor, a hook, weights that are not there) raises `UnknownPart`, and the caller runs the
reference pipeline instead and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from svd_local.errors import SvdLocalError

if TYPE_CHECKING:
    from torch import Tensor, nn

M = TypeVar("M", bound="nn.Module")


class UnknownPart(SvdLocalError):
    """The model has a part whose arithmetic the fused engine does not know.

    Args:
        part: dotted name of the part inside the model, such as ``unet.mid_block.attentions.0``.
        found: what stands there.
        wanted: what would have been understood.
    """

    code = "unknown-part"

    def __init__(self, part: str, found: str, wanted: str) -> None:
        super().__init__(
            f"the fused engine does not know {part}: found {found}, knows {wanted}",
            hint="Run this model with the reference engine.",
        )
        self.part = part


def known(module: object, kind: type[M], part: str) -> M:
    """``module``, when it is exactly a ``kind`` that nobody has hooked into.

    A subclass is refused: adapters are subclasses that add to the result.

    Raises:
        UnknownPart: it is something else, or carries forward hooks.
    """
    if type(module) is not kind:
        raise UnknownPart(part, type(module).__name__, kind.__name__)
    if module._forward_hooks or module._forward_pre_hooks:
        raise UnknownPart(part, f"{kind.__name__} with forward hooks", f"a bare {kind.__name__}")
    # A hook that was taken off leaves the class's own method on the instance.
    forward = vars(module).get("forward")
    if forward is not None and getattr(forward, "__func__", None) is not kind.forward:
        raise UnknownPart(part, f"{kind.__name__} with another forward", f"a bare {kind.__name__}")
    return module


def known_value(value: Any, wanted: Any, part: str) -> None:
    """Check one option of a part.

    Raises:
        UnknownPart: it is set to anything but ``wanted``.
    """
    if value != wanted:
        raise UnknownPart(part, repr(value), repr(wanted))


def known_weight(weight: Tensor, part: str) -> Tensor:
    """``weight`` detached, when it is present and an ordinary floating-point number.

    Raises:
        UnknownPart: it is on the meta device (offloaded elsewhere), quantised, or of an 8-bit type.
    """
    import torch

    if weight.device.type == "meta":
        raise UnknownPart(part, "a weight that is offloaded", "weights on a device")
    if type(weight) not in (torch.Tensor, torch.nn.Parameter):
        from torch._subclasses.fake_tensor import FakeTensor

        if not isinstance(weight, FakeTensor):
            raise UnknownPart(part, type(weight).__name__, "a plain tensor")
    if weight.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise UnknownPart(part, str(weight.dtype), "float64, float32, bfloat16 or float16")
    return weight.detach()
