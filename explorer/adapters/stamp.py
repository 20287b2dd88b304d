"""Whether a file is still the very file that was read: its size, its times and its number on the disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: Clocks of file systems tick in steps of up to two seconds: a file changed twice within one looks unchanged.
TICK_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written, replaced or copied over; the times are in nanoseconds.

    `changed` counts more than `modified`, which tools that unpack or copy set as they like; it cannot be set.
    """

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file (a link's own, which is never that of a plain file); OSError where there is none."""
        status = os.lstat(path)
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def settled(self, now: int) -> bool:
        """Whether any later change must show, where `now` (in nanoseconds) lies before the file was read."""
        return max(self.modified, self.changed) + TICK_NS < now
