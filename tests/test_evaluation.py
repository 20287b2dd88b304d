"""Evaluation: a batch scores like each row alone, stopped runs go on, nothing is scored twice."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from routed_samples import make_adapter, make_update, random_adapter, tiny_library
from scored_samples import ROUTERS, TEXTS, task_of

import explorer
from explorer.adapters.library import Library
from explorer.errors import EvaluationError, SettingsError, TaskDataError
from explorer.evaluation.methods import (
    best_single,
    methods_of,
    oracle,
    own_adapters,
)
from explorer.evaluation.record import (
    summary,
)
from explorer.evaluation.rows import batches_of, rows_of
from explorer.evaluation.run import CellDone, EvaluationDone, RowsLeftOut, RowsScored, evaluate
from explorer.evaluation.scoring import score_rows
from explorer.evaluation.settings import EvaluationSettings
from explorer.evaluation.store import CellStore
from explorer.models.base import BaseModel
from explorer.models.events import Finished
from explorer.models.shapes import linear_shapes
from explorer.routers import Arrow, Base, Single, Uniform
from explorer.routing.router import Router
from explorer.tasks.task import Task

ARCHITECTURES = ["llama", "gpt2", "phi", "gpt_neox", "qwen2", "gemma"]


def library_for(base: BaseModel, count: int = 3) -> Library:
    """Adapters on two linear modules of the model, whatever its architecture."""
    linear = linear_shapes(base.model)
    head = {name: linear[name] for name in list(linear)[:2]}
    return Library([random_adapter(f"adapter-{number}", head, seed=number + 1) for number in range(count)])


@pytest.fixture
def routed(tiny: Callable[[str], BaseModel]) -> explorer.RoutedModel:
    return explorer.RoutedModel(tiny("llama"), tiny_library())


@pytest.mark.parametrize("router", ROUTERS, ids=lambda router: router.label)
def test_a_batch_of_different_lengths_scores_like_each_row_alone(routed: explorer.RoutedModel, router: Router) -> None:
    check_like_alone(routed, router)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_goes_on_from_masked_caches(tiny: Callable[[str], BaseModel], architecture: str) -> None:
    base = tiny(architecture)
    check_like_alone(explorer.RoutedModel(base, library_for(base)), Arrow(top_k=2))


def check_like_alone(routed: explorer.RoutedModel, router: Router) -> None:
    rows = rows_of(routed.base, task_of(), most=10, chat=True, room=12).rows
    scores = score_rows(routed, rows, [router] * len(rows), max_new_tokens=12)
    assert scores is not None
    for row, score in zip(rows, scores, strict=True):
        alone = routed.log_likelihood(row.example.prompt, row.example.target, router)
        assert score.tokens == alone.tokens
        assert score.loss == pytest.approx(-alone.per_token, abs=2e-5)
        events = routed.generate(row.example.prompt, router, max_new_tokens=12)
        (finished,) = [event for event in events if isinstance(event, Finished)]
        assert score.answer == finished.text


def test_rows_of_one_batch_may_have_different_routers(routed: explorer.RoutedModel) -> None:
    rows = rows_of(routed.base, task_of(), most=10, chat=True, room=8).rows
    routers = ROUTERS[: len(rows)]
    mixed = score_rows(routed, rows, routers, max_new_tokens=8)
    assert mixed is not None
    for row, router, score in zip(rows, routers, mixed, strict=True):
        (alone,) = score_rows(routed, [row], [router], max_new_tokens=8) or ()
        assert score.loss == pytest.approx(alone.loss, abs=2e-5)
        assert score.answer == alone.answer


def test_the_share_of_an_adapter_is_the_mean_of_its_weights_in_the_trace(routed: explorer.RoutedModel) -> None:
    router = Arrow(top_k=2)
    rows = rows_of(routed.base, task_of(), most=10, chat=True, room=0).rows
    scores = score_rows(routed, rows, [router] * len(rows), watched=["adapter-2"] * (len(rows) - 1) + [None]) or []
    for row, score in list(zip(rows, scores, strict=True))[:-1]:
        trace = routed.route(row.example.prompt, router)
        place = trace.names.index("adapter-2")
        for layer in ("layer 0", "layer 1"):
            sites = [index for index, site in enumerate(trace.sites) if f"layers.{layer[-1]}." in site]
            assert score.own_share[layer] == pytest.approx(float(trace.weights[sites, :, place].mean()), abs=1e-6)
    assert scores[-1].own_share == {}


def test_rows_that_do_not_fit_are_left_out_and_the_next_ones_taken(tiny: Callable[[str], BaseModel]) -> None:
    base = tiny("llama")
    task = task_of(texts=[("word " * 200, "long"), ("a", "b"), ("c", "d" * 300), ("e", "f"), ("g", "h")])
    found = rows_of(base, task, most=2, chat=True, room=4)
    assert [row.example.prompt for row in found.rows] == ["a", "e"]
    assert found.left_out == (task.test[0], task.test[2])
    assert found.told("t") == "t: 2 rows left out for not fitting the model."
    told = replace(found, left_out=tuple(replace(task.test[0], row=number) for number in range(1, 23))).told("t")
    assert told.endswith(
        "model: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 and 2 more in the file."
    )
    with pytest.raises(TaskDataError, match="no row that fits"):
        rows_of(base, task_of(texts=[("word " * 200, "x")]), most=2, chat=True, room=4)


def test_batches_hold_every_row_once_and_lengths_that_are_alike() -> None:
    draw = random.Random(3)

    class Row:
        def __init__(self, length: int) -> None:
            self.ids = (1,) * length

    rows: Any = [Row(draw.randint(2, 900)) for _ in range(101)]
    batches = batches_of(rows, 8)
    assert sorted(index for batch in batches for index in batch) == list(range(101))
    assert max(map(len, batches)) == 8
    assert all(len(batch) * max(len(rows[index].ids) for index in batch) <= 8192 for batch in batches)
    longest = [max(len(rows[index].ids) for index in batch) for batch in batches]
    shortest = [min(len(rows[index].ids) for index in batch) for batch in batches]
    assert all(low >= high for low, high in zip(shortest, longest[1:], strict=False))


# --- runs


def finished(events: Iterator[Any]) -> EvaluationDone:
    last = list(events)[-1]
    assert isinstance(last, EvaluationDone)
    return last


def test_a_record_holds_what_each_row_gave(routed: explorer.RoutedModel) -> None:
    library = Library([replace(adapter) for adapter in tiny_library()])
    tasks = [task_of("adapter-1"), task_of("other", TEXTS[:3])]
    methods = (*methods_of(library, [Base(), Arrow(top_k=2)]), oracle(library))
    settings = EvaluationSettings(max_new_tokens=6)
    record = finished(evaluate(routed, tasks, methods, settings, own=own_adapters(library))).record
    assert [(cell.method, cell.task) for cell in record.cells] == [
        ("base", "adapter-1"),
        (methods[1].note.key, "adapter-1"),
        (methods[2].note.key, "adapter-1"),
        ("base", "other"),
        (methods[1].note.key, "other"),
    ]
    by_hand = [-routed.log_likelihood(prompt, answer, Single("adapter-1")).per_token for prompt, answer in TEXTS]
    cell = record.cell(methods[2].note.key, "adapter-1")
    assert cell is not None
    assert cell.measures["loss"].mean == pytest.approx(np.mean(by_hand), abs=2e-5)
    assert cell.measures["loss"].error == pytest.approx(np.std(by_hand, ddof=1) / math.sqrt(5), abs=2e-5)
    assert set(cell.measures) == {"loss", "exact_match", "rouge_l"}
    assert cell.own_share == {}  # one adapter alone is no routing
    arrow = record.cell(methods[1].note.key, "adapter-1")
    assert arrow is not None
    assert set(arrow.own_share) == {"layer 0", "layer 1"}
    assert summary(record, methods[2].note.key, "loss", held_out=True) is None  # no oracle for one of the tasks
    assert [task.rows for task in record.tasks] == [5, 3]


def test_what_was_scored_is_not_scored_again(routed: explorer.RoutedModel, tmp_path: Path) -> None:
    methods = methods_of(tiny_library(), [Base(), Uniform()])
    settings = EvaluationSettings(max_new_tokens=4)
    first = list(evaluate(routed, [task_of()], methods, settings, store=CellStore(tmp_path)))
    again = list(evaluate(routed, [task_of()], methods, settings, store=CellStore(tmp_path)))
    assert [event.known for event in again if isinstance(event, CellDone)] == [True, True]
    assert not any(isinstance(event, RowsScored) for event in again)
    assert first[-1] == again[-1]
    other = list(evaluate(routed, [task_of()], methods, replace(settings, rows=2), store=CellStore(tmp_path)))
    assert [event.known for event in other if isinstance(event, CellDone)] == [False, False]


def test_a_stopped_run_keeps_what_it_finished_and_goes_on(routed: explorer.RoutedModel, tmp_path: Path) -> None:
    methods = methods_of(tiny_library(), [Base(), Uniform(), Arrow(top_k=2)])
    tasks, settings = [task_of("one"), task_of("two", TEXTS[:2])], EvaluationSettings(max_new_tokens=4)
    whole = finished(evaluate(routed, tasks, methods, settings)).record
    for limit in (1, 7, 20, 40):
        asked = iter(range(limit))
        partly = finished(
            evaluate(
                routed,
                tasks,
                methods,
                settings,
                store=CellStore(tmp_path),
                stop=lambda asked=asked: next(asked, None) is None,  # type: ignore[misc]
            )
        )
        assert partly.record.cells == whole.cells[: len(partly.record.cells)]
        assert partly.stopped == (len(partly.record.cells) < len(whole.cells))
    assert finished(evaluate(routed, tasks, methods, settings, store=CellStore(tmp_path))).record == whole


def test_broken_files_of_the_store_are_done_again(routed: explorer.RoutedModel, tmp_path: Path) -> None:
    methods = methods_of(tiny_library(), [Base()])
    first = finished(evaluate(routed, [task_of()], methods, store=CellStore(tmp_path))).record
    (path,) = (tmp_path / "cells").glob("*.json")
    good = path.read_text()
    for bad in (
        "",
        "[]",
        good[:-9],
        good.replace('"loss": ', '"loss": "x', 1),
        good.replace('"loss": ', '"loss": NaN, "was": ', 1),
        good.replace('"own_share": {}', '"own_share": {"layer 0": NaN}', 1),
        good.replace('"own_share": {}', '"own_share": {"layer 0": "nan"}', 1),
        good.replace('"own_share": {}', f'"own_share": {{"layer 0": {10**400}}}', 1),
        good.replace('"loss": ', '"loss": -', 1),
        good.replace('"loss": ', '"loss": 1e300, "was": ', 1),
    ):
        assert bad != good
        path.write_text(bad)
        assert finished(evaluate(routed, [task_of()], methods, store=CellStore(tmp_path))).record == first


def test_rows_left_out_are_told(routed: explorer.RoutedModel) -> None:
    tasks = [task_of("long", [("word " * 300, "x"), ("a", "b")]), Task("none", "", train=(), test=())]
    events = list(evaluate(routed, tasks, methods_of(tiny_library(), [Base()])))
    told = [event.sentence for event in events if isinstance(event, RowsLeftOut)]
    assert told == [
        "long: 1 row left out for not fitting the model.",
        'none: has no test row. Mark some rows with "split": "test".',
    ]
    with pytest.raises(EvaluationError, match="no task with a usable test row"):
        list(evaluate(routed, tasks[1:], methods_of(tiny_library(), [Base()])))


def test_an_evaluation_of_the_loss_alone_is_of_the_same_rows(routed: explorer.RoutedModel) -> None:
    long = "word " * next(n for n in range(999) if len(routed.base.tokenizer("word " * n)["input_ids"]) > 60)
    tasks, methods = [task_of("t", [(long, "x"), ("a", "b"), ("c", "d")])], methods_of(tiny_library(), [Base()])
    room = routed.base.max_tokens - 60
    settings = [EvaluationSettings(rows=2, max_new_tokens=room, answers=answers) for answers in (True, False)]
    found = [finished(evaluate(routed, tasks, methods, each)).record for each in settings]
    assert found[0].remarks == found[1].remarks != ()
    assert found[0].cells[0].measures["loss"].mean == pytest.approx(found[1].cells[0].measures["loss"].mean)


def test_the_oracle_knows_the_tasks_of_clusters() -> None:
    adapters = [make_adapter(name, {"a": make_update(4, 4, 2, seed)}) for seed, name in enumerate(("c0", "c1", "sums"))]
    notes = [("x", "y"), ("sums", "z"), ()]
    library = Library(
        [
            replace(adapter, notes=replace(adapter.notes, tasks=tasks))
            for adapter, tasks in zip(adapters, notes, strict=True)
        ]
    )
    assert own_adapters(library) == {"x": "c0", "y": "c0", "z": "c1", "sums": "sums"}
    other = replace(adapters[2], notes=replace(adapters[2].notes, tasks=("x",)))
    claims = Library([replace(adapters[0], notes=replace(adapters[0].notes, tasks=("sums",))), other])
    assert own_adapters(claims) == {"sums": "c0", "x": "sums"}, "a name is no claim where the notes say otherwise"
    method = oracle(library)
    assert method.router("z", "?") == Single("c1")
    assert method.router("w", "?") is None
    tuned = Library([replace(adapter, notes=replace(adapter.notes, start="arrow")) for adapter in library.adapters])
    assert oracle(tuned).note.title == "Fine-tuned from arrow"
    assert oracle(tuned).note.uses == "a few examples of the target task"
    assert oracle(tuned).router("z", "?") == Single("c1")
    mixed = Library([*tuned.adapters[:2], adapters[2]])
    assert oracle(mixed).note == oracle(library).note != oracle(tuned).note
    assert best_single(library, {"w": "c0"}, 4).router("w", "?") == Single("c0")


def test_settings_out_of_bounds_are_refused() -> None:
    for wrong in ({"rows": 0}, {"rows": True}, {"max_new_tokens": 5000}, {"rows": "3"}):
        with pytest.raises(SettingsError):
            EvaluationSettings(**wrong)  # type: ignore[arg-type]


def test_values_that_are_not_numbers_stop_the_evaluation(tiny: Callable[[str], BaseModel]) -> None:
    from explorer.errors import BaseModelError

    update = make_update(32, 32, 2, 1)
    endless = replace(update, b=torch.full_like(update.b, 1e38), scale=1e6)
    library = Library([make_adapter("wild", {"model.layers.0.self_attn.q_proj": endless})])
    routed = explorer.RoutedModel(tiny("llama"), library)
    with pytest.raises(BaseModelError, match="not numbers"):
        list(evaluate(routed, [task_of()], methods_of(library, [Uniform()])))
