"""Finding the adapters in a folder: which folder is the library's root, which folders below it are adapters.

A folder with an adapter configuration or with safetensors is an adapter. The root may be one and hold others; an
adapter inside another one below the root, or too deep down, is found but not read, and that is said. Links are not
followed and hidden folders not entered; a folder that cannot be listed is treated as empty.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from explorer.adapters.lora_config import CONFIG
from explorer.adapters.pickles import is_pickle
from explorer.adapters.wording import shown
from explorer.errors import LibraryError

LIBRARY_FILE = "library.json"
MAX_DEPTH = 4
MAX_ADAPTERS = 5000
MAX_FOLDERS = 20_000
MAX_PICKLES = 1000
MAX_LEFT_OUT = 1000


@dataclass
class Scan:
    """What lies at and below `root`: adapter folders, those not to be read with the reason, and stray pickles."""

    root: Path
    folders: list[Path] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    pickles: list[PurePosixPath] = field(default_factory=list)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Place:
    """A folder still to be looked into: how deep it lies, and in which adapter if in one."""

    folder: Path
    depth: int
    inside: Path | None

    @property
    def in_reach(self) -> bool:
        """Whether an adapter here is read."""
        return self.inside is None and self.depth <= MAX_DEPTH


def scan(folder: Path, source: str) -> Scan:
    """Look through `folder`; adapters may lie down to `MAX_DEPTH` folders below the root.

    The root is `folder` itself, or the only folder in it (a zip often has one folder around everything).

    Raises:
        LibraryError: there are too many adapters or folders for one library.
    """
    root = folder
    while not (root / LIBRARY_FILE).is_file() and not is_adapter(root):
        inside = _folders(root)
        if len(inside) != 1 or is_adapter(inside[0]) or any(is_pickle(item.name) for item in _items(root)):
            break
        root = inside[0]
    found = Scan(root)
    waiting = deque([_Place(root, 0, None)])  # no recursion: a tree can be deeper than Python's stack
    seen = {True: 0, False: 0}
    while waiting:
        place = waiting.popleft()
        seen[place.in_reach] += 1
        if seen[True] > MAX_FOLDERS:
            raise LibraryError(source, f"has more than {MAX_FOLDERS} folders", fix="Open a part of it.")
        if seen[False] > MAX_FOLDERS:  # nothing in there is read anyway
            found.remarks = (f"More than {MAX_FOLDERS:,} deep folders: not all were looked through for adapters.",)
            continue
        _note(place, found, source)
        inner = place.inside or (place.folder if place.depth and is_adapter(place.folder) else None)
        waiting.extend(_Place(child, place.depth + 1, inner) for child in _folders(place.folder))
    return found


def is_adapter(folder: Path) -> bool:
    """Whether a folder is meant to be an adapter."""
    return any(
        item.name == CONFIG or item.name.endswith(".safetensors") for item in _items(folder) if not _is_dir(item)
    )


def _note(place: _Place, found: Scan, source: str) -> None:
    """Put what one folder holds where it belongs."""
    if is_adapter(place.folder):
        reason = _why_not(place, found.root)
        if not reason:
            found.folders.append(place.folder)
        elif len(found.left_out) < MAX_LEFT_OUT:
            found.left_out.append((place.folder, reason))
        if len(found.folders) > MAX_ADAPTERS:
            raise LibraryError(source, f"has more than {MAX_ADAPTERS} adapters", fix="Open a part of it.")
    elif place.in_reach:
        pickles = [item for item in _items(place.folder) if is_pickle(item.name) and item.is_file()]
        room = MAX_PICKLES - len(found.pickles)
        found.pickles += [PurePosixPath(item.relative_to(found.root).as_posix()) for item in pickles[:room]]


def _why_not(place: _Place, root: Path) -> str:
    """Why the adapter at this place is not read ("" where it is)."""
    if place.inside is not None:
        owner = shown(place.inside.relative_to(root).as_posix())
        return f"It lies inside the adapter {owner} and was not read. Open its folder by itself, or put it beside."
    if place.depth > MAX_DEPTH:
        return f"It lies more than {MAX_DEPTH} folders below the library's root and was not read. Move it up."
    return ""


def _folders(folder: Path) -> list[Path]:
    return [
        item for item in _items(folder) if not item.name.startswith(".") and _is_dir(item) and not item.is_symlink()
    ]


def _is_dir(item: Path) -> bool:
    try:
        return item.is_dir()
    except OSError:  # its path is too long for the system
        return False


def _items(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
