"""What happens in the Evaluate tab besides evaluating: another measure, other tasks, other results, downloads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from explorer.errors import EvaluationError
from explorer.evaluation.record import FILE, MEASURES, EvaluationRecord, record_text
from explorer.ui import evaluation_pictures as drawn
from explorer.ui.answers import status_html
from explorer.ui.choices import one_of
from explorer.ui.desk import Desk
from explorer.ui.evaluation_board import board_of
from explorer.ui.evaluation_csv import table_csv
from explorer.ui.evaluation_view import PARTS, EvaluationView
from explorer.ui.pictures import Updates
from explorer.ui.sessions import Session

LOOKS = ("scores_shown", "scores_measure", "scores_part")
SHOWN = (*drawn.RESULT_PARTS, *drawn.TRANSFER_PARTS)
FILE_PARTS = ("scores_file_name", "scores_file_text")
#: Puts a text that the page got into a file of the reader's own; nothing is written on the server.
SAVE = """
(name, text) => {
  if (!text) return [""];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  return [""];
}
"""


def change(session: Session, **settings: Any) -> EvaluationView:
    """Change what the tab shows; returns what it shows now."""
    return session.change(lambda view: replace(view, evaluation=replace(view.evaluation, **settings))).evaluation


def look(_: Desk, session: Session, shown: Any, measure: Any, part: Any) -> Updates:
    """Other results, another measure, other tasks."""
    view = change(
        session,
        shows_own=shown == drawn.OWN and session.view.evaluation.own is not None,
        measure=one_of(measure, "Measure", MEASURES),
        part=next((name for name in PARTS if name == part), session.view.evaluation.part),
    )
    return {**drawn.results(view, session.view.record), **drawn.transfer(view)}


def look_at_transfer(_: Desk, session: Session, as_loss: Any) -> Updates:
    """Differences to the base model, or the losses themselves."""
    return drawn.transfer(change(session, as_loss=as_loss is True))


def stopped(session: Session) -> Updates:
    """A result that was still in the making has ended with what it has; nothing to show where there was none."""
    own = session.view.evaluation.own
    if own is None or own.state not in ("running", "stopped"):
        return {}
    view = change(session, own=replace(own, state="stopped"))
    return {**drawn.results(view, session.view.record), **drawn.transfer(view)}


def save_json(_: Desk, session: Session) -> Updates:
    """The record shown, as a file."""
    return _file(FILE, record_text(_record(session)), "The record")


def save_csv(_: Desk, session: Session) -> Updates:
    """The table shown, as a file."""
    view = session.view.evaluation
    board = board_of(_record(session), view.measure, view.shown_part, own=view.shows_own)
    return _file(f"evaluation-{view.measure.replace('_', '-')}.csv", table_csv(board), "The table")


def _record(session: Session) -> EvaluationRecord:
    record = session.view.evaluation.record
    if record is None:
        raise EvaluationError("The download", "has nothing to hold yet", fix="Evaluate a file first.")
    return record


def _file(name: str, text: str, what: str) -> Updates:
    words = status_html("ok", f"{what} was saved as {name} by your browser.")
    return {"scores_file_name": name, "scores_file_text": text, "status": words}
