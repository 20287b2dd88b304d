"""Evaluation: a batch scores like each row alone, metrics equal the reference packages', stopped runs go on."""

from __future__ import annotations

import json
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

import explorer
from explorer.adapters.library import Library
from explorer.errors import EvaluationError, SettingsError, TaskDataError
from explorer.evaluation import metrics
from explorer.evaluation.merging import merged
from explorer.evaluation.methods import (
    best_single,
    methods_of,
    oracle,
    own_adapters,
    router_from_spec,
    router_identity,
)
from explorer.evaluation.record import (
    ORACLE_TITLE,
    Cell,
    EvaluationRecord,
    Measure,
    MethodNote,
    TaskNote,
    macro_mean,
    read_record,
    summary,
    write_record,
)
from explorer.evaluation.rows import batches_of, rows_of
from explorer.evaluation.run import CellDone, EvaluationDone, RowsLeftOut, RowsScored, evaluate
from explorer.evaluation.scoring import RowScore, score_rows
from explorer.evaluation.settings import EvaluationSettings
from explorer.evaluation.store import CellStore
from explorer.evaluation.table import markdown, overview, task_table
from explorer.evaluation.transfer import Losses, best_adapters, likeness_foretells, losses_under_each, transfer_of
from explorer.models.base import BaseModel
from explorer.models.events import Finished
from explorer.models.shapes import linear_shapes
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
ARCHITECTURES = ["llama", "gpt2", "phi", "gpt_neox", "qwen2", "gemma"]


def task_of(name: str = "sums", texts: list[tuple[str, str]] = TEXTS, **more: Any) -> Task:
    return Task(name, "words", train=(), test=tuple(Example(*pair) for pair in texts), **more)


def library_for(base: BaseModel, count: int = 3) -> Library:
    """Adapters on two linear modules of the model, whatever its architecture."""
    linear = linear_shapes(base.model)
    head = {name: linear[name] for name in list(linear)[:2]}
    return Library([random_adapter(f"adapter-{number}", head, seed=number + 1) for number in range(count)])


@pytest.fixture
def routed(tiny: Callable[[str], BaseModel]) -> explorer.RoutedModel:
    return explorer.RoutedModel(tiny("llama"), tiny_library())


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
    assert found.left_out == 2
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


# --- metrics


def test_rouge_l_is_that_of_the_reference_package_with_the_best_reference() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    draw = random.Random(1)
    words = [
        "The",
        "cats",
        "are",
        "running;",
        "a",
        "dog",
        "ran",
        "over",
        "12",
        "hills,",
        "happily",
        "sitting",
        "—",
        "naïve",
        "café",
    ]
    for _ in range(50):
        answer, *references = (" ".join(draw.choices(words, k=draw.randint(0, 12))) for _ in range(4))
        expected = max(scorer.score(reference, answer)["rougeL"].fmeasure for reference in references)
        assert metrics.rouge_l(answer, references) == expected


def test_rouge_l_by_hand() -> None:
    # longest common subsequence "the cat sat" of 3 in an answer of 4 and a reference of 6: P 3/4, R 1/2, F 3/5
    assert metrics.rouge_l("the cat sat down", ["the big cat sat on it"]) == pytest.approx(0.6)
    assert metrics.rouge_l("", ["something"]) == 0


def test_exact_match_is_equality_up_to_white_space_at_the_ends() -> None:
    assert metrics.exact_match(" 42\n", ["41", "42"]) == 1
    assert metrics.exact_match("42.", ["42"]) == 0
    assert metrics.exact_match("Paris", ["paris"]) == 0


def test_standard_errors_are_those_of_a_sample() -> None:
    values = [0.5, 1.5, 4.0, 2.0]
    found = metrics.measure_of(values)
    assert (found.mean, found.n) == (2.0, 4)
    assert found.error == pytest.approx(np.std(values, ddof=1) / 2)
    assert metrics.measure_of([3.0]) == Measure(3.0, None, 1)
    both = macro_mean([Measure(1.0, 0.3, 10), Measure(3.0, 0.4, 20)])
    assert both is not None
    assert (both.mean, both.n) == (2.0, 30)
    assert both.error == pytest.approx(0.25)
    assert macro_mean([Measure(1.0, None, 1), Measure(3.0, 0.4, 20)]) == Measure(2.0, None, 21)
    assert macro_mean([]) is None


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
    for bad in ("", "[]", good[:-9], good.replace('"loss": ', '"loss": "x', 1), good.replace("0.", "NaN, 0.", 1)):
        path.write_text(bad)
        assert finished(evaluate(routed, [task_of()], methods, store=CellStore(tmp_path))).record == first


