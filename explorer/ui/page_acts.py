"""What happens to the page as a whole: opening it (also from a link), waiting for the model, Stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from explorer.ui import evaluate_acts, pictures
from explorer.ui.answers import status_html
from explorer.ui.controls import CHOICE
from explorer.ui.desk import Desk
from explorer.ui.engine import ModelState
from explorer.ui.header import button_words, header_html
from explorer.ui.html import shortened
from explorer.ui.link_acts import asked, follow, other_library, tab_called
from explorer.ui.links import Link
from explorer.ui.pictures import Updates
from explorer.ui.sessions import Session
from explorer.ui.state import View

STOP_SECONDS = 3.0
MODEL_PARTS = ("header", "timer", "route", "generate", "compare", "evaluate")
TICKED = (*pictures.EVERY_PART, *MODEL_PARTS)
OPENED = (*TICKED, *CHOICE, "prompt", "chat", "tabs")
STOP_PARTS = (*pictures.ROUTING_PARTS, *pictures.COLUMN_PARTS, *evaluate_acts.SHOWN, "answer", "map")


def first_words(view: View, problem: str = "") -> str:
    """The status line of a page that was just opened."""
    routed = view.routed
    if problem and view.record is None:
        return status_html("error", problem)
    if view.record is None:
        return status_html("busy", "Opening the library")
    if routed is None or not view.stored:
        return status_html("ok", f"{view.record.title} is open. Type a prompt and route it.")
    words = f"Stored run: {shortened(routed.prompt, 80)!r}, {routed.trace.router} ({pictures.measured(routed)})."
    return status_html("ok", f"{words} Route runs it live.")


def open_page(desk: Desk, session: Session, address: Any) -> Iterator[Updates]:
    """The page was loaded: show the library, and what its address asks for."""
    desk.welcome()
    link, refused = asked(address)
    view = session.view
    if view.record is None and desk.settled:
        view = _first(desk, session)
    shown = pictures.everything(view) if view.record is not None and desk.first is None else {}
    yield {**shown, **model_parts(desk, session), "status": first_words(view, desk.shared_problem)}
    if link != Link():
        yield from follow(desk, session, link)
    if refused:
        said = " ".join(filter(None, (refused, other_library(desk, session, link))))
        yield {"status": status_html("error", said)}


def _first(desk: Desk, session: Session) -> View:
    return session.change(lambda view: desk.fresh_view() if view.record is None else view)


def tick(desk: Desk, session: Session) -> Updates:
    """Once a second while something is being loaded: the library when it is there, the state of the model."""
    shown: Updates = {}
    if session.view.record is None and desk.settled:
        if desk.shared_problem:
            return {"timer": gr.update(active=False), "status": status_html("error", desk.shared_problem)}
        view = _first(desk, session)
        shown = {**pictures.everything(view), "status": first_words(view)}
    return {**shown, **model_parts(desk, session)}


def model_parts(desk: Desk, session: Session) -> Updates:
    """The header and the words on the buttons."""
    state = desk.model_state(session)
    # a library that was opened just now is drawn by the next tick
    going_on = state.kind in ("loading", "none") or (session.view.record is None and not desk.shared_problem)
    return {
        "header": header_html(session.view, state),
        "timer": gr.update(active=going_on),
        **buttons(state),
    }


def buttons(state: ModelState) -> Updates:
    """The buttons that need the model."""
    words = {"route": "Route", "generate": "Generate", "compare": "Compare", "evaluate": "Evaluate"}
    return {part: gr.update(value=button_words(said, state)) for part, said in words.items()}


def stop(_: Desk, session: Session) -> Updates:
    """End every run of this session, and show what it had come to."""
    run = session.stop()
    was_busy = not run.done.is_set()
    run.done.wait(STOP_SECONDS)
    evaluated = evaluate_acts.stopped(session)
    view = session.view
    if not was_busy:
        return {"status": status_html("ok", "Nothing is running.")}
    words = status_html("ok", "Stopped." if run.done.is_set() else "Stopping after the step that is being computed.")
    return {
        **(pictures.routing(view) if view.routed is not None else {}),
        **pictures.columns(view),
        **evaluated,
        "answer": pictures.answer(view.answer),
        "status": words,
    }


def pick_tab(_: Desk, session: Session, picked: gr.EventData) -> Updates:
    """Another tab is in front; only a link needs to know."""
    data = picked._data
    name = data.get("value") if isinstance(data, dict) else None
    tab = tab_called(name)
    if tab is not None:
        session.change(lambda view: replace(view, tab=tab))
    return {}
