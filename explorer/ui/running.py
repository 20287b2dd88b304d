"""Route and Generate: the two buttons that run the model for the Routing tab."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import gradio as gr

from explorer.models.base import BaseModel
from explorer.models.events import Finished, PromptRead, TokenEmitted, TokenRouted
from explorer.models.routed_model import RoutedModel
from explorer.routing.router import Router
from explorer.ui.answers import compare_column_html, status_html
from explorer.ui.guard import Updates, guarded_stream
from explorer.ui.open_libraries import OpenLibrary
from explorer.ui.router_choice import checked_prompt, chosen_router, whole
from explorer.ui.sessions import Session
from explorer.ui.shell import Shell, header_html
from explorer.ui.strip import strip_html
from explorer.ui.tab_routing import RoutingTab, caption_html, routing_updates
from explorer.ui.traces_view import layers, modules
from explorer.ui.workplace import Workplace

TICK = 0.1  # seconds between two updates of the page
MAX_NEW_TOKENS = 512
ROUTER_SETTINGS = ("top_k", "temperature", "unit_norm", "adapter")


def ready_model(place: Workplace, session: Session, say: Callable[[str], Updates]) -> Iterator[Updates | RoutedModel]:
    """Wait for library, base model and preparation; yields what to say meanwhile and, last, the routed model."""
    yield say("Opening the library")
    library: OpenLibrary = place.library_of(session)
    if session.record is None:
        session.record = library.record()
    loading: Future[BaseModel] = place.base_for(library)
    while not loading.done():
        if session.stop.is_set():
            return
        yield say(f"Base model: {place.engine.state(library.library.base_model).words}")
        time.sleep(TICK)
    yield say(f"Preparing {len(library.library.routable)} adapters")
    yield library.routed(loading.result())


def connect_running(
    tab: RoutingTab, shell: Shell, place: Workplace, extra: Callable[[Session], Updates], extra_parts: list[gr.Blocks]
) -> list[Any]:
    """Attach Route and Generate; `extra` draws what else depends on the trace. Returns the events, for Stop."""
    safe = guarded_stream(shell.status)
    inputs = [shell.prompt, shell.chat, tab.tokens, *tab.choice, *tab.filters]
    outputs = [
        tab.strip, tab.overview, tab.detail, tab.entropy, tab.share, tab.layer, tab.module, tab.adapter, tab.caption,
        tab.answer, shell.status, shell.header, *extra_parts,
    ]  # fmt: skip

    def say(line: str) -> Updates:
        return {shell.status: status_html("busy", f"{line} ...")}

    def start(prompt: Any, chat: Any, choice: tuple[Any, ...], session: Session) -> tuple[str, Router]:
        session.stop = type(session.stop)()
        return checked_prompt(prompt), chosen_router(choice[0], **dict(zip(ROUTER_SETTINGS, choice[1:], strict=True)))

    @safe
    def route(prompt: Any, chat: Any, tokens: Any, *rest: Any, request: gr.Request) -> Iterator[Updates]:
        choice, filters = rest[:5], rest[5:]
        session = place.sessions.get(request.session_hash)
        text, router = start(prompt, chat, choice, session)
        for step in ready_model(place, session, say):
            if not isinstance(step, RoutedModel):
                yield step
                continue
            began = time.monotonic()
            session.trace = step.route(text, router, chat=bool(chat))
            seconds = time.monotonic() - began
            session.token, session.routed_with = None, (prompt, bool(chat), *choice)
            trace = session.trace
            counted = f"{len(trace.tokens)} tokens x {len(layers(trace)) or 1} layers x {len(modules(trace))} modules"
            yield {
                **routing_updates(tab, session, filters, menus=True),
                **extra(session),
                tab.caption: caption_html(trace, ""),
                shell.header: header_html(session.record, str(step.base.device).upper()),
                shell.status: status_html(
                    "ok", f"Routed {counted} in {seconds:.2f} s. Open the Routing tab to read it."
                ),
            }

    @safe
    def generate(prompt: Any, chat: Any, tokens: Any, *rest: Any, request: gr.Request) -> Iterator[Updates]:
        choice, filters = rest[:5], rest[5:]
        session = place.sessions.get(request.session_hash)
        text, router = start(prompt, chat, choice, session)
        count = whole("New tokens", tokens, 1, MAX_NEW_TOKENS)
        for step in ready_model(place, session, say):
            if not isinstance(step, RoutedModel):
                yield step
                continue
            session.routed_with = (prompt, bool(chat), *choice)
            yield from _stream(step, text, router, bool(chat), count, session, filters)

    def _stream(
        routed: RoutedModel, text: str, router: Router, chat: bool, count: int, session: Session, filters: Any
    ) -> Iterator[Updates]:
        stop = session.stop
        events = routed.generate(text, router, chat=chat, max_new_tokens=count, record=True, stop=stop.is_set)
        answer, emitted, shown, began = "", 0, 0.0, time.monotonic()
        try:
            for event in events:
                match event:
                    case PromptRead(trace=trace) if trace is not None:
                        session.trace, session.token, began = trace, None, time.monotonic()
                        yield {
                            **routing_updates(tab, session, filters, menus=True),
                            tab.caption: caption_html(trace, ""),
                            shell.status: status_html("busy", "Writing ..."),
                        }
                    case TokenRouted(trace=trace) if session.trace is not None:
                        session.trace = session.trace.extended(trace)
                    case TokenEmitted(text=added):
                        answer, emitted = answer + added, emitted + 1
                    case Finished() as end:
                        state = "stopped" if end.reason == "stopped" else "done"
                        spent = max(end.seconds, 1e-6)
                        yield {
                            **routing_updates(tab, session, filters),
                            **extra(session),
                            tab.answer: compare_column_html(
                                router.label, end.text, state, tokens=end.tokens, seconds=spent
                            ),
                            shell.status: status_html("ok", f"{end.tokens} tokens in {spent:.1f} s: {end.reason}."),
                        }
                        return
                if time.monotonic() - shown > TICK:
                    shown = time.monotonic()
                    yield {
                        tab.answer: compare_column_html(
                            router.label, answer, "running", tokens=emitted, seconds=shown - began
                        ),
                        tab.strip: _strip(session),
                    }
        finally:
            events.close()  # type: ignore[attr-defined]

    def _strip(session: Session) -> Any:
        if session.trace is None or session.record is None:
            return gr.skip()
        return strip_html(session.trace, session.record, session.token)

    options: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 4, "show_progress": "hidden"}
    return [
        shell.route.click(route, inputs, outputs, api_name="route", **options),
        shell.generate.click(generate, inputs, outputs, api_name="generate", **options),
    ]