def test_rows_left_out_are_told(routed: explorer.RoutedModel) -> None:
    tasks = [task_of("long", [("word " * 300, "x"), ("a", "b")]), Task("none", "", train=(), test=())]
    events = list(evaluate(routed, tasks, methods_of(tiny_library(), [Base()])))
    told = [event.sentence for event in events if isinstance(event, RowsLeftOut)]
    assert told == [
        "long: 1 rows were left out, because they do not fit the model.",
        'none: has no test row. Mark some rows with "split": "test".',
    ]
    with pytest.raises(EvaluationError, match="no task with a usable test row"):
        list(evaluate(routed, tasks[1:], methods_of(tiny_library(), [Base()])))


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
    method = oracle(library)
    assert method.router("z", "?") == Single("c1")
    assert method.router("w", "?") is None
    assert best_single(library, {"w": "c0"}).router("w", "?") == Single("c0")


# --- routers by their specification


def test_specs_make_the_routers_they_name() -> None:
    assert router_from_spec("arrow") == Arrow()
    assert router_from_spec("arrow:top_k=1, temperature=0.5,per_prompt=true") == Arrow(
        top_k=1, temperature=0.5, per_prompt=True
    )
    assert router_from_spec("single:name=my=adapter") == Single("my=adapter")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nothing", "is not known. Choose from: arrow"),
        ("arrow:top_q=1", "has no setting 'top_q'"),
        ("arrow:top_k=one", "expected a whole number, found 'one'"),
        ("arrow:top_k=0", "expected a whole number from 1"),
        ("arrow:per_prompt=maybe", "expected true or false"),
        ("arrow:top_k", "expected settings as NAME=VALUE, found 'top_k'"),
        ("Arrow!", "expected NAME or NAME:SETTING=VALUE"),
        ("single", "needs 'name'"),
        ("weighted:weights=1", "cannot be given here"),
    ],
)
def test_wrong_specs_are_refused_in_words(spec: str, says: str) -> None:
    with pytest.raises(SettingsError) as found:
        router_from_spec(spec)
    assert says in found.value.sentence


def test_identities_differ_exactly_where_routers_do() -> None:
    routers = [*ROUTERS, Arrow(top_k=3), Arrow(top_k=3, temperature=0.5), Single("adapter-2")]
    assert len({router_identity(router) for router in routers}) == len(routers)
    assert router_identity(Arrow(top_k=3)) == router_identity(Arrow(temperature=1.0, top_k=3))


# --- records


def sample_record() -> EvaluationRecord:
    methods = (MethodNote("base", "Base model", ""), MethodNote("L: Arrow", "Arrow", "L", "hash", "nothing"))
    tasks = (TaskNote("one", "f", False, 3, "h1"), TaskNote("two", "", True, 4, "h2"))
    cells = (
        Cell("base", "one", {"loss": Measure(2.0, 0.1, 3)}),
        Cell("L: Arrow", "one", {"loss": Measure(1.0, None, 1), "rouge_l": Measure(0.5, 0.1, 3)}, {"layer 0": 0.25}),
        Cell("base", "two", {"loss": Measure(3.0, 0.2, 4)}),
    )
    return EvaluationRecord("m", methods, tasks, cells, {"rows": 4}, {"torch": "2"}, ("A remark.",))


