"""The bars of a running batch: as those of ``rich``, and as a batch needs them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

ROOM = 6
"""Columns left free at the right: a terminal writes ``^C`` behind the last line, for each. In a full line
that would begin another one, and the lines above stayed where they are."""
_BESIDE = 56
"""Columns for a clip's row and stage, a short bar, steps and time."""


class BatchBars(Progress):
    """Drawn on ``console`` while it is entered, and gone afterwards."""

    def __init__(self, console: Console, *, auto_refresh: bool = True) -> None:
        self._screen = console  # asked for its width before ``Progress`` is done with its beginning
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            auto_refresh=auto_refresh,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """The lines, each at most as wide as leaves room."""
        width = max(1, self._screen.width - ROOM)
        return [Constrain(line, width) for line in super().get_renderables()]

    @property
    def words(self) -> int:
        """Columns that are left for a clip's own words beside how far it is; fewer than 0 on a narrow
        terminal.
        """
        return self._screen.width - ROOM - _BESIDE

    def begin(self, task: TaskID, description: str) -> None:
        """Show ``task``, its clock at zero; nothing else is known of it yet."""
        self.reset(task, visible=True)
        self.show(task, description, 0, 0)

    def show(self, task: TaskID, description: str, done: int, total: int) -> None:
        """Show how far ``task`` is, of how much; 0 where it has no parts."""
        for known in self.tasks:
            if known.id == task:
                known.total = total or None  # to ``update``, None says: as it was
        self.update(task, description=description, completed=done)
