"""What people wrote about a library: `library.json` at its root, `card.json` beside an adapter.

Both are optional and both come from outside: whatever does not have the expected type is left out, long texts are
cut, and nothing here can keep a library from opening.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from explorer.adapters.adapter import AdapterNotes
from explorer.adapters.scan import LIBRARY_FILE
from explorer.adapters.wording import clean_line, clean_text

CARD = "card.json"
FINETUNED = "finetune"  # the `method` of cards whose `start` is what few-shot fine-tuning began from
MAX_BYTES = 8 << 20
MAX_EXAMPLES = 20
MAX_TASKS = 10_000
MAX_CLUSTERS = 10_000


@dataclass(frozen=True)
class LibraryNotes:
    """Title, description, licence and the notes on each adapter; every field may be empty.

    `clusters` is how many clusters whoever made the library sees in it (None where nothing is said).
    `remarks` says in a sentence each what could not be used.
    """

    title: str = ""
    description: str = ""
    license_name: str = ""
    clusters: int | None = None
    adapters: Mapping[str, AdapterNotes] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read_library_notes(folder: Path) -> LibraryNotes:
    """Read `library.json` in `folder`; empty notes where there is none."""
    path = folder / LIBRARY_FILE
    data = _object(path)
    if data is None:
        present = path.is_symlink() or path.exists()
        return LibraryNotes(remarks=(f"{LIBRARY_FILE} cannot be read and was left out.",) if present else ())
    entries = data.get("adapters", {})
    listed = entries if isinstance(entries, dict) else {}
    usable = {name: entry for name, entry in listed.items() if isinstance(entry, dict)}
    wrong = [key for key in ("title", "description", "license") if not isinstance(data.get(key, ""), str)]
    if listed is not entries or len(usable) < len(listed):
        wrong.append("adapters")
    clusters = data.get("clusters")
    if clusters is not None and not _is_count(clusters):
        clusters = None
        wrong.append("clusters")
    return LibraryNotes(
        title=clean_line(data.get("title"), 200),
        description=clean_text(data.get("description"), 5000),
        license_name=clean_line(data.get("license"), 100),
        clusters=clusters,
        adapters={clean_line(name, 200): _notes(entry) for name, entry in usable.items()},
        remarks=tuple(f"{LIBRARY_FILE}: the field {key!r} is not as expected and was left out." for key in wrong),
    )


def notes_for(folder: Path, name: str, library: LibraryNotes) -> AdapterNotes:
    """What `library.json` says of one adapter, and its own card where the former says nothing."""
    listed, card = library.adapters.get(name, AdapterNotes()), _notes(_object(folder / CARD) or {})
    return replace(
        listed,
        task=listed.task or card.task,
        tasks=listed.tasks or card.tasks,
        family=listed.family or card.family,
        description=listed.description or card.description,
        examples=listed.examples or card.examples,
        start=listed.start or card.start,
    )


def _notes(entry: Mapping[str, Any]) -> AdapterNotes:
    examples = entry.get("examples")
    texts = (clean_text(example, 2000) for example in (examples if isinstance(examples, list) else [])[:MAX_EXAMPLES])
    return AdapterNotes(
        task=clean_line(entry.get("task"), 200),
        tasks=_task_names(entry.get("tasks")),
        family=clean_line(entry.get("family"), 100),
        description=clean_text(entry.get("description"), 5000),
        examples=tuple(text for text in texts if text),
        start=clean_line(entry.get("start"), 40) if entry.get("method") == FINETUNED else "",
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_CLUSTERS


def _task_names(listed: object) -> tuple[str, ...]:
    """Names of tasks, given as texts or as objects with a `name`."""
    entries = (listed if isinstance(listed, list) else [])[:MAX_TASKS]
    names = (clean_line(entry.get("name") if isinstance(entry, dict) else entry, 200) for entry in entries)
    return tuple(dict.fromkeys(name for name in names if name))


def _object(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None where there is no such file or it holds something else."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
