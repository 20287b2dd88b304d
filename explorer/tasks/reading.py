"""A file from outside: a plain one of bounded size, or one sentence (a pipe or a device is never read); its lines."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from explorer.errors import TaskDataError

CHUNK = 1 << 20


def read_bytes(path: Path, most_bytes: int) -> bytearray:
    """All that is in a file, behind all links.

    Raises:
        TaskDataError: it cannot be read, is no plain file, or is larger than `most_bytes`.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise TaskDataError(path.name, "is a pipe or a device, not a file", fix="Name a file on disk.")
            found = bytearray()  # grows with what is there: asking for the most at once would set aside that much
            while len(found) <= most_bytes and (part := file.read(min(CHUNK, most_bytes + 1 - len(found)))):
                found += part
    except OSError as error:
        nothing = isinstance(error, FileNotFoundError) and path.is_symlink()
        reason = "is a link to nothing" if nothing else f"cannot be read ({error.strerror or error})"
        raise TaskDataError(path.name, reason) from error
    if len(found) > most_bytes:
        raise TaskDataError(path.name, f"is larger than {most_bytes / 1e6:.0f} MB", fix="Split it.")
    return found


def lines_in(text: str) -> list[str]:
    """The lines of JSON lines, however they end; U+2028 and the like end none, they may stand in a JSON string."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe that nobody writes to at once, too; its kind is looked at next."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
