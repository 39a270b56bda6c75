"""Keeping other libraries' chatter and progress bars away from ours, for as long as we call them.

Errors are still raised; only what they would print is gone. Our own warnings are heard.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_LIBRARIES = ("diffusers", "transformers", "accelerate", "huggingface_hub")


@contextlib.contextmanager
def no_chatter() -> Iterator[None]:
    """Silence what the libraries log and warn of within the block. For running networks."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # What numpy thinks of the way diffusers' scheduler hands it tensors; it is raised in
            # numpy's name, so that the libraries' own filter below does not see it.
            warnings.filterwarnings(
                "ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning
            )
            for library in _LIBRARIES:
                warnings.filterwarnings("ignore", module=rf"{library}(\..*)?")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """``no_chatter``, and no progress bars either. For loading and saving."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    bars = [
        (module, module.is_progress_bar_enabled())
        for module in (diffusers_logging, transformers_logging)
    ]
    hub_bars = not are_progress_bars_disabled()
    for module, _ in bars:
        module.disable_progress_bar()
    disable_progress_bars()
    try:
        with no_chatter():
            yield
    finally:
        for module, enabled in bars:
            if enabled:
                module.enable_progress_bar()
        # transformers' switch turns the hub's bars with it.
        if hub_bars:
            enable_progress_bars()
        else:
            disable_progress_bars()
