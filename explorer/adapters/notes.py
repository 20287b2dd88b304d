"""What people wrote about a library: `library.json` at its root, `card.json` beside an adapter.

Both are optional and both come from outside: whatever does not have the expected type is left out, long texts are
cut, and nothing here can keep a library from opening.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.adapters.adapter import AdapterNotes

MAX_BYTES = 8 << 20
MAX_EXAMPLES = 20


@dataclass(frozen=True)
class LibraryNotes:
    """Title, description, licence and the notes on each adapter; every field may be empty."""

    title: str = ""
    description: str = ""
    license_name: str = ""
    adapters: Mapping[str, AdapterNotes] = field(default_factory=dict)


def read_library_notes(folder: Path) -> LibraryNotes:
    """Read `library.json` in `folder`; empty notes where there is none."""
    data = _object(folder / "library.json")
    adapters = data.get("adapters")
    return LibraryNotes(
        title=_text(data, "title", 200),
        description=_text(data, "description", 5000),
        license_name=_text(data, "license", 100),
        adapters={
            str(name): _notes(entry)
            for name, entry in (adapters.items() if isinstance(adapters, dict) else ())
            if isinstance(entry, dict)
        },
    )


def read_card(folder: Path) -> AdapterNotes:
    """Task and family from the card that training leaves beside an adapter."""
    return _notes(_object(folder / "card.json"))


def _notes(entry: Mapping[str, Any]) -> AdapterNotes:
    examples = entry.get("examples")
    return AdapterNotes(
        task=_text(entry, "task", 200),
        family=_text(entry, "family", 100),
        description=_text(entry, "description", 5000),
        examples=tuple(
            example[:2000]
            for example in (examples if isinstance(examples, list) else [])[:MAX_EXAMPLES]
            if isinstance(example, str) and example.strip()
        ),
    )


def _text(data: Mapping[str, Any], key: str, limit: int) -> str:
    value = data.get(key)
    return value.strip()[:limit] if isinstance(value, str) else ""


def _object(path: Path) -> dict[str, Any]:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
        return {}
    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
