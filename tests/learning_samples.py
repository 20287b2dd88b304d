"""Tasks and libraries for the tests of routers that learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from routed_samples import tiny_library

from explorer.adapters.adapter import AdapterNotes
from explorer.adapters.library import Library
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel
from explorer.tasks.task import Example, Task

WORDS = {
    "sea": "the sea and the sea of the sea",
    "sum": "1 + 2 = 3 and 4 + 5 = 9",
    "dog": "lazy dogs jump over lazy dogs",
    "fox": "quick brown fox, quick brown fox",
}


def task_of(name: str, rows: int = 14, *, test_only: bool = False) -> Task:
    """Prompts that differ from those of other tasks, with short answers."""
    examples = tuple(Example(f"{WORDS[name]} {number}", f"{name} {number % 3}") for number in range(rows))
    if test_only:
        return Task(name, "", (), examples)
    return Task(name, "", examples, (Example(f"test of {name}", "no"),), examples[:6])


TASKS = tuple(task_of(name) for name in WORDS)


def library_of(tasks: Sequence[str | tuple[str, ...]] = ("sea", "sum", "dog")) -> Library:
    """Random adapters of mixed ranks, made for these tasks; the last one has layer 1 only."""
    adapters = []
    for adapter, own in zip(tiny_library(len(tasks)).adapters, tasks, strict=True):
        notes = AdapterNotes(task=own) if isinstance(own, str) else AdapterNotes(tasks=own)
        adapters.append(replace(adapter, notes=notes))
    return Library(adapters)


def routed_of(base: BaseModel, tasks: Sequence[str | tuple[str, ...]] = ("sea", "sum", "dog")) -> RoutedModel:
    return RoutedModel(base, library_of(tasks))


def reversed_of(routed: RoutedModel) -> RoutedModel:
    """The same adapters in the opposite order."""
    return RoutedModel(routed.base, Library(routed.library.adapters[::-1]))
