"""A task's test rows as token ids, and the batches they are scored in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from explorer.errors import PromptError, TaskDataError
from explorer.models.base import BaseModel
from explorer.models.chat import encode_answer, encode_prompt
from explorer.tasks.task import Example, Task

MOST_TOLD = 20  # rows that are named
MOST_TOKENS = 8192  # in one batch, filling included: bounds the memory of a pass


@dataclass(frozen=True)
class TestRow:
    """One example: ids of prompt and answer, of which the first `prompt_length` are the prompt."""

    __test__ = False  # not a test, whatever its name makes pytest think

    example: Example
    ids: tuple[int, ...]
    prompt_length: int

    @property
    def prompt(self) -> tuple[int, ...]:
        """The prompt's ids."""
        return self.ids[: self.prompt_length]

    @property
    def answer(self) -> tuple[int, ...]:
        """The reference answer's ids, its end token included."""
        return self.ids[self.prompt_length :]


@dataclass(frozen=True)
class TestRows:
    """The rows used, in file order, and those before the last of them that were left out because they do not fit."""

    __test__ = False

    rows: tuple[TestRow, ...]
    left_out: tuple[Example, ...] = ()

    def told(self, task: str) -> str:
        """Which were left out, in words."""
        known = [f"{example.row:,}" for example in self.left_out if example.row]
        more = f" and {len(known) - MOST_TOLD} more" if len(known) > MOST_TOLD else ""
        which = f": {', '.join(known[:MOST_TOLD])}{more} in the file" if known else ""
        count = f"{len(self.left_out)} row{'s' * (len(self.left_out) > 1)}"
        return f"{task}: {count} left out for not fitting the model{which}."


def rows_of(
    base: BaseModel, task: Task, *, most: int, chat: bool, room: int, part: Sequence[Example] | None = None
) -> TestRows:
    """The first `most` rows of a part that fit the model with `room` tokens for an answer.

    Args:
        base: whose tokenizer and length count.
        task: the task.
        most: how many rows at most.
        chat: in the chat template.
        room: tokens to keep free after each prompt.
        part: the examples (by default the test part).

    Raises:
        TaskDataError: there is none.
    """
    examples = task.test if part is None else part
    if not examples:
        raise TaskDataError(task.name, "has no test row", fix='Mark some rows with "split": "test".')
    left_out: list[Example] = []

    def fitting() -> Any:
        for example in examples:
            row = _encoded(base, example, chat=chat, room=room)
            if row is None:
                left_out.append(example)
            else:
                yield row

    rows = tuple(islice(fitting(), most))
    if not rows:
        raise TaskDataError(task.name, f"has no row that fits the model's {base.max_tokens} tokens")
    return TestRows(rows, tuple(left_out))


def _encoded(base: BaseModel, example: Example, *, chat: bool, room: int) -> TestRow | None:
    try:
        prompt = encode_prompt(base.tokenizer, example.prompt, chat=chat)
        answer = encode_answer(base.tokenizer, example.target, chat=chat)
    except PromptError:
        return None
    if not answer or len(prompt) + max(room, len(answer)) > base.max_tokens:
        return None
    return TestRow(example, (*prompt, *answer), len(prompt))


def batches_of(rows: Sequence[TestRow], batch_rows: int) -> list[list[int]]:
    """Indices of the rows of each batch: similar lengths together, `batch_rows` and `MOST_TOKENS` at most."""
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index].ids), index), reverse=True)
    batches: list[list[int]] = []
    for index in order:
        if batches and len(batches[-1]) < batch_rows:
            longest = len(rows[batches[-1][0]].ids)
            if (len(batches[-1]) + 1) * longest <= MOST_TOKENS:
                batches[-1].append(index)
                continue
        batches.append([index])
    return batches
