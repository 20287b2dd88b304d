"""What a name, a family and a text of a task may be; the same for every origin."""

from __future__ import annotations

import re
from pathlib import Path

MOST_NAME = 80
MOST_NAME_BYTES = 200  # file systems take 255, and what is half written has a longer name
RESERVED = ("library.json", "readme.md", "manifest.json", "clusters.json")  # what stands beside tasks' folders
NAME_RULE = "Use letters, digits, '_', '-' and '.' only, at most 200 bytes, and no name of a library's own files."
LONE = re.compile("[\ud800-\udfff]")


def is_name(text: str) -> bool:
    """A task's name becomes a folder's name, so it must be harmless as one."""
    plain = bool(text) and not text.startswith(".") and all(c.isalnum() or c in "_-." for c in text)
    short = len(text) <= MOST_NAME and len(text.encode(errors="replace")) <= MOST_NAME_BYTES
    return plain and short and text.lower() not in RESERVED


def is_family(text: str) -> bool:
    """A family is shown in tables and figures: text on one line, which may be empty."""
    return len(text) <= MOST_NAME and text.isprintable()


def half_character(text: str) -> bool:
    """Whether it holds a lone surrogate, which JSON can spell and no encoding can write."""
    return LONE.search(text) is not None


def name_from(text: str) -> str:
    """A name made of any text: what a name must not hold becomes "_"."""
    plain = "".join(c if c.isalnum() or c in "_-." else "_" for c in text).lstrip(".")[:MOST_NAME]
    return plain.strip("_") or "task"


def name_of_file(path: Path) -> str:
    """The name of a task whose file gives it none."""
    return name_from(path.stem)
