"""The Evaluate tab at work: stored evaluations come with their library, a user's file is scored as by the engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from adapter_files import write_adapter, zip_folder
from evaluation_samples import make_evaluation

from explorer.adapters.sources import open_folder, open_zip
from explorer.errors import EvaluationError, SettingsError, TaskDataError
from explorer.evaluation.methods import methods_of
from explorer.evaluation.record import EvaluationRecord, read_record, write_record
from explorer.evaluation.run import EvaluationDone, evaluate
from explorer.evaluation.settings import EvaluationSettings
from explorer.models.base import BaseModel
from explorer.routers import Arrow, Base, Single
from explorer.ui import evaluate_acts, evaluate_file_acts, intake, page_acts
from explorer.ui.controls import SETTINGS
from explorer.ui.desk import Desk
from explorer.ui.engine import Engine
from explorer.ui.evaluate_file_acts import evaluate_file, read_file
from explorer.ui.evaluation_pictures import OWN, STORED
from explorer.ui.evaluation_run import time_left
from explorer.ui.evaluation_view import OwnResult
from explorer.ui.holding import Holding
from explorer.ui.options import LIMITS, PageOptions
from explorer.ui.sessions import Session

SITES = {f"model.layers.{layer}.self_attn.q_proj": (3, 32, 32) for layer in range(2)}
NAMES = ("add", "plural", "negate")
ROWS = "prompt,target,task\nwhat is one and two,three,add\nthe sea,a story,tale\n,nothing,add\nthe fox,jumps,tale\n"


@pytest.fixture
def desk(tmp_path: Path, tiny: Callable[[str], BaseModel]) -> Desk:
    """A page with three adapters of the tiny model, and an evaluation in their folder."""
    for seed, name in enumerate(NAMES):
        write_adapter(tmp_path / "mine" / name, SITES, seed=seed)
    write_record(make_evaluation(per_family=2, layers=2), tmp_path / "mine" / "evaluation.json")
    options = PageOptions(library=str(tmp_path / "mine"), host="127.0.0.1")
    made = Desk(options, Engine(lambda *_, **__: tiny("llama")), tmp_path / "none")
    made.shared()
    return made


@pytest.fixture
def session(desk: Desk) -> Iterator[Session]:
    opened = desk.sessions.get("a")
    yield opened
    opened.close()


def asked(routers: Any = ("base", "arrow"), adapter: Any = "add", rows: Any = 8, tokens: Any = 4) -> list[Any]:
    """The values of the tab's controls; answers are written, in the chat template."""
    keys = list(routers) if isinstance(routers, tuple) else routers
    return [keys, adapter, rows, tokens, True, True, "arrow", *(entry.default for _, entry in SETTINGS.values())]


def upload(tmp_path: Path, text: str = ROWS, name: str = "mine.csv") -> str:
    """A file where gradio would have put it."""
    folder = tmp_path / "gradio" / "upload"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def given(desk: Desk, session: Session, tmp_path: Path, text: str = ROWS) -> list[dict[str, Any]]:
    return list(read_file(desk, session, upload(tmp_path, text)))


def own(session: Session) -> OwnResult:
    assert session.view.evaluation.own is not None
    return session.view.evaluation.own


def test_a_stored_evaluation_comes_with_its_library_and_goes_with_it(
    desk: Desk, session: Session, tmp_path: Path
) -> None:
    stored = read_record(tmp_path / "mine" / "evaluation.json")
    assert session.view.evaluation.record == stored
    other = tmp_path / "other"
    for seed, name in enumerate(NAMES):
        write_adapter(other / name, SITES, seed=seed + 5)
    list(intake.read_source(desk, session, str(other)))
    shown = list(intake.open_candidate(desk, session))[-1]
    assert session.view.evaluation.record is None
    assert "No evaluation lies in this library" in shown["scores_head"]
    assert shown["scores_views"]["visible"] is False


