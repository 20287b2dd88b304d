"""The Routing tab: what the router does on the prompt, token by token and layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from explorer.routing.trace import RoutingTrace
from explorer.ui import cards, figures
from explorer.ui.answers import compare_column_html, status_html
from explorer.ui.bridge import OVERVIEW_ID, picked_cell, picked_token
from explorer.ui.guard import Updates, guarded
from explorer.ui.router_choice import CHOICES, one_of
from explorer.ui.sessions import Session
from explorer.ui.shell import Shell
from explorer.ui.strip import EMPTY_STRIP, strip_html
from explorer.ui.traces_view import layers, modules
from explorer.ui.workplace import Workplace

ALL = "all"


@dataclass(frozen=True, eq=False)
class RoutingTab:
    """The components of the tab."""

    router: gr.Dropdown
    adapter: gr.Dropdown
    top_k: gr.Number
    temperature: gr.Number
    unit_norm: gr.Checkbox
    tokens: gr.Number
    strip: gr.HTML
    answer: gr.HTML
    layer: gr.Dropdown
    module: gr.Dropdown
    span: gr.Dropdown
    template: gr.Checkbox
    overview: gr.Plot
    detail: gr.Plot
    entropy: gr.Plot
    share: gr.Plot
    caption: gr.HTML

    @property
    def choice(self) -> list[gr.Component]:
        """The router's controls, in the order of `chosen_router`'s arguments."""
        return [self.router, self.top_k, self.temperature, self.unit_norm, self.adapter]

    @property
    def filters(self) -> list[gr.Component]:
        """What narrows the view down."""
        return [self.layer, self.module, self.span, self.template]


def build_routing_tab(session: Session, answer: str, caption: str) -> RoutingTab:
    """Lay the tab out with the session's trace."""
    values = routing_values(session, ALL, ALL, "typed", False)
    names = list(session.record.names) if session.record is not None else []
    with gr.Row(equal_height=False, elem_classes="lx-controls"):
        router = gr.Dropdown(list(CHOICES), value="arrow", label="Router", min_width=130, elem_id="router")
        adapter = gr.Dropdown(names, value=names[0] if names else None, label="Adapter", min_width=150, visible=False)
        top_k = gr.Number(4, label="Top k", minimum=1, precision=0, min_width=80, elem_id="top-k")
        temperature = gr.Number(1.0, label="Temperature", minimum=0.0001, step=0.1, min_width=90)
        unit_norm = gr.Checkbox(False, label="Unit-norm input", min_width=120)
        tokens = gr.Number(48, label="New tokens", minimum=1, maximum=512, precision=0, min_width=90)
    caption_box = gr.HTML(caption, padding=False, elem_id="trace-caption")
    with gr.Column(elem_id="routing-view") as _:
        strip = gr.HTML(values["strip"], padding=False, elem_id="strip")
        answer_box = gr.HTML(answer, padding=False, elem_id="answer")
        with gr.Row(equal_height=False, elem_classes="lx-controls"):
            layer = gr.Dropdown(values["layers"], value=ALL, label="Layer", min_width=90, elem_id="layer")
            module = gr.Dropdown(values["modules"], value=ALL, label="Module", min_width=110, elem_id="module")
            span = gr.Dropdown(
                [("typed and generated", "typed"), ("prompt as typed", "prompt"), ("generated", "generated"),
                 ("everything, template too", "everything"), ("selected token", "selected")],
                value="typed", label="Tokens in the overview", min_width=170, elem_id="span",
            )  # fmt: skip
            template = gr.Checkbox(False, label="Show template tokens", min_width=150)
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                gr.HTML(_heading("Mean weight, layer by adapter"), padding=False)
                overview = gr.Plot(values["overview"], show_label=False, container=False, elem_id=OVERVIEW_ID)
            with gr.Column(scale=2, min_width=300):
                gr.HTML(_heading("Selected token: raw scores and weights"), padding=False)
                detail = gr.Plot(values["detail"], show_label=False, container=False, elem_id="detail-plot")
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                gr.HTML(_heading("Entropy of the weights, layer by layer"), padding=False)
                entropy = gr.Plot(values["entropy"], show_label=False, container=False)
            with gr.Column(min_width=320):
                gr.HTML(_heading("Share of the routing weight"), padding=False)
                share = gr.Plot(values["share"], show_label=False, container=False)
    return RoutingTab(
        router, adapter, top_k, temperature, unit_norm, tokens, strip, answer_box, layer, module, span, template,
        overview, detail, entropy, share, caption_box,
    )  # fmt: skip


def routing_values(session: Session, layer: Any, module: Any, span: Any, template: Any) -> dict[str, Any]:
    """What each component shows for the session's trace and selection."""
    trace, record = session.trace, session.record
    if trace is None or record is None:
        empty = dict.fromkeys(("overview", "detail", "entropy", "share"))
        return {**empty, "strip": EMPTY_STRIP, "layers": [ALL], "modules": [ALL]}
    one_layer = one_of(_whole(layer), layers(trace))
    one_module = one_of(module, modules(trace))
    token = session.token if session.token is not None and session.token < len(trace.tokens) else _last_typed(trace)
    tokens = _span(trace, span, token)
    return {
        "strip": strip_html(trace, record, token, layer=one_layer, module=one_module, show_template=bool(template)),
        "overview": figures.routing_overview_figure(trace, record, tokens=tokens, module=one_module),
        "detail": figures.token_detail_figure(trace, record, token, one_layer, one_module),
        "entropy": figures.entropy_figure(trace, tokens, one_module),
        "share": figures.share_figure(trace, record, tokens=tokens),
        "layers": [ALL, *(str(number) for number in layers(trace))],
        "modules": [ALL, *modules(trace)],
    }


