"""Printing for people and for programs.

Names, tokens and answers come from outside, so no control character gets through: an escape sequence in an adapter's
name could clear the reader's screen, and a right-to-left override could turn a line round.
"""

from __future__ import annotations

import json
import math
import sys
import unicodedata
from collections.abc import Mapping, Sequence

CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def printable(text: str, *, keep: str = "") -> str:
    """`text` with control characters, half characters and changes of direction spelled out, except those in `keep`."""
    return "".join(c if c in keep or not _is_hostile(c) else _spelled(c) for c in text)


def _is_hostile(character: str) -> bool:
    return unicodedata.category(character) in CONTROLS or unicodedata.bidirectional(character) in DIRECTIONS


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def say(text: str = "") -> None:
    """Print one line of a result, made safe."""
    print(printable(text))


def report(line: str) -> None:
    """Tell a person at a terminal what is going on; logs and programs get only results and errors."""
    if sys.stderr.isatty():
        print(printable(line), file=sys.stderr, flush=True)


def say_json(data: Mapping[str, object]) -> None:
    """Print one JSON document (ASCII only, numbers that JSON cannot write become null)."""
    print(json.dumps(_plain(data), indent=2, allow_nan=False))


def _plain(data: object) -> object:
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def say_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print aligned columns; the columns numbered in `right` are aligned to the right."""
    cells = [[printable(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    for row in cells:
        padded = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(padded).rstrip())


def size_text(size: int) -> str:
    """A number of bytes in words, decimal units."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10**power:
            return f"{size / 10**power:.2f} {unit}"
    return f"{size} B"