def test_the_evaluation_of_a_zip_is_read_before_its_files_go(tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        write_adapter(tmp_path / "src" / name, SITES, seed=seed)
    record = make_evaluation(per_family=2, layers=1)
    write_record(record, tmp_path / "src" / "evaluation.json")
    plain = Holding(open_folder(tmp_path / "src"), trusted=False)
    zipped = Holding(open_zip(zip_folder(tmp_path / "src", tmp_path / "mine.zip")), trusted=False)
    assert zipped.evaluation().stored == record
    zipped.close()
    assert zipped.evaluation().stored == record
    (tmp_path / "src" / "evaluation.json").unlink()
    assert plain.nbytes > Holding(open_folder(tmp_path / "src"), trusted=False).nbytes


def test_looking_changes_measure_and_columns_and_nonsense_changes_nothing(desk: Desk, session: Session) -> None:
    shown = evaluate_acts.look(desk, session, STORED, "rouge_l", "in_distribution")
    assert "ROUGE-L" in shown["scores_table"]
    assert (session.view.evaluation.measure, session.view.evaluation.part) == ("rouge_l", "in_distribution")
    evaluate_acts.look(desk, session, OWN, "rouge_l", ["nonsense"])
    assert not session.view.evaluation.shows_own, "there is no result of a file yet"
    assert session.view.evaluation.part == "in_distribution"
    with pytest.raises(SettingsError, match="Measure"):
        evaluate_acts.look(desk, session, STORED, "speed", "all")
    assert evaluate_acts.look_at_transfer(desk, session, True)["transfer"].data[0].zmin == 0


def test_the_downloads_hold_what_is_shown(desk: Desk, session: Session, tmp_path: Path) -> None:
    saved = evaluate_acts.save_json(desk, session)
    assert saved["scores_file_text"] == (tmp_path / "mine" / "evaluation.json").read_text(encoding="utf-8")
    saved = evaluate_acts.save_csv(desk, session)
    assert saved["scores_file_name"] == "evaluation-loss.csv"
    assert saved["scores_file_text"].count("\n") == 1 + len(make_evaluation().methods)
    empty = Session(session.view)
    evaluate_acts.change(empty, stored=None)
    with pytest.raises(EvaluationError, match="has nothing to hold yet"):
        evaluate_acts.save_csv(desk, empty)


def test_an_uploaded_file_is_read_its_broken_rows_named_and_the_upload_removed(
    desk: Desk, session: Session, tmp_path: Path
) -> None:
    shown = given(desk, session, tmp_path)[-1]
    file = session.view.evaluation.file
    assert file is not None
    assert {task.name: len(task.test) for task in file.tasks} == {"add": 1, "tale": 2}
    assert len(file.broken) == 1
    assert f"<td>{file.broken[0].row}</td>" in shown["scores_file"]
    assert "3 rows of mine.csv can be evaluated. 1 row cannot" in shown["status"]
    assert not (tmp_path / "gradio" / "upload").exists()
    assert session.nbytes == file.nbytes == len(ROWS)


def test_rows_for_training_and_unknown_columns_are_told(desk: Desk, session: Session, tmp_path: Path) -> None:
    text = "prompt,target,split,<b>mood</b>\na,b,test,x\nc,d,train,y\ne,f,validation,z\n"
    shown = given(desk, session, tmp_path, text)[-1]["scores_file"]
    assert "1 row of 1 task can be evaluated. 2 rows for training or validation will not be evaluated." in shown
    assert "Columns that are not read: &lt;b&gt;mood&lt;/b&gt;." in shown
    with pytest.raises(TaskDataError, match="has no row to test"):
        given(desk, session, tmp_path, "prompt,target,split\na,b,train\n")


@pytest.mark.parametrize("path", [None, 5, "", "no such file.csv", ["a.csv"]])
def test_an_upload_that_did_not_arrive_is_told(desk: Desk, session: Session, path: Any) -> None:
    with pytest.raises(TaskDataError, match="did not arrive"):
        list(read_file(desk, session, path))


def test_a_file_with_too_many_tasks_is_refused_and_removed(desk: Desk, session: Session, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"prompt": "a", "target": "b", "task": f"t{n}"}) for n in range(LIMITS.file_tasks + 1))
    path = upload(tmp_path, lines, "many.jsonl")
    with pytest.raises(TaskDataError, match=f"at most {LIMITS.file_tasks} different tasks"):
        list(read_file(desk, session, path))
    assert not Path(path).exists()
    assert session.view.evaluation.file is None


def without_versions(record: EvaluationRecord) -> EvaluationRecord:
    return replace(record, versions={})


def test_a_file_is_evaluated_as_the_engine_does_it(desk: Desk, session: Session, tmp_path: Path) -> None:
    given(desk, session, tmp_path)
    answers = list(evaluate_file(desk, session, *asked(("base", "arrow", "single"), "plural")))
    file, library = session.view.evaluation.file, desk.shared().library
    assert file is not None
    model = desk.routed(session)
    methods = methods_of(library, [Base(), Arrow(), Single("plural")])
    events = list(
        evaluate(model, file.tasks, methods, EvaluationSettings(rows=8, max_new_tokens=4), own={"add": "add"})
    )
    assert isinstance(events[-1], EvaluationDone)
    assert without_versions(own(session).record) == without_versions(events[-1].record)
    assert own(session).state == "done"
    assert session.view.evaluation.shows_own
    tables = [answer["scores_table"] for answer in answers if "scores_table" in answer]
    assert len(set(tables)) == len(tables) - 1 == 7, "one of nothing, one for each result; the last is the whole"
    assert any("of 9 rows" in answer.get("status", "") for answer in answers)
    assert "6 results" in answers[-1]["status"]
    assert not evaluate_acts.look(desk, session, STORED, "loss", "all")["scores_head"].startswith("Your file")
    assert session.view.evaluation.record == session.view.evaluation.stored