def test_a_record_comes_back_as_it_was_written(routed: explorer.RoutedModel, tmp_path: Path) -> None:
    losses = transfer_losses(routed)
    similarity = explorer.similarity(tiny_library())
    transfer = transfer_of(losses, similarity, explorer.cluster(similarity, 2), {"one": "adapter-1"})
    record = replace(sample_record(), transfer=transfer)
    write_record(record, tmp_path / "evaluation.json")
    assert read_record(tmp_path / "evaluation.json") == record


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(format=9),
        lambda data: data.pop("cells"),
        lambda data: data["methods"].append(data["methods"][0]),
        lambda data: data["cells"][0]["measures"]["loss"].update(mean="2"),
        lambda data: data["cells"][0]["measures"]["loss"].update(mean=math.inf),
        lambda data: data["cells"][0]["measures"]["loss"].update(n=True),
        lambda data: data["tasks"][0].update(held_out=1),
        lambda data: data["tasks"].append([]),
        lambda data: data.update(transfer={"tasks": []}),
    ],
)
def test_other_files_are_no_records(change: Callable[[Any], Any], tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_record(sample_record(), path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(EvaluationError, match=r"evaluation\.json: is not an evaluation of this program"):
        read_record(path)
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(EvaluationError):
        read_record(path)


def test_two_evaluations_become_one_table_unless_they_differ_in_what_was_asked() -> None:
    old = sample_record()
    new = replace(
        old,
        methods=(MethodNote("M: Uniform", "Uniform", "M"),),
        tasks=old.tasks[:1],
        cells=(Cell("M: Uniform", "one", {"loss": Measure(1.5, 0.1, 3)}),),
        remarks=("Another.",),
    )
    both = merged(old, new)
    assert [method.key for method in both.methods] == ["base", "L: Arrow", "M: Uniform"]
    assert both.cells == (*old.cells, *new.cells)
    assert both.tasks == old.tasks
    assert both.remarks == ("A remark.", "Another.")
    with pytest.raises(EvaluationError, match="was made with another setting"):
        merged(old, replace(new, settings={"rows": 5}))
    with pytest.raises(EvaluationError, match="'one': has other rows"):
        merged(old, replace(new, tasks=(replace(old.tasks[0], test_hash="h9"),)))


# --- transfer


def transfer_losses(routed: explorer.RoutedModel, store: CellStore | None = None) -> Losses:
    rows = {
        name: rows_of(routed.base, task_of(name, texts), most=2, chat=True, room=0).rows
        for name, texts in (("one", TEXTS[:2]), ("two", TEXTS[2:]))
    }
    work = losses_under_each(routed, rows, tiny_library(), store=store)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def test_the_transfer_matrix_is_the_loss_of_each_task_under_each_adapter(
    routed: explorer.RoutedModel, tmp_path: Path
) -> None:
    losses = transfer_losses(routed, CellStore(tmp_path))
    for task, texts in enumerate((TEXTS[:2], TEXTS[2:4])):
        for place, router in enumerate([Base(), *map(Single, routed.names)]):
            by_hand = np.mean([-routed.log_likelihood(*pair, router).per_token for pair in texts])
            found = losses.base[task] if place == 0 else losses.values[task, place - 1]
            assert found == pytest.approx(by_hand, abs=2e-5)
    kept = transfer_losses(routed, CellStore(tmp_path))
    assert np.array_equal(kept.values, losses.values)
    assert best_adapters(losses) == {
        task: losses.adapters[int(row.argmin())] for task, row in zip(losses.tasks, losses.values, strict=True)
    }


def test_likeness_that_orders_the_losses_is_found_and_chance_is_not() -> None:
    generator = np.random.default_rng(5)
    points = generator.normal(size=(12, 3))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    names = tuple(f"a{number}" for number in range(12))
    losses = Losses(names, names, distance * np.arange(1, 13)[:, None], np.full(12, 9.0), (1,) * 12)
    own = list(range(12))
    assert likeness_foretells(losses, -distance, own) == (pytest.approx(1.0), 0.001)
    rho, p_value = likeness_foretells(losses, generator.normal(size=(12, 12)), own)
    assert rho is not None and p_value is not None
    assert abs(rho) < 0.3 and p_value > 0.05
    from scipy.stats import spearmanr

    likeness = generator.normal(size=(12, 12))
    slow = [
        spearmanr(np.delete(likeness[place], place), -np.delete(losses.values[place], place)).statistic
        for place in range(12)
    ]
    assert likeness_foretells(losses, likeness, own)[0] == pytest.approx(np.mean(slow))
    assert likeness_foretells(losses, likeness, [None] * 10 + [1, 2]) == (None, None)


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


def test_scores_are_plain_data() -> None:
    assert vars(RowScore(1.0, 2)) == {"loss": 1.0, "tokens": 2, "answer": None, "own_share": {}}


def test_the_overview_tells_how_much_of_the_gap_each_method_recovers() -> None:
    losses = {"base": 4.0, "L: Arrow": 2.5, "L: oracle": 1.0}
    titles = {"base": "Base model", "L: Arrow": "Arrow | best", "L: oracle": ORACLE_TITLE}
    record = EvaluationRecord(
        "m",
        tuple(MethodNote(key, title, "" if key == "base" else "L") for key, title in titles.items()),
        (TaskNote("one", "f", False, 3, "h1"), TaskNote("two", "", True, 4, "h2")),
        (
            *(Cell(key, "one", {"loss": Measure(loss, 0.5, 3)}) for key, loss in losses.items()),
            Cell("base", "two", {"loss": Measure(3.0, None, 1)}),
            Cell("L: Arrow", "two", {"loss": Measure(2.0, 0.25, 4), "exact_match": Measure(0.5, 0.1, 4)}),
        ),
    )
    assert markdown(overview(record)).splitlines() == [
        "| router | library | in-distribution loss | of the gap | held-out loss | held-out exact match |",
        "|---|---|---|---|---|---|",
        "| Base model |  | 4.000 ± 0.500 | 0% | 3.000 | – |",
        "| Arrow \\| best | L | 2.500 ± 0.500 | 50% | **2.000 ± 0.250** | **0.500 ± 0.100** |",
        f"| {ORACLE_TITLE} | L | **1.000 ± 0.500** | 100% | – | – |",
    ]
    assert task_table(record, "loss", held_out=True).rows[0] == ("Base model", "", "3.000", "3.000")
