"""What a name, a family and a text of a task may be; the same for every origin."""

from __future__ import annotations

import re
import unicodedata
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


def name_from(text: str, *, marks: bool = False) -> str:
    """A name made of any text: what a name must not hold becomes "_".

    Args:
        text: any.
        marks: keep vowel signs and accents that stand on a letter; without, only its length in bytes or a reserved
            name can keep :func:`is_name` from taking it.
    """
    made = ""
    for c in text:
        on_letter = marks and unicodedata.category(c).startswith("M") and made[-1:] not in ("", *"_-.")
        made += c if c.isalnum() or c in "_-." or on_letter else "_"
    return made.lstrip(".")[:MOST_NAME].strip("_") or "task"


class NamesMade:
    """Names made of texts: the same one for the same text, another one for any other, numbered as they come."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}
        self._turns: dict[str, int] = {}  # the names taken, each with the last number that was put behind it

    def of(self, text: str) -> str:
        """The text's name."""
        if text not in self._made:
            self._made[text] = self._free(name_from(text, marks=True))
        return self._made[text]

    def _free(self, plain: str) -> str:
        """The name itself, or with the first number behind it that nothing else has."""
        name = plain
        while name in self._turns:
            self._turns[plain] += 1
            tail = f"_{self._turns[plain]}"
            name = plain[: MOST_NAME - len(tail)] + tail
        self._turns[name] = 1
        return name


def name_of_file(path: Path) -> str:
    """The name of a task whose file gives it none."""
    return name_from(path.stem)
