"""From a session's view to the parts of the Evaluate tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.evaluation.record import MEASURES, TITLES, EvaluationRecord
from explorer.records.library_record import LibraryRecord
from explorer.ui import evaluation_words as words
from explorer.ui.evaluation_board import board_of
from explorer.ui.evaluation_table import table_html
from explorer.ui.evaluation_view import PARTS, EvaluationView
from explorer.ui.figures.method_means import means_figure
from explorer.ui.figures.own_shares import own_shares_figure
from explorer.ui.figures.transfer import transfer_figure

STORED, OWN = "stored", "own"
RESULT_PARTS = (
    *("scores_head", "scores_views", "scores_shown", "scores_measure", "scores_part"),
    *("scores_table", "scores_means", "scores_share", "scores_details"),
)
TRANSFER_PARTS = ("transfer_section", "transfer_note", "transfer")
EVALUATION_PARTS = (*RESULT_PARTS, *TRANSFER_PARTS, "scores_file")


def evaluation(view: EvaluationView, library: LibraryRecord | None) -> dict[str, Any]:
    """All parts of the tab that depend on the view."""
    return {**results(view, library), **transfer(view), "scores_file": words.file_html(view.file)}


def results(view: EvaluationView, library: LibraryRecord | None) -> dict[str, Any]:
    """Heading, pickers, table and charts."""
    record = view.record
    head = words.heading_html(view, library.content_hash if library is not None else "")
    parts: dict[str, Any] = {
        "scores_head": head,
        "scores_views": gr.update(visible=record is not None),
        "scores_shown": gr.update(
            choices=_results(view), value=OWN if view.shows_own else STORED, visible=view.own is not None
        ),
    }
    if record is None:
        blank: dict[str, Any] = dict.fromkeys(("scores_means", "scores_share"))
        return {**parts, **blank, "scores_table": "", "scores_details": "", **_pickers(view, None)}
    board = board_of(record, view.measure, view.shown_part, own=view.shows_own)
    return {
        **parts,
        **_pickers(view, record),
        "scores_table": table_html(board),
        "scores_means": means_figure(board, view.shown_part),
        "scores_share": own_shares_figure(record, _adapters(library)),
        "scores_details": words.details_html(record),
    }


def transfer(view: EvaluationView) -> dict[str, Any]:
    """The transfer matrix of the results shown."""
    found = view.record.transfer if view.record is not None else None
    return {
        "transfer_section": gr.update(visible=found is not None),
        "transfer_note": words.transfer_html(found),
        "transfer": transfer_figure(found, as_loss=view.as_loss) if found is not None else None,
    }


def _results(view: EvaluationView) -> list[tuple[str, str]]:
    """Which results there are to choose from."""
    stored = [("Stored", STORED)] if view.stored is not None else []
    return [*stored, *([("Your file", OWN)] if view.own is not None else [])]


def _pickers(view: EvaluationView, record: EvaluationRecord | None) -> dict[str, Any]:
    """The measures that were taken, and the kinds of tasks there are."""
    cells = record.cells if record is not None else ()
    taken = {measure for cell in cells for measure in cell.measures} | {view.measure}
    measures = [(TITLES[measure], measure) for measure in MEASURES if measure in taken]
    kinds = {task.held_out for task in record.tasks} if record is not None else set()
    parts = [(title, part) for part, title in PARTS.items()]
    return {
        "scores_measure": gr.update(choices=measures, value=view.measure),
        "scores_part": gr.update(choices=parts, value=view.shown_part, visible=len(kinds) != 1),
    }


def _adapters(library: LibraryRecord | None) -> dict[str, int]:
    """How many adapters the open library routes, by its hash."""
    if library is None:
        return {}
    return {library.content_hash: sum(one.can_be_routed for one in library.adapters)}
