"""Networks at home in host memory that visit a device while they are needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


class Guests:
    """Modules whose weights are copied to a device and thrown away there again.

    What happens to the copies does not touch the weights at home, so that going home undoes
    everything, a half-done cast included.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._homes = [
            (part, dict(part._parameters), dict(part._buffers))
            for module in modules
            for part in module.modules()
        ]

    def visit(self, device: str) -> None:
        """Run on copies on ``device``, where that is not home.

        Raises:
            torch.OutOfMemoryError: they do not fit; call `go_home`.
        """
        from torch import nn

        for part, parameters, buffers in self._homes:
            for name, parameter in parameters.items():
                if parameter is not None:
                    copy = parameter.detach().to(device, non_blocking=True)
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
