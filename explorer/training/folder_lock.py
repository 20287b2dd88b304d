"""Who may build in a folder: a lock on the folder itself, which ends with its process however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from explorer.errors import SettingsError


@contextmanager
def folder_lock(folder: Path, *, alone: bool = True) -> Iterator[None]:
    """Hold `folder`, alone or together with others that do not need it alone.

    Where the system or the file system has no such locks, there is none.

    Raises:
        SettingsError: another process holds it.
    """
    try:
        import fcntl  # noqa: PLC0415 - not on every system
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                str(folder), "is being built by another process", fix="Wait until it has ended, or choose another one."
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
