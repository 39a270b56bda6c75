"""Being told to end: Ctrl-C, ``kill``, a closed terminal, a service manager. All are heard alike."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_OTHERS = ("SIGTERM", "SIGHUP")  # the second is POSIX's alone
_heard: list[str] = []
"""The names of those that were heard, the last one last."""


def hear_all() -> None:
    """Have every signal that tells a program to end raise ``KeyboardInterrupt``, as Ctrl-C does.

    One that whoever started us had ignored stays so: ``nohup`` means the terminal may be closed.
    """
    _heard.clear()
    for which in _numbers(_OTHERS):
        if signal.getsignal(which) is not signal.SIG_IGN:
            signal.signal(which, _raise)


def heard() -> str | None:
    """The name of the signal that told the program to end; None where it was Ctrl-C, or none.

    Whoever sent it need not be at a keyboard, and is told other things than who is.
    """
    return _heard[-1] if _heard else None


@contextmanager
def remembered() -> Iterator[Callable[[], bool]]:
    """Gives whether the program was told to end within the block, where it is raised as ever.

    The exception alone can be lost: where it comes up in a callback of the interpreter's own, as
    while a module is imported or an object deleted, Python prints it and goes on.
    """
    told = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        if number != signal.SIGINT:
            _raise(number, frame)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        usual = (signal.default_int_handler, _raise)
        for which in _numbers(("SIGINT", *_OTHERS)):
            if signal.getsignal(which) in usual:
                before[which] = signal.signal(which, remember)
    try:
        yield lambda: told
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _numbers(names: tuple[str, ...]) -> list[signal.Signals]:
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    _heard.append(signal.Signals(number).name)
    raise KeyboardInterrupt
