"""The hub's own cache on this machine, found as huggingface_hub finds it but without importing it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """``HF_HUB_CACHE``, else ``hub`` under ``HF_HOME``, else the user's cache folder."""
    direct = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if direct:
        return Path(direct).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def snapshot_of(repo: str) -> tuple[Path, str] | None:
    """The cached snapshot of ``repo`` and its commit: of ``main`` where known, else the newest.

    Only a snapshot with a ``model_index.json`` counts; whether its weights are whole is for
    ``verify`` to say.
    """
    root = cache_dir() / f"models--{repo.replace('/', '--')}"
    snapshots = [path for path in root.glob("snapshots/*") if (path / "model_index.json").is_file()]
    if not snapshots:
        return None
    main = root / "refs" / "main"
    commit = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    newest = max(snapshots, key=lambda path: path.stat().st_mtime)
    chosen = next((path for path in snapshots if path.name == commit), newest)
    return chosen, chosen.name
