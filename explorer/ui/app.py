"""The page: shell and tabs put together, and how it is served."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import gradio as gr

from explorer.errors import SettingsError
from explorer.ui import theme
from explorer.ui.answers import compare_column_html, status_html
from explorer.ui.bridge import page_bridge
from explorer.ui.guard import Updates, guarded, guarded_stream
from explorer.ui.intake import build_intake, connect_intake
from explorer.ui.links import COPY_JS, Link, read_link
from explorer.ui.running import TICK, connect_running
from explorer.ui.sessions import Session
from explorer.ui.shell import EXAMPLES, build_shell, header_html
from explorer.ui.tab_compare import build_compare_tab, compare_menus, connect_compare_tab
from explorer.ui.tab_library import build_library_tab, connect_library_tab, library_updates
from explorer.ui.tab_routing import (
    build_routing_tab,
    caption_html,
    connect_routing_tab,
    empty_answer,
    routing_updates,
)
from explorer.ui.workplace import SAMPLE, Workplace

MAX_UPLOAD = 2 << 30
DEFAULT_FILTERS = ("all", "all", "typed", False)


def build_app(library: str = SAMPLE, *, allow_local: bool = True) -> gr.Blocks:
    """The page as a gradio app; nothing is loaded before it is opened or launched.

    Args:
        library: what it opens with.
        allow_local: whether visitors may name folders of this machine (not on a hosted page).
    """
    place = Workplace(library, allow_local=allow_local)
    first, stored = place.sessions._fresh(), place.stored
    with gr.Blocks(title="LoRA library explorer", analytics_enabled=False, fill_width=False) as demo:
        picks = page_bridge()
        words = "This is a stored run of the sample library; the base model is loading." if stored else "Starting."
        shell = build_shell(stored.prompt.prompt if stored else EXAMPLES[0], first.record, words)
        with gr.Tabs() as tabs:
            with gr.Tab("Library", id="Library"):
                library_tab = build_library_tab(first)
                intake = build_intake(allow_local=allow_local)
            with gr.Tab("Routing", id="Routing"):
                note = caption_html(stored.prompt.trace, "Stored run.") if stored else ""
                routing_tab = build_routing_tab(first, _stored_answer(place), note)
            with gr.Tab("Compare", id="Compare"):
                compare_tab = build_compare_tab(first, stored.prompt.answers if stored else ())
        link_source = gr.State(library if library == SAMPLE else "")

        def show(session: Session) -> Updates:
            """Everything that depends on the library."""
            own = session.own
            return {
                **library_updates(library_tab, session),
                **routing_updates(routing_tab, session, DEFAULT_FILTERS, menus=True),
                **compare_menus(compare_tab, session),
                routing_tab.answer: empty_answer(),
                routing_tab.caption: "",
                link_source: own.link if own is not None else place.first_source,
                shell.header: header_html(session.record, place.engine.state(place.base_name(session)).words),
                shell.status: status_html(
                    "ok", f"Opened {session.record.title}." if session.record else "Nothing open."
                ),
            }

        shown: list[Any] = list(show(first))
        weighed = [library_tab.map]

        def weigh(session: Session) -> Updates:
            return {}

        connect_library_tab(library_tab, shell, picks, place)
        connect_intake(intake, shell, place, show, shown)
        connect_routing_tab(routing_tab, shell, picks, place)
        events = connect_running(routing_tab, shell, place, weigh, weighed)
        events += connect_compare_tab(compare_tab, shell, place)
        _connect_stop(shell, events, place)
        _connect_link(demo, shell, routing_tab, tabs, link_source, place, show, shown)
    return demo.queue(default_concurrency_limit=8)


def launch(library: str = SAMPLE, host: str = "127.0.0.1", port: int = 7860, share: bool = False) -> None:
    """Serve the page until it is stopped.

    Raises:
        SettingsError: the port cannot be used.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    demo = build_app(library, allow_local=host in ("127.0.0.1", "localhost", "::1") and not share)
    try:
        demo.launch(server_name=host, server_port=port or None, share=share, **launch_options())
    except OSError as error:
        raise SettingsError(f"Port {port}", "cannot be used", fix="Name another one with --port.") from error


