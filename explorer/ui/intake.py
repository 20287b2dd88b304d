"""Another library: read it, report on it, and only then, if the user wishes so, put it in the place of the old one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from explorer.adapters.sources import open_zip
from explorer.errors import LibraryError
from explorer.models.shapes import known_shapes
from explorer.ui import pictures
from explorer.ui.answers import report_html, status_html
from explorer.ui.desk import Desk
from explorer.ui.header import header_html
from explorer.ui.holding import Holding
from explorer.ui.html import count_text
from explorer.ui.narrate import Say, narrated
from explorer.ui.pictures import Updates
from explorer.ui.sessions import Session
from explorer.ui.state import View, view_of

REPORT = ("report", "decide", "zip")
OPENED = (*pictures.EVERY_PART, *REPORT, "header", "timer", "intake")


def read_zip(desk: Desk, session: Session, path: Any) -> Iterator[Updates]:
    """A zip was uploaded: read it; the upload itself is removed whatever comes of it."""
    if not isinstance(path, str) or not Path(path).is_file():
        raise LibraryError("The upload", "did not arrive", fix="Choose the zip once more.")
    upload = Path(path)

    def shapes(base_model: str) -> Any:
        return known_shapes(base_model, allow_local=False)

    def work(_: Say) -> Holding:
        try:
            return Holding(open_zip(upload, name=upload.name, shapes_of=shapes), trusted=False)
        finally:
            upload.unlink(missing_ok=True)
            shutil.rmtree(upload.parent, ignore_errors=True)  # gradio makes a folder for each upload

    yield {"zip": None, "status": status_html("busy", f"Reading {upload.name}")}
    yield from _report(desk, session, f"Reading {upload.name}", work)


def read_source(desk: Desk, session: Session, source: Any) -> Iterator[Updates]:
    """A sample, a folder or a hub repository was named: read it."""
    if not isinstance(source, str) or len(source) > 4_096:
        raise LibraryError("The library", "is not named", fix="Type a folder or a hub repository as owner/name.")
    yield from _report(desk, session, "Reading the library", lambda _: desk.read(source))


def _report(desk: Desk, session: Session, line: str, work: Callable[[Say], Holding]) -> Iterator[Updates]:
    candidate = yield from narrated(line, work, discard=Holding.close)
    session.offer(candidate)
    desk.sessions.make_room(session)
    library = candidate.library
    usable = count_text(len(library), "adapter")
    words = f"{usable} of {library.title} can be opened. Nothing was replaced yet: decide below the report."
    yield {
        "report": report_html(library.verdicts, library.title, library.source, library.remarks),
        "decide": gr.update(visible=True),
        "status": status_html("ok", words),
    }


def open_candidate(desk: Desk, session: Session) -> Iterator[Updates]:
    """Yes, open this library."""
    candidate = session.candidate
    if candidate is None:
        raise LibraryError("No library", "is waiting to be opened", fix="Choose one first.")
    line = "Comparing, clustering and mapping the adapters"
    record, evaluation = yield from narrated(line, lambda _: (candidate.record(), candidate.evaluation()))
    if session.adopt(candidate) is None:
        raise LibraryError("The library", "was replaced meanwhile", fix="Look at the report again.")
    session.stop()

    def opened(view: View) -> View:
        fresh = view_of(record, replace(evaluation, file=view.evaluation.file))
        return replace(fresh, tab=view.tab, sized=view.sized)

    view = session.change(opened)
    desk.engine.start(candidate.base_model, trusted=candidate.trusted)
    words = f"{record.title} is open: {count_text(len(record.names), 'adapter')}. Type a prompt and route it."
    yield {
        **pictures.everything(view),
        "report": "",
        "decide": gr.update(visible=False),
        "header": header_html(view, desk.model_state(session)),
        "timer": gr.update(active=True),
        "intake": gr.update(open=False),
        "status": status_html("ok", words),
    }


def keep_current(_: Desk, session: Session) -> Updates:
    """No, keep what is open."""
    session.offer(None)
    return {
        "report": "",
        "decide": gr.update(visible=False),
        "status": status_html("ok", "The current library stays."),
    }
