"""Where this program keeps what it fetched or computed: one cache folder per user."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`EXPLORER_CACHE`, or `lora-library-explorer` below the user's cache folder. It may not exist yet."""
    named = os.environ.get("EXPLORER_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lora-library-explorer"
