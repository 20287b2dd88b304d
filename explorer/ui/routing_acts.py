"""What happens when a prompt is routed or answered, and when one looks at a token, a layer or a module of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import gradio as gr

from explorer.errors import ExplorerError, LibraryError
from explorer.models.routed_model import RoutedModel
from explorer.routing.router import Router
from explorer.ui import pictures
from explorer.ui.answers import status_html
from explorer.ui.bridge import picked_cell, picked_token
from explorer.ui.choices import check_size, number, one_of, prompt_text, router_of, token_range, whole
from explorer.ui.controls import read_choice, router_note, shown_settings
from explorer.ui.desk import Desk
from explorer.ui.narrate import Stopped, narrated
from explorer.ui.options import LIMITS
from explorer.ui.pictures import ALL, Updates
from explorer.ui.sessions import Run, Session
from explorer.ui.state import Routed, RouterChoice, View, with_trace
from explorer.ui.streams import AnswerStream
from explorer.ui.traces_view import layers, modules

SHOWN = (*pictures.ROUTING_PARTS, "answer", "map")
STOPPED = "Stopped."
SEEDS = 2**32 - 1


def route(desk: Desk, session: Session, prompt: Any, chat: Any, key: Any, *settings: Any) -> Iterator[Updates]:
    """Route the prompt; nothing is generated."""
    prompt, choice = prompt_text(prompt), read_choice(key, settings)
    run = session.begin()
    try:
        model = yield from narrated("Making the model ready", lambda say: desk.routed(session, say), run.stop)
        router = router_of(choice, model.names)
        check_size(
            model.base, prompt, chat=chat is True, new_tokens=0, sites=len(model.sites), adapters=len(model.names)
        )
        yield from ready(model, [router], run)
        began = time.monotonic()
        trace = yield from narrated(
            "Routing the prompt", lambda _: model.route(prompt, router, chat=chat is True), run.stop
        )
        routed = Routed(prompt, chat is True, choice, trace, time.monotonic() - began)
        view = session.change(lambda view: with_trace(view, routed))
        yield {**_pictures(view), "status": status_html("ok", told(routed))}
    except Stopped:
        yield {"status": status_html("ok", STOPPED)}
    finally:
        run.done.set()


def generate(
    desk: Desk,
    session: Session,
    prompt: Any,
    chat: Any,
    new_tokens: Any,
    temperature: Any,
    seed: Any,
    key: Any,
    *settings: Any,
) -> Iterator[Updates]:
    """Answer the prompt; tokens and their routing come as they are made."""
    prompt, choice = prompt_text(prompt), read_choice(key, settings)
    sampling = read_sampling(new_tokens, temperature, seed)
    run = session.begin()
    try:
        model = yield from narrated("Making the model ready", lambda say: desk.routed(session, say), run.stop)
        router = router_of(choice, model.names)
        size = {"sites": len(model.sites), "adapters": len(model.names)}
        check_size(model.base, prompt, chat=chat is True, new_tokens=sampling["max_new_tokens"], **size)
        yield from ready(model, [router], run)
        yield from _stream(session, model, router, Routing(prompt, chat is True, choice), sampling, run)
    except Stopped:
        yield {"status": status_html("ok", STOPPED)}
    finally:
        run.done.set()


def ready(model: RoutedModel, routers: Sequence[Router], run: Run) -> Iterator[Updates]:
    """Let the routers prepare what they need, and tell what takes time."""
    yield from narrated("Preparing the router", lambda say: model.prepare(routers, say), run.stop)


class Routing:
    """What is being answered: prompt, chat template, router."""

    def __init__(self, prompt: str, chat: bool, choice: RouterChoice) -> None:
        self.prompt, self.chat, self.choice = prompt, chat, choice


def _stream(
    session: Session, model: RoutedModel, router: Router, asked: Routing, sampling: dict[str, Any], run: Run
) -> Iterator[Updates]:
    events = model.generate(asked.prompt, router, chat=asked.chat, record=True, stop=run.stop.is_set, **sampling)
    stream = AnswerStream(router.label)

    def commit() -> View:
        """Keep what has come so far, also when the page has stopped listening."""
        trace = stream.trace()
        seconds = stream.seconds
        if trace is None:
            return session.change(lambda view: replace(view, answer=stream.column))
        routed = Routed(asked.prompt, asked.chat, asked.choice, trace, seconds)
        return session.change(lambda view: replace(with_trace(view, routed), answer=stream.column))

    yield {"answer": pictures.answer(stream.column), "status": status_html("busy", "Reading the prompt")}
    try:
        with closing(events):  # type: ignore[type-var]
            for event in events:
                stream.take(event)
                if stream.is_due():
                    view = commit()
                    words = f"Generating: {stream.column.tokens} tokens so far"
                    yield {
                        "answer": pictures.answer(stream.column),
                        "strip": pictures.the_strip(view),
                        "status": status_html("busy", words),
                    }
    finally:
        stream.end(stopped=run.stop.is_set())
        view = commit()
    finished = stream.finished
    words = (
        f"Generated {finished.tokens} tokens in {finished.seconds:.1f} s: {finished.reason}." if finished else STOPPED
    )
    yield {**_pictures(view), "answer": pictures.answer(stream.column), "status": status_html("ok", words)}


def read_sampling(new_tokens: Any, temperature: Any, seed: Any) -> dict[str, Any]:
    """The settings of generation (raises SettingsError)."""
    return {
        "max_new_tokens": whole(new_tokens, "Tokens to generate", 1, LIMITS.new_tokens),
        "temperature": number(temperature, "Sampling temperature", 0.0, 5.0),
        "seed": whole(seed, "Seed", 0, SEEDS),
    }


def _pictures(view: View) -> Updates:
    shown = pictures.routing(view)
    return {**shown, "map": pictures.the_map(view)} if view.sized else shown


def told(routed: Routed) -> str:
    """The status line of a routed text."""
    took = f" in {routed.seconds:.2f} s" if routed.seconds is not None else ", a stored run"
    return f"Routed {pictures.measured(routed)}{took}."


def check_stale(desk: Desk, session: Session, prompt: Any, chat: Any, key: Any, *settings: Any) -> Updates:
    """The prompt or the router was changed: say so where what is shown no longer fits, take it back where it does."""
    view = session.view
    if view.routed is None or view.record is None:
        return {}
    stale = not is_same(view.routed, prompt, chat, key, settings, pictures.routable(view.record))
    if stale == view.stale:
        return {}
    routed = view.routed
    session.change(lambda view: replace(view, stale=stale))
    words = "The prompt or the router has changed. Route to refresh." if stale else told(routed)
    return {
        "views": gr.update(elem_classes=["lx-stale"] if stale else []),
        "status": status_html("stale" if stale else "ok", words),
    }


def is_same(
    routed: Routed, prompt: Any, chat: Any, key: Any, settings: tuple[Any, ...], names: tuple[str, ...]
) -> bool:
    """Whether these controls ask for what was routed."""
    if prompt != routed.prompt or (chat is True) != routed.chat:
        return False
    try:
        return router_of(read_choice(key, settings), names).label == routed.trace.router
    except ExplorerError:
        return False


def change_router(desk: Desk, session: Session, prompt: Any, chat: Any, key: Any, *settings: Any) -> Updates:
    """Another router: show its settings."""
    router = read_choice(key, settings)
    shown = {**shown_settings(router.key), "router_note": router_note(router.key)}
    return {**shown, **check_stale(desk, session, prompt, chat, key, *settings)}


def pick_token(_: Desk, session: Session, picked: gr.EventData) -> Updates:
    """A token of the strip was clicked, or reached with an arrow key."""
    routed = session.view.routed
    token = picked_token(picked, len(routed.trace.tokens)) if routed is not None else None
    if token is None:
        return {}
    return pictures.one_token(session.change(lambda view: replace(view, token=token)))


def pick_cell(_: Desk, session: Session, picked: gr.EventData) -> Updates:
    """A cell of the overview: look at its layer, and show its adapter's card."""
    view = session.view
    if view.routed is None or view.record is None:
        return {}
    cell = picked_cell(picked, layers(view.routed.trace), view.record.names)
    if cell is None:
        return {}
    layer, name = cell
    view = session.change(lambda view: replace(view, layer=layer, selected=name))
    return {**pictures.one_token(view), **pictures.chosen_adapter(view), "layer": gr.update(value=_word(layer))}


def look_at(_: Desk, session: Session, layer: Any, module: Any, tokens: Any, template: Any) -> Updates:
    """Another layer, module or range of tokens, or the template's tokens shown or hidden."""
    view = session.view
    if view.routed is None:
        raise LibraryError("The routing", "is empty", fix="Type a prompt and route it.")
    trace = view.routed.trace
    chosen_layer = None if layer == ALL else int(one_of(layer, "Layer", [str(one) for one in layers(trace)]))
    chosen_module = None if module == ALL else one_of(module, "Module", modules(trace))
    first, last = token_range(tokens, len(trace.tokens))

    def looking(view: View) -> View:
        view = replace(view, layer=chosen_layer, module=chosen_module, first=first, last=last)
        return replace(view, show_template=template is True)

    view = session.change(looking)
    return {**pictures.over_tokens(view), **pictures.one_token(view)}


def _word(layer: int | None) -> str:
    return ALL if layer is None else str(layer)
