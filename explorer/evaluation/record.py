"""What an evaluation found, as plain data: measures of every method on every task, each with its standard error.

The file that holds it comes from other people as often as from us: it is read with distrust, and whatever is not as
expected ends in one sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.adapters.wording import clean_line
from explorer.errors import EvaluationError

FORMAT = 1
FILE = "evaluation.json"
MAX_BYTES = 32 << 20
#: No measure, error or number of rows comes near to it; what does would only break sums and pictures.
LARGEST = 1e12
MEASURES = ("loss", "exact_match", "rouge_l")
LOWER_IS_BETTER = frozenset({"loss"})
METHOD_TEXTS = ("key", "title", "library", "library_hash", "uses")
#: What measures can be: a loss is 0 or more, the others are shares.
HIGHEST = {"loss": LARGEST, "exact_match": 1.0, "rouge_l": 1.0}
ORACLE_TITLE = "Oracle: the task's own"
TITLES = {"loss": "Loss (nats per token)", "exact_match": "Exact match", "rouge_l": "ROUGE-L"}


@dataclass(frozen=True)
class Measure:
    """A mean over `n` rows; `error` is its standard error (None for fewer than two rows)."""

    mean: float
    error: float | None
    n: int


@dataclass(frozen=True)
class MethodNote:
    """One method: a router on a library.

    Attributes:
        key: how cells name it.
        title: how a table names it, for example "Arrow, top 4, T 1".
        library: title of its library ("" for the base model alone).
        library_hash: its content ("" for the base model alone).
        uses: "" where nothing but the library is needed; else what it has to know, for example "the task's name".
        adapters: among how many it chooses (0 where that is not known): one in so many is right by chance.
        identity: a hash of what decides its numbers on every task: two of one key and different hashes are not one
            row of a table ("" where that is not known).
    """

    key: str
    title: str
    library: str
    library_hash: str = ""
    uses: str = ""
    adapters: int = 0
    identity: str = ""


@dataclass(frozen=True)
class TaskNote:
    """One task as it was evaluated; `rows` of its test part were used."""

    name: str
    family: str
    held_out: bool
    rows: int
    test_hash: str


@dataclass(frozen=True)
class Cell:
    """One method on one task.

    Attributes:
        method: the method's key.
        task: the task's name.
        measures: by the names in `MEASURES`; one that was not taken is missing.
        own_share: mean routing weight on the right adapter (or cluster) by layer label, over the prompt's tokens
            and the layer's modules; empty where there is no right one or nothing is routed.
    """

    method: str
    task: str
    measures: Mapping[str, Measure]
    own_share: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Transfer:
    """The loss of every task under every adapter, and whether likeness of adapters foretells it.

    Attributes:
        tasks: of the rows.
        adapters: of the columns.
        loss: mean loss (nats per token), rows by tasks, columns by adapters.
        base_loss: of each task without any adapter.
        rows: how many rows of each task were used.
        own: for each task its own adapter's place, or None.
        clusters: for each adapter the label of its cluster.
        measure: how likeness was measured ("update" or "parameters").
        rank_correlation: Spearman's rho between how alike other adapters are to a task's own and how little the task
            loses under them, within each task, averaged over tasks; None for fewer than three.
        p_value: share of relabelled libraries (Mantel's test) with a rho at least as large; None where rho is.
    """

    tasks: tuple[str, ...]
    adapters: tuple[str, ...]
    loss: tuple[tuple[float, ...], ...]
    base_loss: tuple[float, ...]
    rows: tuple[int, ...]
    own: tuple[int | None, ...]
    clusters: tuple[int, ...]
    measure: str
    rank_correlation: float | None
    p_value: float | None


@dataclass(frozen=True)
class EvaluationRecord:
    """Everything a reader needs to see and repeat an evaluation.

    Attributes:
        base_model: its name.
        base_hash: the content of a base model that came from a folder ("" for one that its name pins).
        methods, tasks, cells: what was evaluated; a pair without a cell was not.
        settings: longest answers and chat template, as plain data (the rows are each task's own).
        versions: of the libraries used.
        remarks: sentences a reader has to know, for example rows that were left out.
        transfer: the transfer matrix, where it was computed.
    """

    base_model: str
    methods: tuple[MethodNote, ...]
    tasks: tuple[TaskNote, ...]
    cells: tuple[Cell, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    transfer: Transfer | None = None
    base_hash: str = ""

    def cell(self, method: str, task: str) -> Cell | None:
        """The cell of a method's key and a task's name, or None."""
        return next((cell for cell in self.cells if (cell.method, cell.task) == (method, task)), None)


def macro_mean(measures: Sequence[Measure]) -> Measure | None:
    """The unweighted mean over tasks, with the standard error that their independent errors give it; None of none."""
    if not measures:
        return None
    mean = sum(measure.mean for measure in measures) / len(measures)
    errors = [measure.error for measure in measures]
    squares = [error**2 for error in errors if error is not None]
    error = math.sqrt(sum(squares)) / len(measures) if len(squares) == len(errors) else None
    return Measure(mean, error, sum(measure.n for measure in measures))


def summary(record: EvaluationRecord, method: str, measure: str, *, held_out: bool) -> Measure | None:
    """A method's mean over all held-out, or all other, tasks; None unless it was measured on every one of them."""
    names = [task.name for task in record.tasks if task.held_out == held_out]
    found = {cell.task: cell.measures[measure] for cell in record.cells if _is(cell, method, measure)}
    return macro_mean([found[name] for name in names]) if names and all(name in found for name in names) else None


def _is(cell: Cell, method: str, measure: str) -> bool:
    return cell.method == method and measure in cell.measures


def write_record(record: EvaluationRecord, path: Path) -> None:
    """Write the record as JSON, a line for each cell."""
    path.write_text(record_text(record), encoding="utf-8")


def record_text(record: EvaluationRecord) -> str:
    """The record as JSON, a line for each cell."""
    lines = [f"{json.dumps(name)}: {_lined(value)}" for name, value in as_data(record).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def as_data(record: EvaluationRecord) -> dict[str, Any]:
    """The record as plain JSON data."""
    transfer = record.transfer
    return {
        "format": FORMAT,
        "base_model": record.base_model,
        **({"base_hash": record.base_hash} if record.base_hash else {}),
        "settings": dict(record.settings),
        "versions": dict(record.versions),
        "remarks": list(record.remarks),
        "methods": [vars(method) for method in record.methods],
        "tasks": [vars(task) for task in record.tasks],
        "cells": [
            {
                "method": cell.method,
                "task": cell.task,
                "measures": {name: vars(measure) for name, measure in cell.measures.items()},
                "own_share": dict(cell.own_share),
            }
            for cell in record.cells
        ],
        "transfer": None if transfer is None else vars(transfer),
    }


def _lined(value: Any) -> str:
    """One entry of a list a line."""
    if not isinstance(value, list) or not value:
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in value) + "\n]"


def read_record(path: Path) -> EvaluationRecord:
    """Read what `write_record` wrote.

    Raises:
        EvaluationError: no such file, or not such a record.
    """
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
            fix = "Make an evaluation with `evaluate`, and give its folder or its evaluation.json."
            raise EvaluationError(path.name, "is not a file that can be read as an evaluation", fix=fix)
        data = json.loads(path.read_bytes())
        return _record(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise EvaluationError(
            path.name, "is not an evaluation of this program", fix="Move it away, and make it anew with `evaluate`."
        ) from error


def _record(data: Any) -> EvaluationRecord:
    if _count(data["format"]) != FORMAT:
        raise ValueError(data["format"])
    methods = tuple(
        MethodNote(
            **{name: clean_line(_typed(entry[name], str), 200) for name in METHOD_TEXTS},
            adapters=_count(entry.get("adapters", 0)),
            identity=clean_line(_typed(entry.get("identity", ""), str), 100),
        )
        for entry in data["methods"]
    )
    tasks = tuple(
        TaskNote(
            clean_line(_typed(entry["name"], str), 200),
            clean_line(_typed(entry["family"], str), 100),
            _typed(entry["held_out"], bool),
            _count(entry["rows"]),
            clean_line(_typed(entry["test_hash"], str), 100),
        )
        for entry in data["tasks"]
    )
    known = {method.key for method in methods}, {task.name for task in tasks}
    if len(known[0]) != len(methods) or len(known[1]) != len(tasks):
        raise ValueError("two of one name")
    cells = tuple(cell for cell in _cells(data["cells"]) if cell.method in known[0] and cell.task in known[1])
    if len({(cell.method, cell.task) for cell in cells}) != len(cells):
        raise ValueError("two cells of one method and task")
    return EvaluationRecord(
        base_model=clean_line(_typed(data["base_model"], str), 200),
        methods=methods,
        tasks=tasks,
        cells=cells,
        settings={clean_line(name, 50): _setting(value) for name, value in data["settings"].items()},
        versions={clean_line(name, 50): clean_line(_typed(text, str), 50) for name, text in data["versions"].items()},
        remarks=tuple(clean_line(_typed(text, str), 1000) for text in data["remarks"]),
        transfer=None if data["transfer"] is None else _transfer(data["transfer"]),
        base_hash=clean_line(_typed(data.get("base_hash", ""), str), 100),
    )


def _setting(value: Any) -> bool | float | str:
    """A setting is a flag, a number or a word."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_line(value, 200)
    return value if isinstance(value, int) and _number(value) == value else _number(value)


def _cells(entries: Any) -> Iterator[Cell]:
    for entry in entries:
        measures = {
            name: Measure(_within(found["mean"], HIGHEST[name]), _error(found["error"]), _count(found["n"]))
            for name, found in entry["measures"].items()
            if name in MEASURES
        }
        share = {clean_line(layer, 200): _number(value) for layer, value in entry["own_share"].items()}
        yield Cell(clean_line(entry["method"], 200), clean_line(entry["task"], 200), measures, share)


def _transfer(data: Any) -> Transfer:
    tasks = tuple(clean_line(_typed(name, str), 200) for name in data["tasks"])
    adapters = tuple(clean_line(_typed(name, str), 200) for name in data["adapters"])
    loss = tuple(tuple(_number(value) for value in row) for row in data["loss"])
    base_loss = tuple(_number(value) for value in data["base_loss"])
    rows = tuple(_count(value) for value in data["rows"])
    own = tuple(None if place is None else _typed(place, int) for place in data["own"])
    clusters = tuple(_typed(label, int) for label in data["clusters"])
    if not len(tasks) == len(loss) == len(base_loss) == len(rows) == len(own):
        raise ValueError("tasks")
    if len(clusters) != len(adapters) or any(len(row) != len(adapters) for row in loss):
        raise ValueError("adapters")
    if any(place is not None and not 0 <= place < len(adapters) for place in own):
        raise ValueError("own")
    return Transfer(
        tasks=tasks,
        adapters=adapters,
        loss=loss,
        base_loss=base_loss,
        rows=rows,
        own=own,
        clusters=clusters,
        measure=clean_line(_typed(data["measure"], str), 50),
        rank_correlation=_number_or_none(data["rank_correlation"]),
        p_value=_number_or_none(data["p_value"]),
    )


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(value)
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise TypeError(value)
    return float(value)


def _within(value: Any, highest: float) -> float:
    if not 0 <= _number(value) <= highest:
        raise ValueError(value)
    return float(value)


def _count(value: Any) -> int:
    if not 0 <= _typed(value, int) <= LARGEST:
        raise ValueError(value)
    return int(value)


def _error(value: Any) -> float | None:
    found = _number_or_none(value)
    if found is not None and found < 0:
        raise ValueError(value)
    return found


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)
