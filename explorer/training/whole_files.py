"""Small files of a build: they appear whole, by a rename, and only where they change."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace `path` in one step."""
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def write_json(path: Path, data: object) -> None:
    """Replace `path` by indented JSON."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
