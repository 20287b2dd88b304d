"""What the Evaluate tab makes of a record: numbers as a slow way gives them, hostile text harmless, sizes bounded."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from evaluation_samples import FAMILIES, make_evaluation
from ui_samples import make_record

from explorer.errors import EvaluationError
from explorer.evaluation.record import (
    Cell,
    EvaluationRecord,
    Measure,
    MethodNote,
    TaskNote,
    Transfer,
    read_record,
    write_record,
)
from explorer.ui import evaluation_pictures
from explorer.ui.evaluation_board import MOST_METHODS, MOST_TASKS, best_rows, board_of, tint
from explorer.ui.evaluation_csv import table_csv
from explorer.ui.evaluation_table import BEST, BEST_FREE, table_html
from explorer.ui.evaluation_view import BrokenRow, EvaluationView, OwnResult, UserFile
from explorer.ui.evaluation_words import correlation_text, details_html, file_html, heading_html
from explorer.ui.figures.method_means import means_figure
from explorer.ui.figures.own_shares import own_shares_figure
from explorer.ui.figures.transfer import transfer_figure
from explorer.ui.palette import INK
from explorer.ui.stored_evaluation import stored_evaluation

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def record() -> EvaluationRecord:
    return make_evaluation()


def means_by_hand(record: EvaluationRecord, key: str, measure: str, *, held_out: bool) -> float | None:
    found = []
    for task in record.tasks:
        if task.held_out != held_out:
            continue
        cell = record.cell(key, task.name)
        if cell is None:
            return None
        found.append(cell.measures[measure].mean)
    return sum(found) / len(found)


@pytest.mark.parametrize("measure", ["loss", "exact_match", "rouge_l"])
def test_the_board_holds_every_cell_and_the_means_of_a_plain_loop(record: EvaluationRecord, measure: str) -> None:
    board = board_of(record, measure, "all")
    assert board.parts == ("in_distribution", "held_out")
    assert [task.name for task in board.tasks] == [task.name for task in record.tasks]
    for row in board.rows:
        for part, mean in zip(board.parts, row.means, strict=True):
            expected = means_by_hand(record, row.method.key, measure, held_out=part == "held_out")
            assert (None if mean is None else mean.mean) == pytest.approx(expected)
        for task, value in zip(board.tasks, row.cells, strict=True):
            cell = record.cell(row.method.key, task.name)
            assert value == (None if cell is None else cell.measures[measure])


def test_a_part_has_its_own_columns_and_families_stand_together(record: EvaluationRecord) -> None:
    shuffled = replace(record, tasks=tuple(sorted(record.tasks, key=lambda task: task.name[::-1])))
    held, trained = (board_of(shuffled, "loss", part) for part in ("held_out", "in_distribution"))
    assert {task.held_out for task in held.tasks} == {True}
    assert {task.held_out for task in trained.tasks} == {False}
    families = [task.family for task in trained.tasks]
    assert len(list(dict.fromkeys(families))) == 1 + sum(a != b for a, b in pairwise(families))


def test_the_gap_goes_from_nothing_at_base_to_all_at_the_oracle(record: EvaluationRecord) -> None:
    gaps = {row.method.key: row.gap for row in board_of(record, "rouge_l", "held_out").rows}
    assert gaps["base"] == 0
    assert gaps["Private adapters: Oracle: the task's own"] == 1
    base, oracle, arrow = (
        means_by_hand(record, key, "loss", held_out=False) or 0.0
        for key in ("base", "Private adapters: Oracle: the task's own", "Private adapters: Arrow, top 4, T 1")
    )
    assert gaps["Private adapters: Arrow, top 4, T 1"] == pytest.approx((base - arrow) / (base - oracle))
    for gone in ("base", "Private adapters: Oracle: the task's own", "MBC, 10 clusters: Oracle: the task's own"):
        record = replace(record, cells=tuple(cell for cell in record.cells if cell.method != gone))
    assert {row.gap for row in board_of(record, "loss", "all").rows} == {None}


def test_the_best_is_marked_and_so_is_the_best_that_needs_nothing() -> None:
    notes = [
        MethodNote("base", "Base", ""),
        MethodNote("o", "Oracle", "lib", uses="the name"),
        MethodNote("a", "A", "lib"),
    ]
    record = EvaluationRecord(
        "m",
        tuple(notes),
        (TaskNote("t", "f", False, 4, ""),),
        tuple(
            Cell(note.key, "t", {"loss": Measure(loss, 0.1, 4), "exact_match": Measure(hits, None, 4)})
            for note, loss, hits in zip(notes, (2.0, 0.5, 1.0), (0.5, 0.25, 0.5), strict=True)
        ),
    )
    rows = board_of(record, "loss", "all").rows
    assert best_rows(rows, [row.cells[0] for row in rows], "loss") == (1, 2)
    rows = board_of(record, "exact_match", "all").rows
    assert best_rows(rows, [row.cells[0] for row in rows], "exact_match") == (0, 0)
    assert best_rows(rows, [rows[0].cells[0], None, None], "exact_match") == (None, None)
    html = table_html(board_of(record, "loss", "all"))
    assert f'0.50<span aria-label="best">{BEST}</span></b>' in html
    assert f'1.00<span aria-label="best">{BEST_FREE}</span></b>' in html
    assert "needs the name" in html
    assert 'title="A on t: 1.00 ± 0.10 nats per token, n = 4"' in html


def test_tints_go_both_ways_about_the_base_model() -> None:
    def at(value: float) -> Measure:
        return Measure(value, None, 1)

    assert tint(at(1.0), at(2.0), "loss") == 0.5
    assert tint(at(9.0), at(2.0), "loss") == -1.0
    assert tint(at(0.75), at(0.5), "rouge_l") == 0.25
    assert tint(None, at(1.0), "loss") == tint(at(1.0), None, "loss") == tint(at(1.0), at(0.0), "loss") == 0.0


def hostile() -> EvaluationRecord:
    """A record whose every text is an attack."""
    method = MethodNote(EVIL, EVIL, EVIL, EVIL, EVIL, 3)
    task = TaskNote(EVIL, EVIL, False, 5, EVIL)
    cell = Cell(EVIL, EVIL, {"loss": Measure(1.0, 0.1, 5)}, {EVIL: 0.5})
    transfer = Transfer((EVIL,), (EVIL,), ((1.0,),), (2.0,), (5,), (0,), (0,), EVIL, 0.5, 0.5)
    settings = {EVIL: EVIL, "deep": {"a": [1]}, "many": 10**400, "rows": 5}
    return EvaluationRecord(EVIL, (method,), (task,), (cell,), settings, {EVIL: EVIL}, (EVIL,), transfer)


def test_hostile_texts_are_escaped_everywhere() -> None:
    file = UserFile(EVIL, (), (BrokenRow(3, EVIL),))
    view = EvaluationView(stored=hostile(), file=file, own=OwnResult(EVIL, hostile()), problem=EVIL)
    for shown in (view, replace(view, shows_own=True), replace(view, stored=None)):
        parts = evaluation_pictures.evaluation(shown, make_record())
        assert set(parts) == set(evaluation_pictures.EVALUATION_PARTS)
        html = " ".join(value for value in parts.values() if isinstance(value, str))
        assert "<img" not in html
        for name in ("scores_means", "scores_share", "transfer"):
            if parts[name] is not None:
                assert "<img" not in json.dumps(parts[name].to_plotly_json(), default=str)


def test_a_record_of_any_size_makes_a_page_of_bounded_size() -> None:
    methods = tuple(MethodNote(f"m{index}", f"m{index}", "lib", "h") for index in range(MOST_METHODS + 5))
    tasks = tuple(TaskNote(f"t{index}", f"f{index}", False, 1, "") for index in range(MOST_TASKS + 7))
    cells = tuple(
        Cell(method.key, task.name, {"loss": Measure(1.0, None, 1)}, {f"layer {n}": 0.1 for n in range(3)})
        for method in methods
        for task in tasks[:2]
    )
    board = board_of(EvaluationRecord("b", methods, tasks, cells), "loss", "all")
    assert (len(board.rows), len(board.tasks)) == (MOST_METHODS, MOST_TASKS)
    assert (board.hidden_methods, board.hidden_tasks) == (5, 7)
    assert "5 methods and 7 tasks more in the JSON" in table_html(board)
    wide = tuple(f"a{index}" for index in range(300))
    matrix = Transfer(
        wide, wide, ((0.0,) * 300,) * 300, (0.0,) * 300, (1,) * 300, (None,) * 300, (0,) * 300, "", None, None
    )
    assert "too large" in transfer_figure(matrix).layout.annotations[0].text
    rows = UserFile("f.csv", (), tuple(BrokenRow(row, "bad") for row in range(1000)))
    assert file_html(rows).count("<tr>") < 60
    assert "950 more" in file_html(rows)
    remarks = details_html(EvaluationRecord("b", (), (), (), remarks=("x",) * 100))
    assert "80 more" in remarks


def test_the_csv_says_the_same_numbers_and_starts_no_formula(record: EvaluationRecord) -> None:
    names = ("=1+1", "+a", "-b", "@c", "\tx", "＝d", " =e")
    methods = [replace(method, title=name) for method, name in zip(record.methods, names, strict=False)]
    tasks = [replace(record.tasks[0], name="=cmd()"), *record.tasks[1:]]
    cells = [replace(cell, task="=cmd()") if cell.task == record.tasks[0].name else cell for cell in record.cells]
    changed = replace(record, methods=(*methods, *record.methods[7:]), tasks=tuple(tasks), cells=tuple(cells))
    board = board_of(changed, "loss", "all")
    lines = list(csv.reader(io.StringIO(table_csv(board))))
    assert len(lines) == 1 + len(board.rows)
    assert len({len(line) for line in lines}) == 1
    assert "'=cmd()" in lines[0]
    for line, row in zip(lines[1:], board.rows, strict=True):
        assert not any(text.startswith(("=", "+", "-", "@", "\t", "＝", " =")) for text in (*lines[0], *line[:3]))
        values = [*row.means, *row.cells]
        for place, value in enumerate(values):
            mean, error, count = line[4 + 3 * place : 7 + 3 * place]
            if value is None:
                assert (mean, error, count) == ("", "", "")
            else:
                assert float(mean) == pytest.approx(value.mean, rel=1e-5)
                assert int(count) == value.n


def test_the_means_are_drawn_with_their_errors_between_base_and_oracle(record: EvaluationRecord) -> None:
    board = board_of(record, "loss", "in_distribution")
    drawn = means_figure(board, "in_distribution")
    assert list(drawn.data[0].x) == [row.means[0].mean for row in board.rows if row.means[0] is not None]
    assert list(drawn.data[0].error_x.array) == [row.means[0].error for row in board.rows if row.means[0] is not None]
    assert {note.text for note in drawn.layout.annotations} == {"base", "oracle"}
    assert "of the gap" in drawn.data[0].customdata[2]
    both = means_figure(board_of(record, "loss", "all"), "all")
    assert [trace.name for trace in both.data] == ["In-distribution", "Held-out"]
    assert len(both.layout.shapes) == 0
    empty = board_of(replace(record, cells=()), "loss", "all")
    assert "No method" in means_figure(empty, "all").layout.annotations[0].text


def test_shares_are_means_over_tasks_with_the_chance_of_each_library(record: EvaluationRecord) -> None:
    drawn = own_shares_figure(record, {})
    key = "Private adapters: Arrow, top 4, T 1"
    found = [cell.own_share["layer 3"] for cell in record.cells if cell.method == key and cell.own_share]
    arrow = next(trace for trace in drawn.data if trace.name.startswith("Arrow") and "Private" in trace.name)
    assert arrow.customdata[3][2] == pytest.approx(sum(found) / len(found))
    assert arrow.y[3] ** 2 == pytest.approx(arrow.customdata[3][2]), "heights are roots"
    assert [height**2 for height in drawn.layout.yaxis.tickvals] == pytest.approx(
        [0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1]
    )
    assert list(drawn.layout.yaxis.ticktext) == ["0%", "1%", "5%", "10%", "20%", "40%", "60%", "80%", "100%"]
    assert arrow.customdata[10][1] == "layer 10", "layers stand in natural order"
    assert [note.text for note in drawn.layout.annotations] == ["chance, 1 of 5", f"chance, 1 of {len(record.tasks)}"]
    unknown = replace(record, methods=tuple(replace(method, adapters=0) for method in record.methods))
    assert [note.text for note in own_shares_figure(unknown, {"ab" * 32: 7}).layout.annotations] == ["chance, 1 of 7"]
    assert not own_shares_figure(replace(record, cells=()), {}).data


def test_the_matrix_stands_by_cluster_with_each_tasks_own_adapter_outlined() -> None:
    transfer = Transfer(
        tasks=("held", "b", "a", "c"),
        adapters=("c", "b", "a"),
        loss=((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (7.0, 8.0, 9.0), (0.1, 0.2, 0.3)),
        base_loss=(1.0, 5.0, 9.0, 0.5),
        rows=(4, 4, 4, 4),
        own=(None, 1, 2, 0),
        clusters=(1, 0, 0),
        measure="update",
        rank_correlation=0.5,
        p_value=0.01,
    )
    drawn = transfer_figure(transfer)
    assert list(drawn.layout.xaxis.ticktext) == ["a", "b", "c"]
    assert list(drawn.layout.yaxis.ticktext) == ["a", "b", "c", "held"]
    assert [list(row) for row in drawn.data[0].z] == [[0, -1, -2], [1, 0, -1], [-0.2, -0.3, -0.4], [2, 1, 0]]
    assert drawn.data[0].zmin == -drawn.data[0].zmax < 0
    framed = [(s.x0, s.y0) for s in drawn.layout.shapes if s.type == "rect" and s.line.color == INK and s.yref is None]
    assert framed == [(-0.5, -0.5), (0.5, 0.5), (1.5, 1.5)]
    across = [shape.y0 for shape in drawn.layout.shapes if shape.type == "line" and shape.xref == "paper"]
    assert across == [1.5, 2.5], "one line between the clusters, one above the tasks without an adapter"
    plain = transfer_figure(transfer, as_loss=True)
    assert list(plain.data[0].z[0]) == [9, 8, 7]
    assert plain.data[0].zmin == 0


@pytest.mark.parametrize(
    ("rho", "p", "words"),
    [
        (0.7, 0.001, "foretells transfer here (strong)"),
        (0.4, 0.04, "foretells transfer here (moderate)"),
        (0.4, 0.06, "No sign that likeness"),
        (-0.7, 0.99, "No sign that likeness"),
        (0.5, None, "Likeness of adapters by whole updates"),
        (None, None, "Too few adapters"),
    ],
)
def test_the_correlation_is_told_in_words(rho: float | None, p: float | None, words: str) -> None:
    transfer = Transfer(("t",), ("a",), ((1.0,),), (1.0,), (1,), (0,), (0,), "update", rho, p)
    assert words in correlation_text(transfer)
    assert rho is None or f"rho = {rho:.2f}" in correlation_text(transfer)


def test_an_evaluation_in_a_folder_is_read_or_refused_in_words(tmp_path: Path, record: EvaluationRecord) -> None:
    for empty in (stored_evaluation(None), stored_evaluation(tmp_path)):
        assert (empty.stored, empty.problem) == (None, "")
    write_record(record, tmp_path / "evaluation.json")
    assert stored_evaluation(tmp_path).stored == record
    (tmp_path / "evaluation.json").write_text('{"format": 1, "methods": [[[')
    bad = stored_evaluation(tmp_path)
    assert bad.stored is None
    assert bad.problem.startswith("evaluation.json: is not an evaluation of this program.")
    assert bad.problem in heading_html(bad, "")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("mean", 1e300),
        ("mean", float("nan")),
        ("error", -0.5),
        ("error", 1e300),
        ("n", -1),
        ("n", 10**30),
        ("n", True),
        ("mean", "1"),
    ],
)
def test_numbers_that_nobody_measured_are_refused(tmp_path: Path, place: str, value: object) -> None:
    write_record(make_evaluation(per_family=2, layers=1), tmp_path / "evaluation.json")
    data = json.loads((tmp_path / "evaluation.json").read_text())
    assert [entry["adapters"] for entry in data["methods"]][:2] == [0, 2 * len(FAMILIES)]
    data["cells"][0]["measures"]["loss"][place] = value
    (tmp_path / "evaluation.json").write_text(json.dumps(data))
    with pytest.raises(EvaluationError):
        read_record(tmp_path / "evaluation.json")


def test_a_record_of_other_adapters_is_said_to_be_one(record: EvaluationRecord) -> None:
    view = EvaluationView(stored=record)
    assert "are not those that were evaluated" not in heading_html(view, "ab" * 32)
    assert "are not those that were evaluated" in heading_html(view, "00" * 32)
    assert "No evaluation lies in this library" in heading_html(EvaluationView(), "00" * 32)
