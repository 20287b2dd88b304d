"""A user's own file in the Evaluate tab: its rows are read and evaluated, and Stop keeps what is done."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from explorer.adapters.wording import clean_line
from explorer.errors import ExplorerError, SettingsError, TaskDataError
from explorer.evaluation.record import EvaluationRecord
from explorer.evaluation.settings import EvaluationSettings
from explorer.models.routed_model import RoutedModel
from explorer.routing.router import Router
from explorer.tasks.user_file import read_user_file
from explorer.ui import evaluation_pictures as drawn
from explorer.ui.answers import status_html
from explorer.ui.choices import router_of, whole
from explorer.ui.controls import CHOICE, choice_beside
from explorer.ui.desk import Desk
from explorer.ui.evaluate_acts import change
from explorer.ui.evaluation_run import steps
from explorer.ui.evaluation_view import BrokenRow, OwnResult, RunState, UserFile
from explorer.ui.evaluation_words import file_html
from explorer.ui.html import count_text
from explorer.ui.narrate import Stopped, narrated
from explorer.ui.options import LIMITS
from explorer.ui.pictures import Updates
from explorer.ui.routing_acts import STOPPED, ready
from explorer.ui.sessions import Run, Session
from explorer.ui.state import RouterChoice, View
from explorer.ui.streams import Pace

DEFAULTS = ("base", "uniform", "arrow")
READ = ("scores_upload", "scores_file")
OWN = ("evaluate_routers", "evaluate_adapter", "evaluate_rows", "evaluate_tokens", "evaluate_answers", "chat")
ASKED = (*OWN, *CHOICE)
MOST_TOLD = 3  # tasks with rows left out, in the status line; all stand below the table


def read_file(_: Desk, session: Session, path: Any) -> Iterator[Updates]:
    """A file was uploaded: read its rows; the upload itself is removed whatever comes of it."""
    if not isinstance(path, str) or not Path(path).is_file():
        raise TaskDataError("The upload", "did not arrive", fix="Choose the file once more.")
    upload = Path(path)
    name = clean_line(upload.name, 120)
    yield {"scores_upload": None, "status": status_html("busy", f"Reading {name}")}
    file = yield from narrated(f"Reading {name}", lambda _: _user_file(upload, name))
    change(session, file=file)
    left = f" {count_text(len(file.broken), 'row')} cannot and will be left out." if file.broken else ""
    words = f"{count_text(file.rows, 'row')} of {name} can be evaluated.{left} Choose routers and press Evaluate."
    yield {"scores_file": file_html(file), "status": status_html("ok", words)}


def _user_file(upload: Path, name: str) -> UserFile:
    try:
        nbytes = upload.stat().st_size
        found = read_user_file(upload, most_rows=LIMITS.file_rows, most_bytes=LIMITS.file_bytes)
    finally:
        upload.unlink(missing_ok=True)
        shutil.rmtree(upload.parent, ignore_errors=True)  # gradio makes a folder for each upload
    tasks = tuple(task for task in found.tasks if task.test)
    if not tasks:
        raise TaskDataError(name, "has no row to test", fix="Rows for training or validation are not evaluated.")
    if len(tasks) > LIMITS.file_tasks:
        expected, told = f"at most {LIMITS.file_tasks} different tasks", f"{len(tasks):,}"
        raise TaskDataError(name, expected=expected, found=told, fix="Evaluate a part of the file.")
    broken = tuple(BrokenRow(bad.row, f"{bad.field} {bad.reason}".strip()) for bad in found.problems)
    kept_back = sum(len(task.train) + len(task.validation) for task in found.tasks)
    return UserFile(name, tasks, broken, kept_back, found.ignored, nbytes)


def pick_routers(_: Desk, __: Session, keys: Any) -> Updates:
    """Only a single adapter needs a name."""
    return {"evaluate_adapter": gr.update(visible=isinstance(keys, list) and "single" in keys)}


def evaluate_file(desk: Desk, session: Session, *values: Any) -> Iterator[Updates]:
    """Evaluate the user's rows; `values` are those of :data:`ASKED`."""
    file = session.view.evaluation.file
    if file is None:
        raise TaskDataError("Evaluate", "has no rows yet", fix="Upload a CSV or JSONL file with prompt and target.")
    choices = read_routers(values)
    settings = read_settings(values)
    check_work(file, settings, len(choices))
    run = session.begin()
    try:
        model = yield from narrated("Making the model ready", lambda say: desk.routed(session, say), run.stop)
        routers = [router_of(choice, model.names) for choice in choices]
        yield from ready(model, routers, run)
        yield from _evaluate(desk, session, model, file, routers, settings, run)
    except Stopped:
        yield {"status": status_html("ok", STOPPED)}
    finally:
        run.stop.set()  # where the page was closed meanwhile, the work ends too
        run.done.set()


