"""What the Evaluate tab of one session shows, as one frozen value: whose results, which measure, which tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from explorer.evaluation.record import MEASURES, EvaluationRecord
from explorer.tasks.task import Task

Part = Literal["held_out", "in_distribution", "all"]
#: Which tasks have a column, in words.
PARTS: dict[Part, str] = {"held_out": "Held-out", "in_distribution": "In-distribution", "all": "All"}
RunState = Literal["running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class BrokenRow:
    """A row of a user's file that cannot be evaluated."""

    row: int
    reason: str


@dataclass(frozen=True, eq=False)
class UserFile:
    """A user's rows.

    Attributes:
        name: of the file, fit to be shown.
        tasks: what can be evaluated, by its test rows.
        broken: the rows that cannot.
        kept_back: how many rows are for training or validation, and so are not evaluated.
        ignored: columns that mean nothing here.
        nbytes: size of the file, and about that of the rows.
    """

    name: str
    tasks: tuple[Task, ...]
    broken: tuple[BrokenRow, ...] = ()
    kept_back: int = 0
    ignored: tuple[str, ...] = ()
    nbytes: int = 0

    @property
    def rows(self) -> int:
        """How many can be evaluated."""
        return sum(len(task.test) for task in self.tasks)


@dataclass(frozen=True, eq=False)
class OwnResult:
    """What came of evaluating a user's file, so far."""

    name: str
    record: EvaluationRecord
    state: RunState = "running"


@dataclass(frozen=True, eq=False)
class EvaluationView:
    """The Evaluate tab.

    Attributes:
        stored: the evaluation that lies in the open library, if any.
        problem: why the one that lies there cannot be read ("" where it can, or where there is none).
        own: the latest result of the user's own file.
        file: the user's rows.
        shows_own: whether `own` is shown and not `stored`.
        measure: one of `explorer.evaluation.record.MEASURES`.
        part: which tasks have a column.
        as_loss: whether the transfer matrix shows losses and not differences to the base model's.
    """

    stored: EvaluationRecord | None = None
    problem: str = ""
    own: OwnResult | None = None
    file: UserFile | None = None
    shows_own: bool = False
    measure: str = MEASURES[0]
    part: Part = "held_out"
    as_loss: bool = False

    @property
    def record(self) -> EvaluationRecord | None:
        """The results shown."""
        return self.own.record if self.own is not None and self.shows_own else self.stored

    @property
    def shown_part(self) -> Part:
        """The chosen part, or the one that has tasks."""
        kinds = {task.held_out for task in self.record.tasks} if self.record is not None else set()
        if self.part == "all" or len(kinds) != 1:
            return self.part
        return "held_out" if kinds == {True} else "in_distribution"
