"""Finding the adapters in a folder: which folder is the library's root, which folders below it are adapters.

A folder with an adapter configuration or with safetensors is an adapter. Links are not followed and hidden folders
not entered; a folder that cannot be listed is treated as empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from explorer.adapters.lora_config import CONFIG
from explorer.adapters.pickles import is_pickle
from explorer.errors import LibraryError

LIBRARY_FILE = "library.json"
MAX_DEPTH = 4
MAX_ADAPTERS = 5000
MAX_FOLDERS = 20_000
MAX_PICKLES = 1000


@dataclass
class Scan:
    """What lies at and below `root`: adapter folders, and pickles in folders that are no adapters."""

    root: Path
    folders: list[Path] = field(default_factory=list)
    pickles: list[PurePosixPath] = field(default_factory=list)
    seen: int = 0


def scan(folder: Path, source: str) -> Scan:
    """Look through `folder`, down to `MAX_DEPTH` folders below the root.

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
    _collect(root, 0, found, source)
    return found


def is_adapter(folder: Path) -> bool:
    """Whether a folder is meant to be an adapter."""
    return any(
        item.name == CONFIG or item.name.endswith(".safetensors") for item in _items(folder) if not item.is_dir()
    )


def _collect(folder: Path, depth: int, found: Scan, source: str) -> None:
    found.seen += 1
    if found.seen > MAX_FOLDERS:
        raise LibraryError(source, f"has more than {MAX_FOLDERS} folders", fix="Open a part of it.")
    if is_adapter(folder):
        found.folders.append(folder)
        if len(found.folders) > MAX_ADAPTERS:
            raise LibraryError(source, f"has more than {MAX_ADAPTERS} adapters", fix="Open a part of it.")
        return
    pickles = [item for item in _items(folder) if is_pickle(item.name) and item.is_file()]
    room = MAX_PICKLES - len(found.pickles)
    found.pickles += [PurePosixPath(item.relative_to(found.root).as_posix()) for item in pickles[:room]]
    if depth < MAX_DEPTH:
        for child in _folders(folder):
            _collect(child, depth + 1, found, source)


def _folders(folder: Path) -> list[Path]:
    return [
        item for item in _items(folder) if not item.name.startswith(".") and not item.is_symlink() and item.is_dir()
    ]


def _items(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
