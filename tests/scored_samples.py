"""Rows for the tests of evaluation, short and long and beyond ASCII, and routers of every kind."""

from __future__ import annotations

from typing import Any

from explorer.routers import Arrow, Base, CalibratedArrow, Lag, LinearMerge, Single, SpectR, Ties, Uniform
from explorer.routing.router import Router
from explorer.tasks.task import Example, Task

TEXTS = [
    ("what is one and two", "three"),
    ("the sea", "a story about the lazy dog and the quick fox"),
    ("a", "b"),
    ("jump over the quick brown dog and tell me what the sum of one and two is", "no"),
    ("über größe, naïve 日本", "ja – наверно"),
]


def task_of(name: str = "sums", texts: list[tuple[str, str]] = TEXTS, **more: Any) -> Task:
    return Task(name, "words", train=(), test=tuple(Example(*pair) for pair in texts), **more)


ROUTERS: list[Router] = [
    Base(),
    Uniform(),
    Arrow(top_k=2),
    Arrow(top_k=2, per_prompt=True),
    CalibratedArrow(top_k=1, per_prompt=True),
    SpectR(top_k=2),
    Lag(),
    Single("adapter-1"),
    LinearMerge(),
    Ties(),
]
