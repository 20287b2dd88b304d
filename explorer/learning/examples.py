"""Which examples teach what: those of each adapter's own tasks, or a few of one target task. Never a test row."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from explorer.adapters.adapter import Adapter
from explorer.adapters.wording import shown
from explorer.errors import LearningError, PromptError
from explorer.models.base import BaseModel
from explorer.models.chat import encode_answer, encode_prompt
from explorer.models.routed_model import RoutedModel
from explorer.tasks.task import Example, Task
from explorer.training.batches import Encoded

Found = TypeVar("Found")


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
    """Token ids of `count` prompts of the tasks' training rows that fit the model (fewer where there are fewer).

    Raises:
        LearningError: none fits.
    """
    fitting = (_prompt(base, example, chat) for example in drawn([task.train for task in tasks], seed))
    return _some(islice(filter(None, fitting), count), tasks, base.max_tokens)


def own_rows(
    base: BaseModel, tasks: Sequence[Task], count: int, *, chat: bool, seed: int, longest: int
) -> list[Encoded]:
    """`count` training rows of the tasks, with their answers, of at most `longest` tokens (fewer if there are fewer).

    Raises:
        LearningError: none fits.
    """
    return _rows(base, tasks, [task.train for task in tasks], count, chat, seed, longest)


def few_shot(base: BaseModel, task: Task, count: int, *, chat: bool, seed: int, longest: int) -> list[Encoded]:
    """`count` examples of a target task, of at most `longest` tokens: validation rows, else training rows.

    Raises:
        LearningError: it has neither, or none fits.
    """
    return _rows(base, [task], [few_shot_part(task)], count, chat, seed, longest)


def _rows(
    base: BaseModel,
    tasks: Sequence[Task],
    parts: Sequence[Sequence[Example]],
    count: int,
    chat: bool,
    seed: int,
    longest: int,
) -> list[Encoded]:
    limit = min(longest, base.max_tokens)
    fitting = (_row(base.tokenizer, example, chat, limit) for example in drawn(parts, seed))
    return _some(islice(filter(None, fitting), count), tasks, limit)


def _some(found: Iterable[Found | None], tasks: Sequence[Task], limit: int) -> list[Found]:
    kept = [one for one in found if one is not None]
    if not kept:
        raise LearningError(
            listed([task.name for task in tasks]), f"has no row of at most {limit} tokens to learn from"
        )
    return kept


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
