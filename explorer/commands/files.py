"""Result files: they appear whole or not at all, and a place that cannot take them is found before the work begins.

Through a link the file it leads to is replaced, not the link. A pipe or a terminal (/dev/stdout, /dev/null) cannot be
replaced, it is written to; anything else that is no file is left alone.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from explorer.errors import SettingsError


def check_place(path: Path) -> None:
    """Refuse a result file whose folder is missing, or whose name is that of something else than a file.

    Raises:
        SettingsError: as said.
    """
    _target(path)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then rename it into place; nothing is left behind when that fails.

    Raises:
        SettingsError: the file cannot be written.
    """
    target = _target(path)
    try:
        if target is None:
            write(path)
        else:
            _replace(target, write)
    except OSError as error:
        raise SettingsError("--output", f"{path} cannot be written ({error.strerror})") from error


def resolved(path: Path) -> Path:
    """Where `path` leads, behind all links.

    Raises:
        SettingsError: nowhere.
    """
    try:
        path.exists()
        return path.resolve()
    except (OSError, RuntimeError):  # links that lead to each other, a name too long, a folder that cannot be entered
        raise SettingsError("--output", f"names {path}, which cannot be reached") from None


def _target(path: Path) -> Path | None:
    """The file that is made or replaced, behind all links; None where `path` is something to be written to."""
    target = resolved(path)
    kind = stat.S_IFMT(path.stat().st_mode) if path.exists() else stat.S_IFREG
    if kind == stat.S_IFDIR:
        raise SettingsError("--output", f"names {path}, which is a folder", fix="Name a file.")
    if kind in (stat.S_IFCHR, stat.S_IFIFO):
        return None
    if kind != stat.S_IFREG:
        raise SettingsError("--output", f"names {path}, which is a device or a socket", fix="Name a file.")
    if not target.parent.is_dir():
        raise SettingsError("--output", f"lies in {target.parent}, which is not a folder", fix="Make the folder first.")
    return target


def _replace(target: Path, write: Callable[[Path], None]) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
    os.close(handle)
    scratch = Path(name)
    try:
        write(scratch)
        scratch.chmod(0o666 & ~_umask())
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's mask for new files: mkstemp makes them private, a result is an ordinary file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
