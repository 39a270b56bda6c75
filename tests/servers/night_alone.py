"""A supervised batch in a process of its own, which prints its events as lines. Run by path.

Arguments: the folder below which all is, and the prompts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from servers.databases import database_of
from servers.nights import Night

from svd_local.batch.workers.protocol import to_line
from svd_local.settings import Settings

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    night = Night(
        Settings.load(media_dir=folder / "media", database_url=database_of(folder)), folder
    )
    summary = night.run(sys.argv[2:], on=lambda event: print(to_line(event), flush=True), lanes=1)
    assert "torch" not in sys.modules
    sys.exit(summary.exit_status)
