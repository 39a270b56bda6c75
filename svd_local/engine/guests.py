"""Networks at home in host memory that visit a device while they are needed, whole or layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Guests:
    """Modules whose weights are copied to a device and thrown away there again.

    What happens to the copies does not touch the weights at home, so that going home undoes
    everything, a half-done cast included.
    """

    def __init__(self, modules: Iterable[nn.Module], but: Iterable[nn.Module] = ()) -> None:
        left_out = {part for module in but for part in module.modules()}
        self._homes = [
            (part, dict(part._parameters), dict(part._buffers))
            for module in modules
            for part in module.modules()
            if part not in left_out
        ]

    def visit(self, device: str, dtype: torch.dtype | None = None) -> None:
        """Run on copies on ``device``, where that is not home, with weights of another type if one is given.

        Raises:
            torch.OutOfMemoryError: they do not fit; call `go_home`.
        """
        from torch import nn

        for part, parameters, buffers in self._homes:
            for name, parameter in parameters.items():
                if parameter is not None:
                    copy = parameter.detach().to(device, dtype, non_blocking=True)
                    part._parameters[name] = nn.Parameter(copy, requires_grad=False)
            for name, buffer in buffers.items():
                part._buffers[name] = None if buffer is None else buffer.to(device)

    def go_home(self) -> None:
        """Run on the weights in host memory again; the copies are let go."""
        for part, parameters, buffers in self._homes:
            part._parameters.update(parameters)
            part._buffers.update(buffers)

    def tensors(self) -> list[Tensor]:
        """Every weight and buffer, at home."""
        return [
            tensor
            for _, parameters, buffers in self._homes
            for tensor in (*parameters.values(), *buffers.values())
            if tensor is not None
        ]

    def pin(self) -> None:
        """Have the homes in pinned memory, from which a GPU copies at full speed."""
        from torch import nn

        for _, parameters, _ in self._homes:
            for name, parameter in parameters.items():
                if parameter is not None and not parameter.is_pinned():
                    pinned = parameter.detach().pin_memory()
                    parameters[name] = nn.Parameter(pinned, requires_grad=False)
        self.go_home()


class LayerGuests:
    """A network of which only one layer at a time visits a device, while it runs.

    Layers are the members of its ``nn.ModuleList``s; what is beside them is small, and visits throughout.
    """

    def __init__(self, module: nn.Module) -> None:
        from torch import nn

        lists = [part for part in module.modules() if isinstance(part, nn.ModuleList)]
        layers = [layer for part in lists for layer in part]
        self._layers = [(layer, Guests((layer,))) for layer in layers]
        self._rest = Guests((module,), but=layers)
        self._hooks: list[Any] = []

    def visit(self, device: str) -> None:
        """Run on copies on ``device``: from here on a layer's come when it is called."""
        self._rest.visit(device)
        for layer, guests in self._layers:
            self._hooks += [
                layer.register_forward_pre_hook(lambda *_, coming=guests: coming.visit(device)),
                layer.register_forward_hook(
                    lambda *_, going=guests: going.go_home(), always_call=True
                ),
            ]

    def go_home(self) -> None:
        """Run on the weights in host memory again, without hooks; the copies are let go."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for _, guests in self._layers:
            guests.go_home()
        self._rest.go_home()
