"""`inspect LIBRARY`: every adapter found, with its verdict, its shape and its hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import explorer
from explorer.commands.command import Command, Options, Parser
from explorer.commands.opening import add_library
from explorer.commands.terminal import say, say_json, say_table, size_text

if TYPE_CHECKING:
    from explorer.adapters.adapter import Adapter, Verdict
    from explorer.adapters.library import Library

TITLES = ("name", "verdict", "rank", "alpha", "modules", "base", "size", "hash")


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    add_library(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: Options) -> None:
    """Open the library and print what is in it."""
    with explorer.open_library(options.library) as library:
        if options.json:
            say_json(_facts(library))
        else:
            _print(library)


def _facts(library: Library) -> dict[str, object]:
    return {
        "title": library.title,
        "description": library.description,
        "license": library.license_name,
        "source": library.source,
        "base_model": library.base_model,
        "content_hash": library.content_hash,
        "counts": _counts(library),
        "sites": len(library.sites),
        "remarks": list(library.remarks),
        "adapters": [_entry(library, verdict) for verdict in library.verdicts],
    }


def _counts(library: Library) -> dict[str, int]:
    """How many of each verdict, in the order of first appearance."""
    counts: dict[str, int] = {}
    for verdict in library.verdicts:
        counts[verdict.status] = counts.get(verdict.status, 0) + 1
    return counts


def _entry(library: Library, verdict: Verdict) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": verdict.name,
        "verdict": str(verdict.status),
        "reason": verdict.reason,
        "warnings": list(verdict.warnings),
    }
    adapter = _adapter_of(library, verdict)
    if adapter is None:
        return entry
    return entry | {
        "base_model": adapter.base_model,
        "ranks": list(adapter.ranks),
        "alpha": adapter.alpha,
        "modules": list(_modules(adapter)),
        "sites": len(adapter.updates),
        "parameters": adapter.parameters,
        "size_bytes": adapter.size_bytes,
        "content_hash": adapter.content_hash,
        "task": adapter.notes.task,
        "family": adapter.notes.family,
        "description": adapter.notes.description,
        "examples": list(adapter.notes.examples),
    }


def _adapter_of(library: Library, verdict: Verdict) -> Adapter | None:
    """The adapter that a verdict is about; None where it was refused."""
    return next((adapter for adapter in library if adapter.verdict is verdict), None)


def _modules(adapter: Adapter) -> tuple[str, ...]:
    """The distinct last parts of the sites' names, in order."""
    return tuple(dict.fromkeys(site.rpartition(".")[2] for site in adapter.updates))


def _print(library: Library) -> None:
    facts = [library.title, library.description, f"base model {library.base_model or 'not named'}"]
    facts += [f"licence {library.license_name}"] if library.license_name else []
    facts += [", ".join(f"{count} {status}" for status, count in _counts(library).items())]
    facts += [f"{len(library.sites)} adapted modules", f"hash {library.content_hash[:16]}"]
    for fact in filter(None, facts):
        say(fact)
    say()
    say_table(TITLES, [_row(library, verdict) for verdict in library.verdicts], right=(2, 3, 6))
    remarks = [f"{v.name}: {remark}" for v in library.verdicts for remark in (v.reason, *v.warnings) if remark]
    if remarks or library.remarks:
        say()
    for remark in (*library.remarks, *remarks):
        say(remark)


def _row(library: Library, verdict: Verdict) -> tuple[str, ...]:
    adapter = _adapter_of(library, verdict)
    if adapter is None:
        return (verdict.name, verdict.status, *("-" for _ in TITLES[2:]))
    return (
        verdict.name,
        verdict.status,
        ",".join(str(rank) for rank in adapter.ranks),
        f"{adapter.alpha:g}",
        " ".join(_modules(adapter)),
        adapter.base_model or "-",
        size_text(adapter.size_bytes),
        adapter.content_hash[:12],
    )


COMMAND = Command("inspect", "list a library's adapters with their verdicts", add_options, run)
