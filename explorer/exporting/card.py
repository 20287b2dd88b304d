"""What an exported folder says of itself: `README.md` for people, `card.json` for programs.

Names come from other people's files: they are put into Markdown and YAML so that they stay plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explorer.adapters.adapter import Adapter
from explorer.adapters.library import Library
from explorer.adapters.scan import LIBRARY_FILE
from explorer.adapters.wording import clean_line

README, CARD = "README.md", "card.json"
MARKUP = re.compile(r"([\\`*\[\]<>|&~$#!])")
ROWS_SHOWN = 50
MAX_LINE = 300


def plain(value: object) -> str:
    """A value as plain text on one line of Markdown, also inside a table."""
    return MARKUP.sub(r"\\\1", clean_line(str(value), MAX_LINE))


def table(rows: Mapping[str, object]) -> str:
    """Two columns without a head; the values' markup is the caller's."""
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def front_matter(base_model: str, license_name: str, tags: Sequence[str]) -> str:
    """The head that the hub reads; values in JSON's quotes, which are YAML's too."""
    facts: dict[str, object] = {"base_model": base_model, "license": license_name.lower().replace(" ", "-")}
    lines = [f"{name}: {json.dumps(value)}" for name, value in facts.items() if value]
    return "\n".join(["---", *lines, "library_name: peft", f"tags: {json.dumps(list(tags))}", "---"])


def source_rows(library: Library, adapters: Sequence[Adapter]) -> dict[str, object]:
    """Where it comes from."""
    of = f"{len(adapters)} of {len(library)} adapters of {plain(library.title)}"
    licence = {"licence of the library": plain(library.license_name)} if library.license_name else {}
    return {
        "base model": plain(library.base_model) or "not named",
        "made from": of,
        "hash of the library": f"`{library.content_hash}`",
        **licence,
    }


def adapters_table(adapters: Sequence[Adapter], weights: Mapping[str, float] | None = None) -> str:
    """Each adapter with its hash, and its weight where it has one; the largest first."""
    given = weights or {}
    order = sorted(adapters, key=lambda adapter: -abs(given.get(adapter.name, 0.0)))
    lines = ["| adapter | weight | hash |", "|---|---:|---|"] if given else ["| adapter | hash |", "|---|---|"]
    for adapter in order[:ROWS_SHOWN]:
        weight = f" {given[adapter.name]:.6g} |" if given else ""
        lines.append(f"| {plain(adapter.name)} |{weight} `{adapter.content_hash[:16]}` |")
    more = f"\n\nand {len(order) - ROWS_SHOWN} more" if len(order) > ROWS_SHOWN else ""
    return "\n".join(lines) + more


def write_texts(folder: Path, readme: str, card: Mapping[str, Any]) -> None:
    """Write both."""
    (folder / README).write_text(readme, encoding="utf-8")
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def write_library_notes(folder: Path, library: Library, title: str, description: str) -> None:
    """`library.json`, so that a folder of several adapters opens as a library under a title of its own."""
    notes = {"title": title, "description": description, "license": library.license_name}
    (folder / LIBRARY_FILE).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")
