"""A task: prompts with their reference answers, in three parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Example:
    """One prompt and its reference answer; `others` are further answers that are as good.

    `row` is its row in its file (0: not known), for what is told about it; examples are equal by their content.
    """

    prompt: str
    target: str
    others: tuple[str, ...] = ()
    row: int = field(default=0, compare=False)

    @property
    def answers(self) -> tuple[str, ...]:
        """Every accepted answer, the reference first, each once."""
        return tuple(dict.fromkeys((self.target, *self.others)))


@dataclass(frozen=True)
class Task:
    """All examples of one task, by split, in file order."""

    name: str
    family: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    validation: tuple[Example, ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether there is nothing to train on: a task for zero-shot evaluation."""
        return not self.train

    @property
    def data_hash(self) -> str:
        """SHA-256 over name and every example, so that a card can say what an adapter was trained on."""
        parts = [self.train, self.test] + [self.validation] * bool(self.validation)
        return _digest([self.name, *(_pairs(part) for part in parts)])

    @property
    def test_hash(self) -> str:
        """SHA-256 over name and test rows, further answers included: what an evaluation depends on."""
        return _digest([self.name, [[e.prompt, *e.answers] for e in self.test]])


def _pairs(examples: Sequence[Example]) -> list[list[str]]:
    return [[example.prompt, example.target] for example in examples]


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()