def test_a_row_too_long_for_the_model_is_named_and_the_others_are_evaluated(
    desk: Desk, session: Session, tmp_path: Path
) -> None:
    given(desk, session, tmp_path, f"prompt,target\n,x\nthe sea,a\n{'word ' * 300},b\nthe fox,c\n")
    answers = list(evaluate_file(desk, session, *asked(("base",))))
    record = own(session).record
    assert [task.rows for task in record.tasks] == [2]
    assert record.remarks == ("mine: 1 row left out for not fitting the model: 4 in the file.",)
    assert "4 in the file" in str(answers[-1])


def test_stop_keeps_the_results_that_were_done(desk: Desk, session: Session, tmp_path: Path) -> None:
    given(desk, session, tmp_path)
    answers = evaluate_file(desk, session, *asked())
    for answer in answers:
        if "scores_table" in answer and own(session).record.cells:
            break
    session.stop()
    rest = list(answers)
    assert own(session).state == "stopped"
    assert 1 <= len(own(session).record.cells) < 4
    assert "Stopped. The table keeps" in rest[-1]["status"]
    evaluate_acts.change(session, own=replace(own(session), state="running"))
    session.begin()  # as long as the step that is being computed
    threading.Timer(0.2, session.stop().done.set).start()
    assert "stopped before its end" in page_acts.stop(desk, session)["scores_head"]


def test_a_page_that_was_left_stops_its_work(desk: Desk, session: Session, tmp_path: Path) -> None:
    given(desk, session, tmp_path)
    before = threading.active_count()
    answers = evaluate_file(desk, session, *asked())
    while "scores_table" not in next(answers):
        pass
    run = session.stop()
    run.stop.clear()
    answers.close()  # type: ignore[attr-defined]
    assert run.stop.is_set()
    assert run.done.is_set()
    assert threading.active_count() <= before


def test_the_result_of_another_library_does_not_come_back(desk: Desk, session: Session, tmp_path: Path) -> None:
    given(desk, session, tmp_path)
    answers = evaluate_file(desk, session, *asked())
    while "scores_table" not in next(answers):
        pass
    for seed, name in enumerate(NAMES):
        write_adapter(tmp_path / "other" / name, SITES, seed=seed + 5)
    list(intake.read_source(desk, session, str(tmp_path / "other")))
    list(intake.open_candidate(desk, session))
    assert not any("scores_table" in answer for answer in answers)
    assert session.view.evaluation.own is None
    assert session.view.evaluation.file is not None, "the user's rows stay"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (asked([]), "1 to 8 of them"),
        (asked(None), "1 to 8 of them"),
        (asked(["base"] * 9), "1 to 8 of them"),
        (asked(["rm -rf"]), "Router"),
        (asked([["base"]]), "Router"),
        (asked(("single",), "nobody"), "not one that can be routed"),
        (asked(("weighted",)), "Weights"),
        (asked(rows=0), "Rows of each task"),
        (asked(rows="8"), "Rows of each task"),
        (asked(tokens=10_000), "Longest answer"),
        (asked(tokens=None), "Longest answer"),
    ],
)
def test_what_cannot_be_evaluated_is_told_before_the_work(
    desk: Desk, session: Session, tmp_path: Path, values: list[Any], words: str
) -> None:
    with pytest.raises(TaskDataError, match="has no rows yet"):
        list(evaluate_file(desk, session, *values))
    given(desk, session, tmp_path)
    with pytest.raises(SettingsError, match=words):
        list(evaluate_file(desk, session, *values))
    assert session.view.evaluation.own is None
    assert session.stop().done.is_set()


def test_work_for_hours_is_refused(desk: Desk, session: Session, tmp_path: Path) -> None:
    rows = LIMITS.scored_rows // 3 + 1
    given(desk, session, tmp_path, "prompt,target\n" + "a,b\n" * rows)
    with pytest.raises(SettingsError, match=r"at most 4,000 rows over all routers, found 4,002"):
        list(evaluate_file(desk, session, *asked(("base", "arrow", "uniform"), rows=LIMITS.file_rows)))


def test_rows_that_do_not_fit_the_model_are_told_and_a_file_of_them_is_refused(
    desk: Desk, session: Session, tmp_path: Path
) -> None:
    given(desk, session, tmp_path, f"prompt,target\n{'word ' * 300},b\na,b\n")
    list(evaluate_file(desk, session, *asked()))
    assert any("left out" in remark for remark in own(session).record.remarks)
    given(desk, session, tmp_path, f"prompt,target\n{'word ' * 300},b\n")
    with pytest.raises(EvaluationError, match="no task with a usable test row"):
        list(evaluate_file(desk, session, *asked()))
    assert own(session).state == "failed"


def test_only_a_single_adapter_needs_a_name(desk: Desk, session: Session) -> None:
    for keys, visible in ((["base", "single"], True), (["base"], False), (None, False)):
        assert evaluate_file_acts.pick_routers(desk, session, keys)["evaluate_adapter"]["visible"] is visible


def test_a_time_is_told_no_finer_than_it_is_known() -> None:
    said = [time_left(seconds) for seconds in (0.2, 59.6, 200, 10_000, float("inf"))]
    assert said == ["about 1 s left", "about 60 s left", "about 3 min left", "about 2.8 h left", "time left unknown"]
