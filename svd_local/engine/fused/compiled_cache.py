"""Where compiled code is kept between processes: a folder for each torch and GPU.

What is kept there is run. So it lies in the user's own cache folder, which only the user can write to,
and not beside checkpoints or clips, which are handed around.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Torch's own; where it is set, it is kept to."""


def keep_compiled(device: str) -> Path | None:
    """Have torch keep what it compiles for ``device``; call it before anything is compiled.

    Returns:
        The folder; None where it cannot be made: torch then takes one that may not outlive a restart.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    given = os.environ.get(_VARIABLE)
    # Torch itself sets the variable to its default, as soon as anybody asks it for its folder.
    if given and given != default_cache_dir():
        return Path(given)
    folder = _caches() / "svd_local" / "compiled" / _name(device)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError:
        return None
    os.environ[_VARIABLE] = str(folder)
    return folder


def _caches() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else Path.home() / ".cache"


def _name(device: str) -> str:
    """Torch's version and the GPU's name, as far as a file name takes them."""
    import torch

    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"torch-{torch.__version__}-{where}").strip("-")
