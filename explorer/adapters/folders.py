"""A folder of adapters -> a Library: find the candidates, read each, settle what they must agree on, report."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from explorer.adapters.adapter import Adapter, Status, Verdict
from explorer.adapters.agreement import settle
from explorer.adapters.factors import WEIGHTS
from explorer.adapters.known_files import KnownFiles
from explorer.adapters.library import Library
from explorer.adapters.lora_config import CONFIG
from explorer.adapters.natural_order import natural_key
from explorer.adapters.notes import notes_for, read_library_notes
from explorer.adapters.peft_format import Shapes, ShapesOf, read_adapter
from explorer.adapters.pickles import pickle_verdicts
from explorer.adapters.scan import Scan, scan
from explorer.adapters.wording import clean_line, shown
from explorer.errors import LibraryError

REASONS_SHOWN = 3
READERS = 4
MAX_NAME = 200


def open_folder(
    folder: Path,
    *,
    source: str = "",
    title: str = "",
    shapes_of: ShapesOf | None = None,
    pickles: Sequence[PurePosixPath] = (),
    on_close: Callable[[], None] | None = None,
) -> Library:
    """Open every adapter at or below `folder`.

    Args:
        folder: a library's root, or a single adapter's folder.
        source: what to call it in messages (by default the folder's name).
        title: shown where `library.json` gives none.
        shapes_of: shapes of a base model's linear modules by its name, None where they are not known.
        pickles: files below `folder` that were found but not put there, to be reported with the rest.
        on_close: what `Library.close` calls.

    Raises:
        LibraryError: there is no adapter, or none can be used; the sentence gives the first reasons.
    """
    source = clean_line(source or folder.name, MAX_NAME) or "Library"
    found = scan(folder, source)
    found.folders.sort(key=lambda path: natural_key(path.relative_to(found.root).as_posix()))
    beside = _share_out(pickles, folder, found)
    notes = read_library_notes(found.root)
    names = _names(found, title or source)
    once = _once(shapes_of)

    # a folder that goes with the library has no second opening
    known = KnownFiles(found.root) if on_close is None else None

    def read(path: Path, name: str) -> Adapter | Verdict:
        own = notes_for(path, name, notes)
        return read_adapter(path, name, notes=own, shapes_of=once, pickles=beside[path], known=known)

    # hashing and checking for NaN leave the interpreter free, so files are read side by side
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        results = list(pool.map(read, found.folders, names))
    if known:
        known.save()
    adapters = settle([result for result in results if isinstance(result, Adapter)])
    settled = iter(adapters)
    verdicts = [result if isinstance(result, Verdict) else next(settled).verdict for result in results]
    verdicts += [*_left_out(found), *pickle_verdicts(found.pickles)]
    if not adapters:
        raise _nothing_usable(source, verdicts)
    return Library(
        adapters,
        verdicts=verdicts,
        title=notes.title or title or source,
        description=notes.description,
        license_name=notes.license_name,
        clusters=notes.clusters,
        source=source,
        remarks=(*notes.remarks, *found.remarks),
        folder=found.root,
        on_close=on_close,
    )


def _left_out(found: Scan) -> list[Verdict]:
    """The adapters that were found where none is read, by their path from the root."""
    paths = [(path.relative_to(found.root).as_posix(), reason) for path, reason in found.left_out]
    return [
        Verdict(clean_line(path, MAX_NAME) or "adapter", Status.REFUSED, reason)
        for path, reason in sorted(paths, key=lambda entry: natural_key(entry[0]))
    ]


def _share_out(pickles: Sequence[PurePosixPath], folder: Path, found: Scan) -> dict[Path, list[str]]:
    """The pickles that were not put there: those of adapter folders by folder; the rest joins `found`."""
    beside: dict[Path, list[str]] = defaultdict(list)
    known = set(found.folders)
    for pickle in pickles:
        place = folder / pickle.parent
        if place in known:
            beside[place].append(pickle.name)
        else:
            found.pickles.append(pickle)
    return beside


def _once(shapes_of: ShapesOf | None) -> ShapesOf | None:
    """The same function, asked once per base model, whichever thread comes first."""
    if shapes_of is None:
        return None
    known: dict[str, Shapes | None] = {}
    lock = threading.Lock()

    def shapes(base: str) -> Shapes | None:
        with lock:
            if base not in known:
                known[base] = shapes_of(base)
            return known[base]

    return shapes


def _names(found: Scan, title: str) -> list[str]:
    """Folder names where they are unique, else paths from the root; never two alike."""
    counts = Counter(path.name for path in found.folders)
    names: list[str] = []
    taken: set[str] = set()
    for path in found.folders:
        own = path.name if counts[path.name] == 1 else path.relative_to(found.root).as_posix()
        name = clean_line(title if path == found.root else own, MAX_NAME) or "adapter"
        number = 2
        while name in taken:  # long or unprintable names can become alike by cleaning
            name = f"{name[: MAX_NAME - 8]} ({number})"
            number += 1
        taken.add(name)
        names.append(name)
    return names


def _nothing_usable(source: str, verdicts: Sequence[Verdict]) -> LibraryError:
    if not verdicts:
        return LibraryError(
            source, f"holds no adapter folder ({CONFIG} with {WEIGHTS})", fix="Give a folder of PEFT adapters."
        )
    reasons = "; ".join(
        f"{shown(verdict.name, 40)}: {verdict.reason.rstrip('.')}" for verdict in verdicts[:REASONS_SHOWN]
    )
    more = f"; and {len(verdicts) - REASONS_SHOWN} more" if len(verdicts) > REASONS_SHOWN else ""
    return LibraryError(source, f"holds no adapter that can be used ({reasons}{more})")
