"""What a name, a family and a text of a task may be; the same for every origin."""

from __future__ import annotations

import re
from pathlib import Path

MOST_NAME = 80
NAME_RULE = "Use letters, digits, '_', '-' and '.' only."
LONE = re.compile("[\ud800-\udfff]")


def is_name(text: str) -> bool:
    """A task's name becomes a folder's name, so it must be harmless as one."""
    return 0 < len(text) <= MOST_NAME and not text.startswith(".") and all(c.isalnum() or c in "_-." for c in text)


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