def routing_updates(tab: RoutingTab, session: Session, filters: tuple[Any, ...], *, menus: bool = False) -> Updates:
    """Draw the tab anew; with `menus` the lists of layers, modules and adapters too."""
    values = routing_values(session, *filters)
    updates: Updates = {
        getattr(tab, part): values[part] for part in ("strip", "overview", "detail", "entropy", "share")
    }
    if menus:
        names = list(session.trace.names if session.trace else session.record.names if session.record else [])
        updates[tab.layer] = gr.update(choices=values["layers"], value=one_of(filters[0], values["layers"]) or ALL)
        updates[tab.module] = gr.update(choices=values["modules"], value=one_of(filters[1], values["modules"]) or ALL)
        updates[tab.adapter] = gr.update(choices=names)
    return updates


def connect_routing_tab(tab: RoutingTab, shell: Shell, picks: gr.HTML, place: Workplace) -> None:
    """Attach the handlers that only look at what was routed (running is in `running.py`)."""
    safe = guarded(shell.status)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    figures_only = [tab.strip, tab.overview, tab.detail, tab.entropy, tab.share, shell.status]

    @safe
    def look(layer: Any, module: Any, span: Any, template: Any, request: gr.Request) -> Updates:
        return routing_updates(tab, place.sessions.get(request.session_hash), (layer, module, span, template))

    @safe
    def token(layer: Any, module: Any, span: Any, template: Any, evt: gr.EventData, request: gr.Request) -> Updates:
        session = place.sessions.get(request.session_hash)
        index = picked_token(evt, len(session.trace.tokens) if session.trace else 0)
        if index is None:
            return {}
        session.token = index
        updates = routing_updates(tab, session, (layer, module, span, template))
        kept = (tab.strip, tab.detail) if span != "selected" else figures_only[:-1]
        return {component: updates[component] for component in kept}

    @safe
    def cell(evt: gr.EventData, request: gr.Request) -> Updates:
        session = place.sessions.get(request.session_hash)
        if session.trace is None:
            return {}
        found = picked_cell(evt, layers(session.trace), session.trace.names)
        return {tab.layer: str(found[0])} if found is not None and found[0] is not None else {}

    @safe
    def settings(router: Any) -> Updates:
        arrow = router == "arrow"
        return {
            tab.adapter: gr.update(visible=router == "single"),
            tab.top_k: gr.update(visible=arrow),
            tab.temperature: gr.update(visible=arrow),
            tab.unit_norm: gr.update(visible=arrow),
        }

    @safe
    def stale(prompt: Any, chat: Any, *choice: Any, request: gr.Request) -> Updates:
        session = place.sessions.get(request.session_hash)
        if session.trace is None or not session.routed_with:
            return {}
        if session.routed_with == (prompt, bool(chat), *choice):
            return {tab.caption: caption_html(session.trace, "")}
        return {tab.caption: stale_html()}

    for part in tab.filters:
        part.change(look, tab.filters, figures_only, trigger_mode="always_last", **quiet)
    picks.token(token, tab.filters, figures_only, trigger_mode="always_last", **quiet)
    picks.cell(cell, None, [tab.layer, shell.status], **quiet)
    tab.router.change(
        settings, [tab.router], [tab.adapter, tab.top_k, tab.temperature, tab.unit_norm, shell.status], **quiet
    )
    for part in (shell.prompt, shell.chat, *tab.choice):
        part.change(
            stale,
            [shell.prompt, shell.chat, *tab.choice],
            [tab.caption, shell.status],
            trigger_mode="always_last",
            **quiet,
        )


def caption_html(trace: RoutingTrace, note: str) -> str:
    """What the figures below were made from."""
    said = f"{trace.router}, {len(trace.sites)} modules, {len(trace.names)} adapters. {note}"
    return status_html("ok", said)


def stale_html() -> str:
    """The figures belong to an older prompt or router."""
    return (
        f'<div class="is-stale">{status_html("stale", "Prompt or router has changed since: Route to refresh.")}</div>'
    )


def empty_answer() -> str:
    """The answer box before anything was generated."""
    return compare_column_html("Answer of the routed model", "", "empty")


def _heading(words: str) -> str:
    return f'<h3 class="lx-heading">{cards.text(words)}</h3>'


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6 else None


def _last_typed(trace: RoutingTrace) -> int:
    typed = [index for index in range(trace.prompt_length) if trace.typed[index]]
    return typed[-1] if typed else len(trace.tokens) - 1


def _span(trace: RoutingTrace, span: Any, token: int) -> slice | None:
    """The tokens that the overview averages over (the user's own text is one run of tokens)."""
    typed = [index for index in range(trace.prompt_length) if trace.typed[index]]
    first = typed[0] if typed else 0
    if span == "selected":
        return slice(token, token + 1)
    if span == "everything":
        return None
    if span == "generated" and len(trace.tokens) > trace.prompt_length:
        return slice(trace.prompt_length, len(trace.tokens))
    if span == "prompt" or len(trace.tokens) == trace.prompt_length:
        return slice(first, typed[-1] + 1 if typed else trace.prompt_length)
    return slice(first, len(trace.tokens))
