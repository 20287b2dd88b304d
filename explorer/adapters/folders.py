"""A folder of adapters -> a Library: find the candidates, read each, settle the base model, keep the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from explorer.adapters.adapter import Adapter, AdapterNotes, Status, Verdict
from explorer.adapters.library import Library, natural_key
from explorer.adapters.lora_config import CONFIG
from explorer.adapters.notes import LibraryNotes, read_card, read_library_notes
from explorer.adapters.peft_format import PICKLE_FIX, PICKLES, WEIGHTS, Shapes, ShapesOf, read_adapter
from explorer.adapters.safetensors_header import shown
from explorer.errors import LibraryError

MAX_DEPTH = 4
MAX_ADAPTERS = 5000
REASONS_SHOWN = 3


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
        pickles: files that were found but not unpacked, reported as refused adapters.
        on_close: what `Library.close` calls.

    Raises:
        LibraryError: there is no adapter, or none can be used; the sentence gives the first reasons.
    """
    source = source or folder.name
    root, candidates = _root_and_candidates(folder, source)
    notes = read_library_notes(root)
    names = _names(root, candidates, title or source)
    known: dict[str, Shapes | None] = {}

    def shapes_once(base: str) -> Shapes | None:
        if base not in known and shapes_of is not None:
            known[base] = shapes_of(base)
        return known.get(base)

    results = [
        read_adapter(path, name, notes=_notes_for(path, name, notes), shapes_of=shapes_once)
        for path, name in zip(candidates, names, strict=True)
    ]
    adapters = _one_base([result for result in results if isinstance(result, Adapter)])
    by_name = {adapter.name: adapter.verdict for adapter in adapters}
    verdicts = [by_name.get(result.name) or result for result in results]
    verdicts += [_pickle_verdict(path) for path in pickles if not _covered(path, root, folder, candidates)]
    report = [verdict for verdict in verdicts if isinstance(verdict, Verdict)]
    if not adapters:
        raise _nothing_usable(source, report)
    return Library(
        adapters,
        verdicts=report,
        title=notes.title or title or source,
        description=notes.description,
        license_name=notes.license_name,
        source=source,
        on_close=on_close,
    )


def _root_and_candidates(folder: Path, source: str) -> tuple[Path, list[Path]]:
    """The folder that counts as the root, and the adapter folders below it in natural order."""
    root = folder
    while not (root / "library.json").exists() and not _is_candidate(root):
        inside = [item for item in _children(root)]
        if len(inside) != 1 or _is_candidate(inside[0]):
            break
        root = inside[0]
    found: list[Path] = []
    _collect(root, 0, found, source)
    found.sort(key=lambda path: natural_key(path.relative_to(root).as_posix()))
    return root, found


def _collect(folder: Path, depth: int, found: list[Path], source: str) -> None:
    if _is_candidate(folder):
        found.append(folder)
        if len(found) > MAX_ADAPTERS:
            raise LibraryError(source, f"has more than {MAX_ADAPTERS} adapters", fix="Open a part of it.")
    elif depth < MAX_DEPTH:
        for child in _children(folder):
            _collect(child, depth + 1, found, source)


def _children(folder: Path) -> list[Path]:
    return sorted(
        item for item in folder.iterdir() if item.is_dir() and not item.is_symlink() and not item.name.startswith(".")
    )


def _is_candidate(folder: Path) -> bool:
    if any((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        return True
    return any(item.is_file() and item.name.lower().endswith(PICKLES) for item in folder.iterdir())


def _names(root: Path, candidates: Sequence[Path], title: str) -> list[str]:
    """Folder names where they are unique, else paths from the root."""
    counts = Counter(path.name for path in candidates)
    return [
        (title if path == root else path.name if counts[path.name] == 1 else path.relative_to(root).as_posix())[:200]
        for path in candidates
    ]


def _notes_for(path: Path, name: str, notes: LibraryNotes) -> AdapterNotes:
    card, listed = read_card(path), notes.adapters.get(name)
    if listed is None:
        return card
    return replace(listed, task=listed.task or card.task, family=listed.family or card.family)


def _one_base(adapters: Sequence[Adapter]) -> list[Adapter]:
    """Routing needs one base model: the one most adapters name; the others stay on the map."""
    counts = Counter(adapter.base_model for adapter in adapters if adapter.can_be_routed)
    if len(counts) < 2:
        return list(adapters)
    chosen = counts.most_common(1)[0][0]
    return [
        adapter
        if adapter.base_model == chosen or not adapter.can_be_routed
        else replace(adapter, verdict=_other_base(adapter, chosen))
        for adapter in adapters
    ]


def _other_base(adapter: Adapter, chosen: str) -> Verdict:
    named = shown(adapter.base_model) or "no base model"
    reason = f"It cannot be routed: it names {named}, while most of this library names {shown(chosen)}."
    return Verdict(adapter.name, Status.MAP_ONLY, reason, adapter.verdict.warnings)


def _pickle_verdict(path: PurePosixPath) -> Verdict:
    name = path.parent.name or path.stem
    return Verdict(
        name, Status.REFUSED, f"{shown(path.name)} is a pickle, which can run code when it is opened. {PICKLE_FIX}"
    )


def _covered(pickle: PurePosixPath, root: Path, folder: Path, candidates: Sequence[Path]) -> bool:
    """Whether the pickle lies beside an adapter that was read from safetensors."""
    place = folder.joinpath(*pickle.parent.parts)
    return place in candidates and (place / WEIGHTS).is_file()


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
