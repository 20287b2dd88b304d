"""Files and folders that appear whole, by a rename; what a killed run left half made beside them is cleared away."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path


def scratch_beside(place: Path) -> Path:
    """A hidden name beside `place` that belongs to this process, to be filled and renamed."""
    return place.with_name(f".{place.name.lstrip('.')}.{os.getpid()}.partial")


def clear_scratch(place: Path) -> None:
    """Remove what any process has left half made beside `place`."""
    pattern = re.compile(rf"\.{re.escape(place.name.lstrip('.'))}(\.[0-9]+)?\.partial")
    for item in place.parent.iterdir():
        if pattern.fullmatch(item.name):
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replace `path` in one step."""
    clear_scratch(path)
    scratch = scratch_beside(path)
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def write_json(path: Path, data: object) -> None:
    """Replace `path` by indented JSON."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
