"""Which rows train and which test: decided by a hash of the source text, then drawn in a seeded order.

A text that several tasks ask about (one paragraph, five questions) has the same source everywhere, so it falls on the
same side in all of them: what is tested in one task trains none. The order and the choice are those in which the
sample library's rows were drawn, and must stay so: shipped adapters were trained on exactly these rows.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from explorer.tasks.task import Example, Task

MOST_ANSWERS = 8
NOT_PLAIN = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Item:
    """A prompt with every reference answer (repeated ones included), and the source text that decides its side."""

    prompt: str
    answers: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Draw:
    """How rows are drawn.

    Args:
        test_share: percent of the sources that are for testing; 100 leaves nothing to train on.
        rounds: references of one prompt that may each make a training row; the first of all prompts come first.
        train_rows: most rows that train.
        test_rows: most rows that test.
        seed: of the order.
    """

    test_share: int = 12
    rounds: int = 1
    train_rows: int = 1_200
    test_rows: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Drawn:
    """Rows in their order.

    `tested` holds sources and prompts of the test rows, made plain; `spare` are all items that do not test, in order.
    """

    train: tuple[Example, ...]
    test: tuple[Example, ...]
    tested: frozenset[str]
    spare: tuple[Item, ...]

    def task(self, name: str, family: str, *, held_out: bool = False) -> Task:
        """The task; a held-out one has no training rows."""
        return Task(name, family, train=() if held_out else self.train, test=self.test)


def plain(text: str) -> str:
    """A text by which two prompts about the same thing are recognised: lower case, letters and digits only."""
    return NOT_PLAIN.sub(" ", text.lower()).strip()


def percent(source: str) -> int:
    """From 0 to 99, the same on every machine and spread evenly over texts."""
    return int(hashlib.md5(source.encode(), usedforsecurity=False).hexdigest()[:8], 16) % 100


def drawn(items: Iterable[Item], draw: Draw) -> Drawn:
    """Split by source, shuffle each side, and take what is asked for."""
    chance = random.Random(draw.seed)  # noqa: S311 - an order that can be repeated, not a secret
    learn, test = _sides(items, draw.test_share)
    chance.shuffle(learn)
    chance.shuffle(test)
    asked = {item.prompt for item in test}
    learn = [item for item in learn if item.prompt not in asked]
    train = _rounds(learn, draw)
    chance.shuffle(train)
    merged = _merged(test)
    kept, left = merged[: draw.test_rows], merged[draw.test_rows :]
    tested = frozenset(text for item in kept for text in (item.source, plain(item.prompt)))
    return Drawn(tuple(train), tuple(_test_row(item) for item in kept), tested, (*learn, *left))


def _sides(items: Iterable[Item], test_share: int) -> tuple[list[Item], list[Item]]:
    """Items to learn from, and items to be tested on."""
    sides: tuple[list[Item], list[Item]] = ([], [])
    for item in items:
        sides[percent(item.source) < test_share].append(item)
    return sides


def _rounds(items: Sequence[Item], draw: Draw) -> list[Example]:
    """The first reference of each item, then the second of each, each pair once."""
    pairs = (
        (item.prompt, item.answers[turn]) for turn in range(draw.rounds) for item in items if turn < len(item.answers)
    )
    return [Example(prompt, answer) for prompt, answer in dict.fromkeys(pairs)][: draw.train_rows]


def _merged(items: Sequence[Item]) -> list[Item]:
    """Items with the same prompt become one, with the answers of all, each once."""
    found: dict[str, Item] = {}
    for item in items:
        before = found.get(item.prompt)
        answers = dict.fromkeys([*(before.answers if before else ()), *item.answers])
        found[item.prompt] = Item(item.prompt, tuple(answers), item.source)
    return list(found.values())


def _test_row(item: Item) -> Example:
    kept = item.answers[:MOST_ANSWERS]
    return Example(item.prompt, kept[0], kept if len(kept) > 1 else ())


def spare_rows(drawn: Drawn, tested: frozenset[str], most: int) -> tuple[Example, ...]:
    """Further rows that no test row is about, each prompt once: examples for routers that need some.

    Args:
        drawn: of a task without training rows.
        tested: of every task that has test rows (:attr:`Drawn.tested`, united).
        most: how many.
    """
    free = (item for item in _merged(drawn.spare) if not _texts(item) & tested)
    return tuple(_test_row(item) for item in itertools.islice(free, most))


def _texts(item: Item) -> frozenset[str]:
    """What an item may be recognised by: one task's answer is another's question, but a single word says nothing."""
    answers = (plain(answer) for answer in item.answers)
    return frozenset([item.source, plain(item.prompt), *(answer for answer in answers if " " in answer)])
