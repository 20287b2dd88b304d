"""What happens to the page as a whole: opening it (also from a link), waiting for the model, Stop, Copy link."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from explorer.ui import pictures
from explorer.ui.answers import status_html
from explorer.ui.controls import CHOICE, SETTINGS, shown_settings
from explorer.ui.desk import Desk
from explorer.ui.engine import ModelState
from explorer.ui.header import button_words, header_html
from explorer.ui.html import shortened
from explorer.ui.links import Link, query_of, read_query
from explorer.ui.pictures import Updates
from explorer.ui.routing_acts import route
from explorer.ui.sessions import Session
from explorer.ui.state import TABS, Tab, View
from explorer.ui.traces_view import layers

LONGEST_ADDRESS = 40_000
STOP_SECONDS = 3.0
MODEL_PARTS = ("header", "timer", "route", "generate", "compare")
TICKED = (*pictures.EVERY_PART, *MODEL_PARTS)
OPENED = (*TICKED, *CHOICE, "prompt", "tabs")
STOP_PARTS = (*pictures.ROUTING_PARTS, *pictures.COLUMN_PARTS, "answer", "map")


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
    link, refused = _asked(address)
    view = session.view
    if view.record is None and desk.settled:
        view = _first(desk, session)
    shown = pictures.everything(view) if view.record is not None and desk.first is None else {}
    yield {**shown, **model_parts(desk, session), "status": first_words(view, desk.shared_problem)}
    if link != Link():
        yield from _follow(desk, session, link)
    if refused:
        yield {"status": status_html("error", refused)}


def _asked(address: Any) -> tuple[Link, str]:
    if not isinstance(address, str) or len(address) > LONGEST_ADDRESS:
        return Link(), "The link is too long and was left out." if address else ""
    pairs = parse_qsl(address.lstrip("?"), max_num_fields=50, errors="replace")
    return read_query(dict(pairs))


def _follow(desk: Desk, session: Session, link: Link) -> Iterator[Updates]:
    """Set the controls as the link says, and route its prompt where that was not stored."""
    controls: Updates = {}
    if link.prompt is not None:
        controls["prompt"] = link.prompt
    if link.router is not None:
        controls = {**controls, "router": link.router, **shown_settings(link.router)}
    settings = _settings_of(link)
    controls = {**controls, **{part: _valued(controls.get(part), value) for part, value in settings.items()}}
    if link.tab is not None:
        controls["tabs"] = gr.update(selected=link.tab)
        session.change(lambda view: replace(view, tab=_tab(link.tab) or view.tab))
    yield {**controls, **_chosen(session, link)}
    view = session.view
    if link.prompt is None or (view.routed is not None and view.routed.prompt == link.prompt and not settings):
        return
    yield from route(desk, session, link.prompt, True, link.router or "arrow", *_values(settings))
    yield _chosen(session, link)


def _settings_of(link: Link) -> dict[str, Any]:
    """Parts of the router's settings that the link names."""
    key = link.router or "arrow"
    said = {"top_k": link.topk, "temperature": link.temperature, "name": link.adapter}
    named = {f"router_{key}_{name}": value for name, value in said.items() if value is not None}
    return {part: value for part, value in named.items() if part in SETTINGS}


def _values(settings: dict[str, Any]) -> list[Any]:
    return [settings.get(part, entry.default) for part, (_, entry) in SETTINGS.items()]


def _valued(update: Any, value: Any) -> Any:
    return {**update, "value": value} if isinstance(update, dict) else gr.update(value=value)


def _chosen(session: Session, link: Link) -> Updates:
    """The layer and the adapter of a link, where the view has them."""

    def choose(view: View) -> View:
        known = view.record is not None and link.adapter in view.record.names
        return replace(view, layer=link.layer, selected=link.adapter if known else view.selected)

    view = session.change(choose)
    if view.routed is not None and link.layer not in (None, *layers(view.routed.trace)):
        view = session.change(lambda view: replace(view, layer=None))
    shown = pictures.chosen_adapter(view) if link.adapter is not None else {}
    return {**shown, **(pictures.routing(view) if view.routed is not None and link.layer is not None else {})}


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
    words = {"route": "Route", "generate": "Generate", "compare": "Compare"}
    return {part: gr.update(value=button_words(said, state)) for part, said in words.items()}


def stop(_: Desk, session: Session) -> Updates:
    """End every run of this session, and show what it had come to."""
    run = session.stop()
    was_busy = not run.done.is_set()
    run.done.wait(STOP_SECONDS)
    view = session.view
    if not was_busy:
        return {"status": status_html("ok", "Nothing is running.")}
    words = status_html("ok", "Stopped." if run.done.is_set() else "Stopping after the step that is being computed.")
    return {
        **(pictures.routing(view) if view.routed is not None else {}),
        **pictures.columns(view),
        "answer": pictures.answer(view.answer),
        "status": words,
    }


def link_of(desk: Desk, session: Session, prompt: Any, key: Any, *settings: Any) -> Updates:
    """The address of what is shown now."""
    view = session.view
    values = {part: value for part, value in zip(SETTINGS, settings, strict=True) if part.startswith(f"router_{key}_")}
    record = view.record
    sample = session.own is None and desk.options.library == "sample"
    said = {
        "lib": "sample" if sample else (record.source if record is not None and session.own is None else None),
        "prompt": prompt if isinstance(prompt, str) and prompt.strip() else None,
        "router": key,
        "topk": values.get("router_arrow_top_k"),
        "temperature": values.get("router_arrow_temperature"),
        "tab": view.tab,
        "layer": view.layer,
        "adapter": view.selected,
    }
    link, refused = read_query({name: str(value) for name, value in said.items() if value is not None})
    return {"link": query_of(link), "status": status_html("error", refused) if refused else gr.skip()}


def pick_tab(_: Desk, session: Session, picked: gr.EventData) -> Updates:
    """Another tab is in front; only a link needs to know."""
    data = picked._data
    name = data.get("value") if isinstance(data, dict) else None
    tab = _tab(name)
    if tab is not None:
        session.change(lambda view: replace(view, tab=tab))
    return {}


def _tab(name: object) -> Tab | None:
    return next((tab for tab in TABS if tab == name), None)
