"""What an evaluation tells: metrics like the reference packages, routers by specification, records and tables."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routed_samples import tiny_library
from scored_samples import ROUTERS

import explorer
from explorer.errors import EvaluationError, SettingsError
from explorer.evaluation import metrics
from explorer.evaluation.merging import merged
from explorer.evaluation.methods import (
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
    write_record,
)
from explorer.evaluation.scoring import RowScore
from explorer.evaluation.table import markdown, overview, plain, task_table
from explorer.evaluation.transfer import Losses, transfer_of
from explorer.routers import Arrow, Single

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


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    losses = Losses(("one", "two"), tiny_library().names, np.arange(10.0).reshape(2, 5), np.ones(2), (3, 4))
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
        lambda data: data.update(format=True),
        lambda data: data["cells"].append(data["cells"][0]),
        lambda data: data["cells"][0]["measures"]["loss"].update(mean=-0.1),
        lambda data: data["cells"][1]["measures"]["rouge_l"].update(mean=1.01),
        lambda data: data.update(settings={"rows": [4]}),
        lambda data: data.update(settings={"rows": 10**400}),
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
    write_record(sample_record(), path)
    path.write_text(path.read_text().replace('"rows": 4', '"note": "\\ud800"', 1))
    assert str(read_record(path).settings["note"]).isprintable()
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
    with pytest.raises(EvaluationError, match="was made when the base model was another"):
        merged(old, replace(new, base_hash="abc"))


def test_what_only_shares_a_title_does_not_share_a_row() -> None:
    old = sample_record()
    arrow = old.methods[1]
    with pytest.raises(EvaluationError, match=r"Library 'L': is another of this title .* in its library\.json"):
        merged(old, replace(old, methods=(replace(arrow, library_hash="other"),)))
    known = replace(old, methods=(old.methods[0], replace(arrow, identity="abc")))
    assert merged(old, known).methods == known.methods, "older records do not know it"
    with pytest.raises(EvaluationError, match="'Arrow': is not the one of this title"):
        merged(known, replace(old, methods=(replace(arrow, identity="abd"),)))


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
    upside_down = replace(
        record,
        cells=tuple(
            replace(cell, measures={"loss": Measure(5.0 - cell.measures["loss"].mean, None, 1)})
            for cell in record.cells
        ),
    )
    assert "of the gap" not in overview(upside_down).header, "an oracle that is worse than nothing leaves no gap"
    held_out = task_table(record, "loss", held_out=True).rows
    assert held_out[0] == ("Base model", "", "3.000", "3.000")
    assert [row[0] for row in held_out] == ["Base model", "Arrow | best"], "no row of dashes"
    needy = replace(record, methods=(*record.methods[:2], replace(record.methods[2], uses="the task's name")))
    assert overview(needy).header[:4] == ("router", "library", "needs", "in-distribution loss")
    assert [row[2] for row in overview(needy).rows] == ["–", "–", "the task's name"]


def test_names_are_text_in_a_table_whatever_they_look_like() -> None:
    names = ["<img src=x>", "**a** [b](c)", "_x_ `y`", "two_words|three"]
    methods = tuple(MethodNote(name, name, "") for name in names)
    record = EvaluationRecord(
        "m",
        methods,
        (TaskNote("<b>*t*", "", True, 1, "h"),),
        (*(Cell(name, "<b>*t*", {"loss": Measure(1.0 + place, None, 1)}) for place, name in enumerate(names)),),
    )
    table = task_table(record, "loss", held_out=True)
    lines = markdown(table).splitlines()
    assert lines[0] == "| router | library | mean of 1 | &lt;b&gt;\\*t\\* |"
    assert [line.split(" |  |")[0] for line in lines[2:]] == [
        "| &lt;img src=x&gt;", "| \\*\\*a\\*\\* \\[b\\](c)", "| \\_x\\_ \\`y\\`", "| two_words\\|three",
    ]  # fmt: skip
    assert [row[0] for row in plain(table)] == names
    assert plain(table)[0][2] == "1.000"
