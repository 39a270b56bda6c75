"""How much is computed at once. Every choice gives the same result to rounding.

Spatial operations never look across frames, temporal ones never across positions, except for the
temporal group norm, whose statistics are gathered in a pass of their own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passes:
    """Elements of a map that one pass takes, at least one frame or one position.

    A feed-forward makes some thirteen times as many elements on its way.
    """

    elements: int

    def __post_init__(self) -> None:
        """Refuse empty passes.

        Raises:
            ValueError: fewer elements than one.
        """
        if self.elements < 1:
            raise ValueError(f"a pass takes at least 1 element, not {self.elements}")

    def slices(self, count: int, size: int) -> list[slice]:
        """``count`` frames or positions of ``size`` elements each, in order, as slices."""
        step = max(1, self.elements // size)
        return [slice(start, min(start + step, count)) for start in range(0, count, step)]


WHOLE = Passes(2**31 - 1)
"""As much at once as GPU kernels can index, which is everything but the decoder's largest maps."""
