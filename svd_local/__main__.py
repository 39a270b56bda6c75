"""``python -m svd_local``: the command line."""

from __future__ import annotations

from svd_local.cli import main

if __name__ == "__main__":
    main()