def launch_options() -> dict[str, Any]:
    """What every way of serving the page has in common: look, limits, and no request to another host."""
    return {
        "theme": theme.theme(),
        "css": theme.css(),
        "head": theme.head(),
        "max_file_size": MAX_UPLOAD,
        "run_history": False,
        "ssr_mode": False,
        "footer_links": ["api"],
    }


def _stored_answer(place: Workplace) -> str:
    if place.stored is None:
        return empty_answer()
    trace = place.stored.prompt.trace
    for answer in place.stored.prompt.answers:
        if answer.router == trace.router:
            return compare_column_html(answer.router, answer.text, "done", tokens=answer.tokens, seconds=answer.seconds)
    return empty_answer()


def _connect_stop(shell: Any, events: list[Any], place: Workplace) -> None:
    @guarded(shell.status)
    def stop(request: gr.Request) -> Updates:
        place.sessions.get(request.session_hash).stop.set()
        return {shell.status: status_html("ok", "Stopped.")}

    # The work itself sees the flag before its next step and says how far it came.
    shell.stop.click(stop, None, [shell.status], queue=False, api_visibility="private", show_progress="hidden")


def _connect_link(
    demo: gr.Blocks,
    shell: Any,
    routing_tab: Any,
    tabs: gr.Tabs,
    link_source: gr.State,
    place: Workplace,
    show: Any,
    shown: list[Any],
) -> None:
    copied = status_html("ok", "The address of this view is in the address bar and on the clipboard.")
    shell.link.click(
        None,
        [link_source, shell.prompt, routing_tab.router, routing_tab.top_k, routing_tab.layer],
        [shell.status],
        js=COPY_JS.replace("COPIED", json.dumps(copied)),
    )

    @guarded_stream(shell.status)
    def restore(request: gr.Request) -> Iterator[Updates]:
        session = place.sessions.get(request.session_hash)
        link = read_link(dict(request.query_params))
        place.start()
        yield from _open_linked(link, session)
        yield _restored(link)
        while True:
            name = place.base_name(session)
            state = place.engine.state(name)
            yield {shell.header: header_html(session.record, state.words)}
            if state.kind in ("ready", "failed"):
                break
            import time  # noqa: PLC0415

            time.sleep(TICK * 5)

    def _open_linked(link: Link, session: Session) -> Iterator[Updates]:
        if link.library is not None and link.library != place.first_source:
            yield {shell.status: status_html("busy", "Opening the library that the address names ...")}
            session.own = place.open_source(link.library)
            session.record, session.trace = session.own.record(), None
            place.base_for(session.own)
            yield show(session)
        elif session.record is None:
            yield {shell.status: status_html("busy", "Opening the library ...")}
            session.record = place.first().record()
            yield show(session)

    def _restored(link: Link) -> Updates:
        updates: Updates = {}
        if link.prompt is not None:
            updates[shell.prompt] = link.prompt
        if link.router is not None:
            updates[routing_tab.router] = link.router
        if link.top_k is not None:
            updates[routing_tab.top_k] = link.top_k
        if link.layer is not None:
            updates[routing_tab.layer] = gr.update(value=link.layer)
        if link.tab is not None:
            updates[tabs] = gr.Tabs(selected=link.tab)
        if link.problems:
            updates[shell.status] = status_html(
                "error", f"Not everything could be restored: {'; '.join(link.problems)}."
            )
        return updates or {shell.status: gr.skip()}

    outputs = [*dict.fromkeys([*shown, shell.prompt, routing_tab.router, routing_tab.top_k, routing_tab.layer, tabs])]
    demo.load(restore, None, outputs, show_progress="hidden", api_visibility="private")

    def leave(request: gr.Request) -> None:
        place.sessions.drop(request.session_hash)

    demo.unload(leave)
