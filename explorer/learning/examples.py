"""Which examples teach what: those of each adapter's own tasks, or a few of one target task. Never a test row."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from explorer.adapters.adapter import Adapter
from explorer.adapters.wording import shown
from explorer.errors import LearningError, PromptError
from explorer.models.base import BaseModel
from explorer.models.chat import encode_answer, encode_prompt
from explorer.models.routed_model import RoutedModel
from explorer.tasks.task import Example, Task
from explorer.training.batches import Encoded


def own_tasks(adapter: Adapter, tasks: Mapping[str, Task]) -> tuple[Task, ...]:
    """Those of `tasks` that the adapter was made for: what its notes list or name, or what it is called like."""
    notes = adapter.notes
    names = dict.fromkeys(notes.tasks or (notes.task, adapter.name))
    return tuple(tasks[name] for name in names if name in tasks and tasks[name].train)


def tasks_by_adapter(routed: RoutedModel, tasks: Sequence[Task], least: int = 1) -> dict[str, tuple[Task, ...]]:
    """The tasks with training rows of each adapter that has any, in the library's order.

    Args:
        routed: a base model with a library.
        tasks: those at hand.
        least: so many adapters must have some.

    Raises:
        LearningError: they have not; the adapters without are listed.
    """
    by_name = {task.name: task for task in tasks}
    found = {name: own_tasks(routed.library[name], by_name) for name in routed.names}
    with_some = {name: own for name, own in found.items() if own}
    if len(with_some) < least:
        without = [name for name in routed.names if name not in with_some]
        raise LearningError(
            f"Adapter{'s' * (len(without) > 1)} {listed(without)}",
            f"{'have' if len(without) > 1 else 'has'} no training rows among the tasks given",
            fix="Name tasks as the adapters, or as their notes, do.",
        )
    return with_some


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names for a sentence."""
    return ", ".join(shown(name) for name in names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))


def encoded_prompts(base: BaseModel, tasks: Sequence[Task], count: int, *, chat: bool, seed: int) -> list[list[int]]:
    """Token ids of `count` prompts of the tasks' training rows that fit the model (fewer where there are fewer)."""
    fitting = (_prompt(base, example, chat) for example in drawn([task.train for task in tasks], seed))
    return [ids for ids in islice(filter(None, fitting), count) if ids is not None]


def encoded_rows(
    base: BaseModel, parts: Sequence[Sequence[Example]], count: int, *, chat: bool, seed: int, max_tokens: int
) -> list[Encoded]:
    """`count` examples, with their answers, of the parts that fit in `max_tokens` (fewer where there are fewer)."""
    fitting = (_row(base.tokenizer, example, chat, max_tokens) for example in drawn(parts, seed))
    return [row for row in islice(filter(None, fitting), count) if row is not None]


def few_shot(base: BaseModel, task: Task, count: int, *, chat: bool, seed: int, max_tokens: int) -> list[Encoded]:
    """`count` examples of a target task: validation rows, else training rows.

    Raises:
        LearningError: it has neither, or none fits.
    """
    part = few_shot_part(task)
    rows = encoded_rows(base, [part], count, chat=chat, seed=seed, max_tokens=max_tokens)
    if not rows:
        raise LearningError(task.name, f"has no row of at most {max_tokens} tokens to learn from")
    return rows


def few_shot_part(task: Task) -> tuple[Example, ...]:
    """The rows that few-shot examples are taken from.

    Raises:
        LearningError: there are none.
    """
    part = task.validation or task.train
    if not part:
        raise LearningError(
            task.name,
            "has only test rows, and nothing is ever learned from these",
            fix='Mark some rows with "split": "validation".',
        )
    return part


def drawn(parts: Sequence[Sequence[Example]], seed: int) -> Iterator[Example]:
    """All examples, each part in a random order, one of each part in turn."""
    queues = []
    for part in parts:
        order = list(part)
        random.Random(seed).shuffle(order)  # noqa: S311 - an order of examples, not a secret
        queues.append(iter(order))
    while queues:
        for queue in list(queues):
            example = next(queue, None)
            if example is None:
                queues.remove(queue)
            else:
                yield example


def _prompt(base: BaseModel, example: Example, chat: bool) -> list[int] | None:
    try:
        return encode_prompt(base.tokenizer, example.prompt, chat=chat, max_tokens=base.max_tokens)
    except PromptError:
        return None


def _row(tokenizer: Any, example: Example, chat: bool, max_tokens: int) -> Encoded | None:
    try:
        prompt = encode_prompt(tokenizer, example.prompt, chat=chat)
        ids = prompt + encode_answer(tokenizer, example.target, chat=chat)
    except PromptError:
        return None
    return Encoded(tuple(ids), len(prompt)) if len(ids) <= max_tokens and len(ids) > len(prompt) else None
