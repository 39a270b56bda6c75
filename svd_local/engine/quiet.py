"""Keeping other libraries' progress bars and chatter away from ours, for as long as we call them."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence diffusers, transformers, accelerate and huggingface_hub within the block.

    Their loggers' levels and progress bars, and Python's warning filters, are as before afterwards.
    Errors are still raised; only what they would print is gone.
    """
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    bars = [
        (module, module.is_progress_bar_enabled())
        for module in (diffusers_logging, transformers_logging)
    ]
    hub_bars = not are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    for module, _ in bars:
        module.disable_progress_bar()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # numpy's complaint about the way diffusers' scheduler makes its timesteps.
            warnings.filterwarnings(
                "ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning
            )
            for owner in _LOGGERS:
                warnings.filterwarnings("ignore", module=rf"{owner}(\..*)?")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for module, enabled in bars:
            if enabled:
                module.enable_progress_bar()
        # transformers' switch turns the hub's bars with it.
        if hub_bars:
            enable_progress_bars()
        else:
            disable_progress_bars()


_LOGGERS = ("diffusers", "transformers", "accelerate", "huggingface_hub")