def read_routers(values: Sequence[Any]) -> list[RouterChoice]:
    """The routers that are ticked, with the settings of the Routing tab.

    Raises:
        SettingsError: none, too many, or one that is unknown.
    """
    keys, adapter, settings = values[0], values[1], values[len(OWN) + 1 :]
    if not isinstance(keys, list) or not 1 <= len(keys) <= LIMITS.file_routers:
        found = len(keys) if isinstance(keys, list) else repr(keys)[:40]
        raise SettingsError("Routers", expected=f"1 to {LIMITS.file_routers} of them", found=str(found))
    choices = [choice_beside(key, adapter, settings) for key in keys]
    return list({choice.key: choice for choice in choices}.values())


def read_settings(values: Sequence[Any]) -> EvaluationSettings:
    """How it is evaluated (raises SettingsError)."""
    rows, tokens, answers, chat = values[2 : len(OWN)]
    return EvaluationSettings(
        rows=whole(rows, "Rows of each task", 1, LIMITS.file_rows),
        max_new_tokens=whole(tokens, "Longest answer", 1, LIMITS.new_tokens),
        answers=answers is True,
        chat=chat is True,
    )


def check_work(file: UserFile, settings: EvaluationSettings, routers: int) -> None:
    """Refuse what would keep a page busy for hours (raises SettingsError)."""
    rows = routers * sum(min(settings.rows, len(task.test)) for task in file.tasks)
    if rows > LIMITS.scored_rows:
        expected = f"at most {LIMITS.scored_rows:,} rows over all routers"
        fix = "Take fewer rows or routers, or use the command `evaluate`."
        raise SettingsError("Evaluate", expected=expected, found=f"{rows:,}", fix=fix)


class _Board:
    """The result in the making, kept in the session so that Stop finds it."""

    def __init__(self, session: Session, name: str, run: Run) -> None:
        self.session, self.name, self.run = session, name, run
        self.latest: OwnResult | None = None

    def keep(self, record: EvaluationRecord, state: RunState) -> Updates:
        """Put it into the session and draw it, unless another result or library has come meanwhile."""
        begun, before = self.latest is not None, self.latest
        if self.run.stop.is_set() and state == "running":
            state = "stopped"
        result = OwnResult(self.name, record, state)

        def put(view: View) -> View:
            if begun and view.evaluation.own is not before:
                return view
            shown = view.evaluation.shows_own or not begun
            self.latest = result
            return replace(view, evaluation=replace(view.evaluation, own=result, shows_own=shown))

        view = self.session.change(put)
        if view.evaluation.own is not result:
            return {}
        return {**drawn.results(view.evaluation, view.record), **drawn.transfer(view.evaluation)}


def _evaluate(
    desk: Desk,
    session: Session,
    model: RoutedModel,
    file: UserFile,
    routers: Sequence[Router],
    settings: EvaluationSettings,
    run: Run,
) -> Iterator[Updates]:
    began, pace, board = time.monotonic(), Pace(), _Board(session, file.name, run)
    record: EvaluationRecord | None = None
    library = desk.holding(session).library
    try:
        with closing(steps(model, library, file.tasks, routers, settings, run.stop.is_set)) as found:  # type: ignore[type-var]
            for step in found:
                record = step.record
                shown = board.keep(record, "done" if step.ended else "running") if step.changed else {}
                if shown or pace.is_due():
                    words = {"status": status_html("busy", step.words)} if step.words else {}
                    yield {**shown, **words}
    except ExplorerError:
        if record is not None:
            yield board.keep(record, "failed")
        raise
    yield {"status": status_html("ok", _summary(record, run, time.monotonic() - began))}


def _summary(record: EvaluationRecord | None, run: Run, seconds: float) -> str:
    cells = len(record.cells) if record is not None else 0
    if run.stop.is_set():
        return f"{STOPPED} The table keeps {count_text(cells, 'result')}." if cells else STOPPED
    left_out = f" {' '.join(record.remarks[:MOST_TOLD])}" if record is not None and record.remarks else ""
    return f"{count_text(cells, 'result')} in {seconds:.0f} s: see the table.{left_out}"
