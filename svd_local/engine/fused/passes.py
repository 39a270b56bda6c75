"""How much is computed at once. Every choice gives the same result to rounding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passes:
    """Frames per spatial pass and positions per temporal pass; None for all of them at once.

    Spatial operations never look across frames, temporal ones never across positions, except for
    the temporal group norm, whose statistics are gathered in a pass of their own.
    """

    frames: int | None = None
    positions: int | None = None

    def __post_init__(self) -> None:
        """Refuse empty passes.

        Raises:
            ValueError: a count below one.
        """
        for name, count in (("frames", self.frames), ("positions", self.positions)):
            if count is not None and count < 1:
                raise ValueError(f"{name} per pass must be at least 1, not {count}")

    def over_frames(self, count: int) -> list[slice]:
        """Slices of ``count`` frames, in order."""
        return _slices(count, self.frames)

    def over_positions(self, count: int) -> list[slice]:
        """Slices of ``count`` positions, in order."""
        return _slices(count, self.positions)


WHOLE = Passes()


def _slices(count: int, size: int | None) -> list[slice]:
    step = count if size is None else size
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
