"""Work and memory counted without doing the work: full-size networks on a GPU that is not there.

torch's fake tensors have a shape, a type and a device but no memory. On fake ``cuda`` tensors every
operation is the one that a GPU would run, so multiplications can be counted and the bytes of living
tensors followed, on any machine. What happens inside an operation (cuDNN's workspaces) is not seen.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from svd_local.engine.streams import within

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def fake_cuda() -> Iterator[None]:
    """Within it tensors are fake and may claim to lie on ``cuda``, also where torch has no CUDA."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), _without_device_guards(), torch.inference_mode():
        yield


def fake_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Give a model that was built on ``meta`` fake weights on ``cuda``; call it within `fake_cuda`."""
    import torch

    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=dtype, device="cuda")
                module._parameters[name] = torch.nn.Parameter(fake, requires_grad=False)


def count_flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions in ``work``."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def peak_bytes(work: Callable[[], object], device: str = "cuda") -> int:
    """Most bytes of tensors living at once on ``device`` that ``work`` made, its result included.

    Tensors that were there before do not count.
    """
    mode, peak = _live_bytes(device)
    with mode:
        work()
    return peak()


def counted(work: Generator[T, None, R], device: str) -> Generator[T, None, tuple[R, int]]:
    """``work`` that hands things out on its way, and as `peak_bytes` the most that lived at once.

    What the receiver of those things makes meanwhile is not counted.
    """
    mode, peak = _live_bytes(device)
    value = yield from within(lambda: mode, work)
    return value, peak()


def _live_bytes(device: str) -> tuple[TorchDispatchMode, Callable[[], int]]:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Follows every storage by a weak reference, from the operation that made it to its end.

        torch keeps a storage's Python object for as long as its memory lives, whoever holds it.
        """

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.peak = 0
            self._held = 0
            self._known: dict[int, weakref.ref[Any]] = {}

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            for tensor in _tensors((args, tuple((kwargs or {}).values()))):
                self._meet(tensor, made_here=False)
            result = func(*args, **(kwargs or {}))
            for tensor in _tensors(result):
                self._meet(tensor, made_here=tensor.device.type == device)
            self.peak = max(self.peak, self._held)
            return result

        def _meet(self, tensor: torch.Tensor, *, made_here: bool) -> None:
            storage = tensor.untyped_storage()
            place = storage._cdata
            if place in self._known:
                return
            size = storage.nbytes() if made_here else 0

            def ended(_: Any) -> None:
                del self._known[place]
                self._held -= size

            self._known[place] = weakref.ref(storage, ended)
            self._held += size

    def _tensors(tree: Any) -> Iterator[torch.Tensor]:
        # An operation's arguments nest no deeper than lists; torch's own walk takes twice the time.
        if isinstance(tree, torch.Tensor):
            yield tree
        elif isinstance(tree, (tuple, list)):
            for item in tree:
                yield from _tensors(item)

    mode = LiveBytes()
    return mode, lambda: mode.peak


def _without_device_guards() -> TorchFunctionMode:
    """Reroute the few tensor methods that first switch to the tensor's device, which is not there.

    Attention is sent to the flash kernel, as on a GPU; torch would otherwise look at the machine and
    fall back to the kernel that writes out every score.
    """
    import torch
    from torch.nn.functional import interpolate, scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    def contiguous(x: torch.Tensor, **options: Any) -> torch.Tensor:
        layout = options.get("memory_format", torch.contiguous_format)
        if x.is_contiguous(memory_format=layout):
            return x
        return torch.clone(x, memory_format=layout)

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: Any) -> Any:
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]

    def enlarge(x: torch.Tensor, size: Any = None, scale_factor: Any = None, **_: Any) -> Any:
        size = size or [round(side * scale_factor) for side in x.shape[2:]]
        return torch.empty(*x.shape[:2], *size, dtype=x.dtype, device=x.device)

    def copy(x: torch.Tensor, source: torch.Tensor, **_: Any) -> torch.Tensor:
        result: torch.Tensor = torch.ops.aten.copy_(x, source)
        return result

    def set_item(x: torch.Tensor, index: Any, value: Any) -> None:
        torch.ops.aten.copy_(_indexed(x, index), value)

    instead: dict[Any, Callable[..., Any]] = {
        torch.Tensor.__getitem__: _indexed,
        torch.Tensor.__setitem__: set_item,
        torch.Tensor.contiguous: contiguous,
        torch.Tensor.copy_: copy,
        interpolate: enlarge,
        scaled_dot_product_attention: attention,
    }

    class WithoutDeviceGuards(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return instead.get(func, func)(*args, **(kwargs or {}))

    return WithoutDeviceGuards()


def _indexed(x: torch.Tensor, index: Any) -> torch.Tensor:
    """``x[index]`` for numbers, slices, None and an ellipsis, by plain operations."""
    import torch

    index = index if isinstance(index, tuple) else (index,)
    dim = 0
    for entry in index:
        if entry is Ellipsis:
            dim += len(x.shape) - dim - sum(e is not None for e in index[index.index(...) + 1 :])
        elif entry is None:
            x = torch.unsqueeze(x, dim)
            dim += 1
        elif isinstance(entry, int):
            x = torch.select(x, dim, entry)
        else:
            start, stop, step = entry.indices(x.shape[dim])
            x = torch.ops.aten.slice.Tensor(x, dim, start, stop, step)
            dim += 1
    return x
