"""The Compare tab: up to four routers on one prompt, all stepped in one batch, all streaming at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from explorer.models.events import Finished, GenerationEvent, TokenEmitted
from explorer.models.routed_model import RoutedModel
from explorer.records.prompt_record import Answer
from explorer.routing.router import Router
from explorer.ui.answers import ColumnState, compare_column_html, status_html
from explorer.ui.guard import Updates, guarded, guarded_stream
from explorer.ui.router_choice import CHOICES, checked_prompt, chosen_router, number, whole
from explorer.ui.running import MAX_NEW_TOKENS, TICK, ready_model
from explorer.ui.sessions import Session
from explorer.ui.shell import Shell
from explorer.ui.workplace import Workplace

COLUMNS = 4
NONE = "none"
DEFAULTS = ("base", "arrow", "uniform", "single")


@dataclass(frozen=True, eq=False)
class CompareTab:
    """The components of the tab, one list entry a column."""

    routers: list[gr.Dropdown]
    adapters: list[gr.Dropdown]
    answers: list[gr.HTML]
    run: gr.Button
    tokens: gr.Number
    temperature: gr.Number
    seed: gr.Number
    top_k: gr.Number
    reference: gr.Textbox


@dataclass
class _Column:
    """One answer in the making."""

    router: Router
    text: str = ""
    ids: list[int] = field(default_factory=list)
    state: ColumnState = "waiting"
    seconds: float = 0.0
    likelihood: float | None = None


def build_compare_tab(session: Session, stored: Sequence[Answer]) -> CompareTab:
    """Lay the tab out; `stored` fills the columns until something was run."""
    names = list(session.record.names) if session.record is not None else []
    routers, adapters, answers = [], [], []
    with gr.Row(equal_height=False, elem_classes="lx-controls"):
        run = gr.Button("Run all columns", variant="primary", min_width=130, elem_id="compare-button")
        tokens = gr.Number(48, label="New tokens", minimum=1, maximum=MAX_NEW_TOKENS, precision=0, min_width=90)
        temperature = gr.Number(0.0, label="Sampling temperature", minimum=0, maximum=5, step=0.1, min_width=120)
        seed = gr.Number(0, label="Seed", minimum=0, precision=0, min_width=80)
        top_k = gr.Number(4, label="Arrow's top k", minimum=1, precision=0, min_width=90)
    reference = gr.Textbox(
        "", label="Reference answer (optional): its log-likelihood under each router", lines=1, elem_id="reference"
    )
    with gr.Row(equal_height=False):
        for column in range(COLUMNS):
            with gr.Column(min_width=230):
                default = DEFAULTS[column]
                routers.append(
                    gr.Dropdown([*CHOICES, ("(no column)", NONE)], value=default, label=f"Column {column + 1}")
                )
                adapters.append(
                    gr.Dropdown(names, value=names[0] if names else None, label="Adapter", visible=default == "single")
                )
                answers.append(gr.HTML(_stored_html(stored, column), padding=False, elem_id=f"column-{column}"))
    return CompareTab(routers, adapters, answers, run, tokens, temperature, seed, top_k, reference)


def _stored_html(stored: Sequence[Answer], column: int) -> str:
    if column < len(stored):
        answer = stored[column]
        return compare_column_html(answer.router, answer.text, "done", tokens=answer.tokens, seconds=answer.seconds)
    return compare_column_html("Not run yet", "", "empty")


def compare_menus(tab: CompareTab, session: Session) -> Updates:
    """The adapter lists and empty columns of another library."""
    names = list(session.record.names) if session.record is not None else []
    menu = gr.update(choices=names, value=names[0] if names else None)
    empty = compare_column_html("Not run yet", "", "empty")
    return {**dict.fromkeys(tab.adapters, menu), **dict.fromkeys(tab.answers, empty)}


def connect_compare_tab(tab: CompareTab, shell: Shell, place: Workplace) -> list[Any]:
    """Attach the handlers; returns the events, for Stop."""
    safe = guarded_stream(shell.status)
    for router, adapter in zip(tab.routers, tab.adapters, strict=True):
        show = guarded(shell.status)(_shows(adapter))
        router.change(show, [router], [adapter, shell.status], api_visibility="private", show_progress="hidden")

    def say(line: str) -> Updates:
        return {shell.status: status_html("busy", f"{line} ...")}

    @safe
    def compare(
        prompt: Any, chat: Any, tokens: Any, temperature: Any, seed: Any, top_k: Any, reference: Any, *rest: Any,
        request: gr.Request,
    ) -> Iterator[Updates]:  # fmt: skip
        session = place.sessions.get(request.session_hash)
        session.stop = type(session.stop)()
        text = checked_prompt(prompt)
        places = [index for index in range(COLUMNS) if rest[index] != NONE]
        columns = [_Column(chosen_router(rest[index], top_k=top_k, adapter=rest[COLUMNS + index])) for index in places]
        if not columns:
            yield {shell.status: status_html("error", "No column has a router. Choose at least one.")}
            return
        options = {
            "chat": bool(chat),
            "max_new_tokens": whole("New tokens", tokens, 1, MAX_NEW_TOKENS),
            "temperature": number("Sampling temperature", temperature, 0.0, 5.0),
            "seed": whole("Seed", seed, 0, 2**31 - 1),
        }
        answer = reference.strip()[:4000] if isinstance(reference, str) else ""
        for step in ready_model(place, session, say):
            if not isinstance(step, RoutedModel):
                yield step
                continue
            yield from run_columns(step, text, columns, places, options, answer, session)

    def run_columns(
        routed: RoutedModel,
        text: str,
        columns: list[_Column],
        places: list[int],
        options: dict[str, Any],
        reference: str,
        session: Session,
    ) -> Iterator[Updates]:
        stop, shown = session.stop, 0.0
        events = routed.generate(text, [column.router for column in columns], stop=stop.is_set, **options)
        began = time.monotonic()
        try:
            yield {**_drawn(tab, columns, places), shell.status: status_html("busy", "All columns are writing ...")}
            for event in events:
                _take(event, columns, time.monotonic() - began)
                if time.monotonic() - shown > TICK:
                    shown = time.monotonic()
                    yield _drawn(tab, columns, places)
        finally:
            events.close()  # type: ignore[attr-defined]
        if reference and not stop.is_set():
            for column in columns:
                column.likelihood = routed.log_likelihood(text, reference, column.router, chat=options["chat"]).total
        total = sum(len(column.ids) for column in columns)
        words = f"{len(columns)} columns, {total} tokens in {time.monotonic() - began:.1f} s"
        yield {
            **_drawn(tab, columns, places),
            shell.status: status_html("ok", words + (": stopped." if stop.is_set() else ".")),
        }

    inputs = [
        shell.prompt, shell.chat, tab.tokens, tab.temperature, tab.seed, tab.top_k, tab.reference,
        *tab.routers, *tab.adapters,
    ]  # fmt: skip
    event = tab.run.click(
        compare,
        inputs,
        [*tab.answers, shell.status],
        api_name="compare",
        concurrency_id="model",
        concurrency_limit=4,
        show_progress="hidden",
    )
    return [event]


def _shows(adapter: gr.Dropdown) -> Any:
    def show(router: Any) -> Updates:
        return {adapter: gr.update(visible=router == "single")}

    return show


def _take(event: GenerationEvent, columns: list[_Column], seconds: float) -> None:
    if isinstance(event, TokenEmitted):
        column = columns[event.row]
        column.ids.append(event.token_id)
        column.text += event.text
        column.state, column.seconds = "running", seconds
    elif isinstance(event, Finished):
        column = columns[event.row]
        column.text, column.seconds = event.text, event.seconds
        column.state = "stopped" if event.reason == "stopped" else "done"


def _drawn(tab: CompareTab, columns: list[_Column], places: list[int]) -> Updates:
    """Every column as it stands, with the first token at which it departs from the first one."""
    updates: Updates = dict.fromkeys(tab.answers, compare_column_html("No router", "", "empty"))
    for column, index in zip(columns, places, strict=True):
        updates[tab.answers[index]] = compare_column_html(
            column.router.label,
            column.text,
            column.state,
            tokens=len(column.ids) or None,
            seconds=column.seconds or None,
            log_likelihood=column.likelihood,
            departs_at=departure(columns[0].ids, column.ids) if column is not columns[0] else None,
        )
    return updates


def departure(first: Sequence[int], other: Sequence[int]) -> int | None:
    """Index of the first token at which `other` differs from `first`; None while it does not."""
    for index, (one, two) in enumerate(zip(first, other, strict=False)):
        if one != two:
            return index
    return None
