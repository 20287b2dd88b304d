"""Result files: they appear whole or not at all, and a place that cannot take them is found before the work begins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from explorer.errors import SettingsError


def check_place(path: Path) -> None:
    """Refuse a result file whose folder is missing, or whose name is a folder's.

    Raises:
        SettingsError: as said.
    """
    if not path.parent.is_dir():
        raise SettingsError("--output", f"lies in {path.parent}, which is not a folder", fix="Make the folder first.")
    if path.is_dir():
        raise SettingsError("--output", f"names {path}, which is a folder", fix="Name a file.")


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then rename it into place; nothing is left behind when that fails.

    Raises:
        SettingsError: the file cannot be written.
    """
    check_place(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
        os.close(handle)
        scratch = Path(name)
        try:
            write(scratch)
            scratch.chmod(0o666 & ~_umask())
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SettingsError("--output", f"{path} cannot be written ({error.strerror})") from error


def _umask() -> int:
    """The process's mask for new files: mkstemp makes them private, a result is an ordinary file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
