"""A folder that appears whole or not at all, and is refused before the work begins where it cannot be had."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from explorer.errors import SettingsError

WHERE = "Output folder"
SPARE = 1 << 20  # configurations, cards
PORTABLE = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
MAX_NAME = 80


def check_folder(folder: Path, needed: int = 0) -> Path:
    """The place itself, behind links, where a new folder can be made.

    Args:
        folder: not there yet, or empty.
        needed: bytes.

    Raises:
        SettingsError: it is taken, its parent is missing, or the disk is too full.
    """
    try:
        target = folder.resolve()
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
        parent = target.parent.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(WHERE, f"{folder} cannot be reached", fix="Name another one.") from error
    if taken:
        raise SettingsError(WHERE, f"{folder} is there and is not an empty folder", fix="Name a new folder.")
    if not parent:
        raise SettingsError(WHERE, f"lies in {target.parent}, which is not a folder", fix="Make the folder first.")
    free = shutil.disk_usage(target.parent).free
    if needed + SPARE > free:
        found = f"{size_text(free)} free"
        raise SettingsError(WHERE, expected=size_text(needed + SPARE), found=found, fix="Choose a smaller rank.")
    return target


@contextmanager
def whole_folder(folder: Path, needed: int = 0) -> Iterator[Path]:
    """A folder beside `folder` to be filled, renamed into place at the end; on any error nothing is left behind.

    Raises:
        SettingsError: as :func:`check_folder`, or it cannot be written.
    """
    target = check_folder(folder, needed)
    try:
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:40]}."))
        try:
            yield scratch
            scratch.chmod(0o777 & ~_umask())
            scratch.replace(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise SettingsError(WHERE, f"{folder} cannot be written ({error.strerror or error})") from error


def folder_names(names: Iterable[str]) -> dict[str, str]:
    """A folder's name for each name: portable characters only, never two alike, not even where case is ignored."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = PORTABLE.sub("_", name).strip("._-")[:MAX_NAME] or "adapter"
        own, number = plain, 2
        while own.casefold() in taken:
            own, number = f"{plain}_{number}", number + 1
        taken.add(own.casefold())
        found[name] = own
    return found


def size_text(count: int) -> str:
    """A number of bytes in words, decimal units."""
    for unit, power in (("GB", 9), ("MB", 6)):
        if count >= 10**power:
            return f"{count / 10**power:,.1f} {unit}"
    return f"{count / 1000:.1f} kB"


def _umask() -> int:
    """The process's mask for new files: mkdtemp makes a private folder, a result is an ordinary one."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
