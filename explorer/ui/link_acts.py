"""Copy link, and what a page does that was opened by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from explorer.adapters.sources import REPOSITORY, sample_names
from explorer.errors import ExplorerError
from explorer.routing.registry import describe
from explorer.ui import pictures
from explorer.ui.answers import status_html
from explorer.ui.controls import DEFAULT_ROUTER, SETTINGS, read_choice, shown_settings
from explorer.ui.desk import Desk
from explorer.ui.links import Link, left_out, query_of, read_query
from explorer.ui.pictures import Updates
from explorer.ui.routing_acts import is_same, route
from explorer.ui.sessions import Session
from explorer.ui.state import TABS, Tab, View
from explorer.ui.traces_view import layers

LONGEST_ADDRESS = 40_000
TOO_LONG = "The link is too long and was left out."


def asked(address: Any) -> tuple[Link, str]:
    """What the page's address asks for, and one sentence on what in it was left out."""
    if not isinstance(address, str) or len(address) > LONGEST_ADDRESS:
        return Link(), TOO_LONG if address else ""
    pairs = parse_qsl(address.lstrip("?"), max_num_fields=50, errors="replace")
    link, refused = read_query(dict(pairs))
    return link, left_out(refused)


def follow(desk: Desk, session: Session, link: Link) -> Iterator[Updates]:
    """Set the controls as the link says, and route its prompt where that is not what is shown already."""
    other = other_library(desk, session, link)
    if other:  # its adapters are not here: routing its prompt would show something else
        link = replace(link, adapter=None, layer=None)
    settings = {} if other else _settings_of(link)
    yield {**_controls(session, link, settings), **_chosen(session, link)}
    view, key, values = session.view, link.router or DEFAULT_ROUTER, _values(settings)
    chat = link.chat is not False
    if link.prompt is not None and not other:
        names = pictures.routable(view.record)
        if view.routed is None or not is_same(view.routed, link.prompt, chat, key, values, names):
            yield from route(desk, session, link.prompt, chat, key, *values)
            yield _chosen(session, link)
    if other:
        yield {"status": status_html("error", other)}


def other_library(desk: Desk, session: Session, link: Link) -> str:
    """One sentence if the link is of another library than the one that is open, and how to come to it."""
    names = desk.open_names(session)
    if link.lib is None or link.lib in names:
        return ""
    can_be_named = link.lib in ("sample", *sample_names()) or REPOSITORY.fullmatch(link.lib)
    way = f'Open {link.lib} under "Open another library"' if can_be_named else "Open that library first"
    return f"The link is of the library {link.lib}, but {names[0]} is open here. {way}, then press Route."


def _controls(session: Session, link: Link, settings: dict[str, Any]) -> Updates:
    controls: Updates = {}
    if link.prompt is not None:
        controls["prompt"] = link.prompt
    if link.chat is not None:
        controls["chat"] = link.chat
    if link.router is not None:
        controls = {**controls, "router": link.router, **shown_settings(link.router)}
    controls = {**controls, **{part: _valued(controls.get(part), value) for part, value in settings.items()}}
    if link.tab is not None:
        controls["tabs"] = gr.update(selected=link.tab)
        session.change(lambda view: replace(view, tab=tab_called(link.tab) or view.tab))
    return controls


def _settings_of(link: Link) -> dict[str, Any]:
    """Parts of the router's settings that the link names; an adapter that it needs is the card's unless it says."""
    key = link.router or DEFAULT_ROUTER
    said = dict(link.settings)
    for entry in describe(key).settings:
        if entry.kind == "adapter" and link.adapter is not None:
            said.setdefault(entry.name, link.adapter)
    return {f"router_{key}_{name}": value for name, value in said.items()}


def _values(settings: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(settings.get(part, entry.default) for part, (_, entry) in SETTINGS.items())


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


def link_of(desk: Desk, session: Session, prompt: Any, chat: Any, key: Any, *settings: Any) -> Updates:
    """The address of what is shown now; where something of it does not fit there is none, and that is said."""
    view = session.view
    try:
        choice = read_choice(key, settings)
    except ExplorerError as error:
        return {"link": "", "status": status_html("error", error.sentence)}
    link = Link(
        lib=desk.open_names(session)[0],
        prompt=prompt if isinstance(prompt, str) and prompt.strip() else None,
        router=choice.key,
        settings=tuple(
            (name, value) for name, value in choice.settings if value not in (None, "") and value is not False
        ),
        chat=None if chat is True else False,
        tab=view.tab,
        layer=view.layer,
        adapter=view.selected,
    )
    written = query_of(link)
    if asked(written) != (link, ""):
        words = "This view fits into no link: its prompt or its settings are out of bounds, or too long."
        return {"link": "", "status": status_html("error", words)}
    return {"link": written}


def tab_called(name: object) -> Tab | None:
    """The tab of that name, if there is one."""
    return next((tab for tab in TABS if tab == name), None)
