"""What a session asks of an engine."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

from svd_local.engine.values import Check, Phases, Report, Sampling

if TYPE_CHECKING:
    from diffusers import StableVideoDiffusionPipeline
    from PIL.Image import Image

    from svd_local.engine.values import Pixels


class Runner(Protocol):
    """Loaded networks and the engine that runs them."""

    @property
    def engine(self) -> str:
        """Its name."""

    @property
    def pipeline(self) -> StableVideoDiffusionPipeline:
        """What was loaded, as far as the engine left it whole."""

    def prepare(self, way: Any) -> None:
        """Have the weights where one of the engine's ways wants them."""

    def render(
        self,
        way: Any,
        image: Image,
        sampling: Sampling,
        *,
        report: Report,
        check: Check,
        counts: bool = True,
    ) -> Generator[Pixels, None, tuple[Phases, int | None]]:
        """One clip (see `streams`), and the bytes it took at its peak; None where not measured.

        On a GPU the allocator knows them. On the CPU living tensors are followed where ``counts``.
        """

    def recover(self) -> None:
        """After an exception: everything as it was before `prepare`."""

    def close(self) -> None:
        """Let go of the device's memory."""
