"""Answers as they come: generation events gathered into a column, its token ids and its trace."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from explorer.models.events import Finished, FinishReason, GenerationEvent, PromptRead, TokenEmitted, TokenRouted
from explorer.routing.trace import RoutingTrace
from explorer.ui.answers import ColumnState
from explorer.ui.options import LIMITS
from explorer.ui.state import Column

#: Numbers of a trace that can be drawn anew each second while it grows.
DRAWN_A_SECOND = 40_000_000


class Pace:
    """Lets an update through at most so many times a second."""

    def __init__(self, per_second: float = LIMITS.updates_per_second) -> None:
        self.pause = 1.0 / per_second
        self._last = 0.0

    def is_due(self) -> bool:
        """Whether enough time has passed since it last said yes."""
        now = time.monotonic()
        if now - self._last < self.pause:
            return False
        self._last = now
        return True


class AnswerStream:
    """One answer in the making."""

    def __init__(self, label: str) -> None:
        self.column = Column(label, state="waiting", tokens=0)
        self.ids: list[int] = []
        self.finished: Finished | None = None
        self._traces: list[RoutingTrace] = []
        self._began = time.monotonic()
        self._pace = Pace()

    @property
    def seconds(self) -> float:
        """Since the start, or how long the answer took."""
        return self.finished.seconds if self.finished is not None else time.monotonic() - self._began

    def take(self, event: GenerationEvent) -> None:
        """Add one event of this answer's row."""
        if isinstance(event, PromptRead):
            self._began = time.monotonic() - event.seconds
            self.column = replace(self.column, state="running")
            if event.trace is not None:
                self._traces = [event.trace]
        elif isinstance(event, TokenEmitted):
            self.ids.append(event.token_id)
            text = self.column.text + event.text
            self.column = replace(self.column, text=text, tokens=len(self.ids), seconds=self.seconds)
        elif isinstance(event, TokenRouted):
            self._traces.append(event.trace)
        elif isinstance(event, Finished):
            self.finished = event
            state: ColumnState = "stopped" if event.reason is FinishReason.STOPPED else "done"
            self.column = replace(self.column, text=event.text, state=state, tokens=event.tokens, seconds=event.seconds)

    def end(self, *, stopped: bool) -> None:
        """No more events: an answer that did not finish was stopped, or failed."""
        if self.finished is None:
            self.column = replace(self.column, state="stopped" if stopped else "failed")

    def is_due(self) -> bool:
        """Whether the page should be told; long texts of large libraries are drawn less often."""
        numbers = sum(trace.weights.size for trace in self._traces)
        self._pace.pause = max(1.0 / LIMITS.updates_per_second, numbers / DRAWN_A_SECOND)
        return self._pace.is_due()

    def trace(self) -> RoutingTrace | None:
        """The routing of the prompt and of the tokens so far."""
        if len(self._traces) > 1:
            self._traces = [joined(self._traces)]
        return self._traces[0] if self._traces else None


def joined(traces: list[RoutingTrace]) -> RoutingTrace:
    """Traces of the same sites and adapters, one after the other (one copy, where `extended` would make one each)."""
    return replace(
        traces[0],
        tokens=tuple(token for trace in traces for token in trace.tokens),
        token_ids=tuple(token for trace in traces for token in trace.token_ids),
        weights=np.concatenate([trace.weights for trace in traces], axis=1),
        scores=np.concatenate([trace.scores for trace in traces], axis=1),
        typed=tuple(typed for trace in traces for typed in trace.typed),
    )


def departure(first: list[int], other: list[int], *, ended: bool) -> int | None:
    """The first token (from 0) at which `other` is not `first`; None where they agree as far as both go.

    Args:
        first: token ids of the first column.
        other: token ids of another.
        ended: both are complete, so that a longer one departs where the shorter one ends.
    """
    for place, (one, two) in enumerate(zip(first, other, strict=False)):
        if one != two:
            return place
    return min(len(first), len(other)) if ended and len(first) != len(other) else None
