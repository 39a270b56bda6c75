import logging
import warnings

import pytest

from svd_local.engine.quiet import quiet


def test_the_users_logging_and_bars_are_as_before() -> None:
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    logger = logging.getLogger("diffusers")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    diffusers_logging.disable_progress_bar()
    transformers_logging.enable_progress_bar()
    filters = list(warnings.filters)
    try:
        with quiet():
            within = (
                logger.level,
                transformers_logging.is_progress_bar_enabled(),
                are_progress_bars_disabled(),
            )
        with pytest.raises(KeyError), quiet():
            raise KeyError

        assert within == (logging.CRITICAL, False, True)
        assert logger.level == logging.DEBUG
        assert not diffusers_logging.is_progress_bar_enabled()
        assert transformers_logging.is_progress_bar_enabled()
        assert not are_progress_bars_disabled()
        assert warnings.filters == filters
    finally:
        logger.setLevel(before)
        diffusers_logging.enable_progress_bar()


def test_our_own_warnings_are_still_heard() -> None:
    with pytest.warns(UserWarning, match="ours"), quiet():
        warnings.warn("ours", stacklevel=1)
