"""Up to four routers answer the same prompt side by side, in one batch and from one seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import gradio as gr

from explorer.errors import SettingsError
from explorer.models.routed_model import RoutedModel
from explorer.routing.registry import ROUTERS
from explorer.routing.router import Router
from explorer.ui import pictures
from explorer.ui.answers import status_html
from explorer.ui.choices import check_size, one_of, prompt_text, router_of
from explorer.ui.controls import CHOICE, SETTINGS, choice_beside
from explorer.ui.desk import Desk
from explorer.ui.html import count_text
from explorer.ui.narrate import Stopped, narrated
from explorer.ui.options import LIMITS
from explorer.ui.pictures import Updates
from explorer.ui.routing_acts import STOPPED, read_sampling, ready
from explorer.ui.sessions import Run, Session
from explorer.ui.state import Column, RouterChoice
from explorer.ui.streams import AnswerStream, Pace, departure

NONE = "none"
DEFAULTS = ("base", "arrow", "uniform", "single")
PICKERS = tuple(f"column_router_{index}" for index in range(LIMITS.columns))
ADAPTERS = tuple(f"adapter_{index}" for index in range(LIMITS.columns))
SAMPLING = ("compare_tokens", "compare_temperature", "compare_seed")
ASKED = ("prompt", "chat", *SAMPLING, "reference", *PICKERS, *ADAPTERS, *CHOICE)
SHOWN = (*pictures.COLUMN_PARTS, "glance")


def compare(desk: Desk, session: Session, prompt: Any, chat: Any, *values: Any) -> Iterator[Updates]:
    """One generator for all columns; `values` are those of :data:`ASKED` after the prompt."""
    prompt = prompt_text(prompt)
    sampling = read_sampling(*values[:3])
    reference = values[3] if isinstance(values[3], str) else ""
    if len(reference) > LIMITS.prompt_characters:
        raise SettingsError("Reference answer", expected=f"at most {LIMITS.prompt_characters:,} characters")
    choices = read_columns(values[4 : 4 + LIMITS.columns], values[4 + LIMITS.columns : 4 + 2 * LIMITS.columns], values)
    run = session.begin()
    try:
        model = yield from narrated("Making the model ready", lambda say: desk.routed(session, say), run.stop)
        routers = {place: router_of(choice, model.names) for place, choice in choices.items()}
        check_size(model.base, prompt, chat=chat is True, new_tokens=sampling["max_new_tokens"], sites=0, adapters=0)
        yield from ready(model, tuple(routers.values()), run)
        board = _Board(session, routers)
        yield from _stream(board, model, prompt, chat is True, sampling, run)
        if reference.strip() and not run.stop.is_set():
            yield from _score(board, model, prompt, chat is True, reference, run)
    except Stopped:
        yield {"status": status_html("ok", STOPPED)}
    finally:
        run.done.set()


def read_columns(keys: Sequence[Any], adapters: Sequence[Any], values: Sequence[Any]) -> dict[int, RouterChoice]:
    """The router of each column that has one; settings other than the adapter are those of the Routing tab.

    Raises:
        SettingsError: no column has a router, or one of them is unknown.
    """
    settings = values[-len(SETTINGS) :]
    found = {}
    for place, (key, adapter) in enumerate(zip(keys, adapters, strict=True)):
        if one_of(key, f"Column {place + 1}", (NONE, *ROUTERS)) == NONE:
            continue
        found[place] = choice_beside(key, adapter, settings)
    if not found:
        raise SettingsError("Compare", "has no column with a router", fix="Choose one on top of a column.")
    return found


class _Board:
    """The columns in the making, kept in the session so that Stop finds them."""

    def __init__(self, session: Session, routers: dict[int, Router]) -> None:
        self.session = session
        self.places = tuple(routers)
        self.routers = tuple(routers.values())
        self.streams = [AnswerStream(router.label) for router in self.routers]
        self.pace = Pace()

    def columns(self, *, ended: bool = False) -> tuple[Column, ...]:
        """All four, those without a router empty."""
        found = [Column("No router chosen")] * LIMITS.columns
        first = self.streams[0].ids
        for place, stream in zip(self.places, self.streams, strict=True):
            both = ended or (stream.finished is not None and self.streams[0].finished is not None)
            departs = departure(first, stream.ids, ended=both) if stream is not self.streams[0] else None
            found[place] = replace(stream.column, departs_at=departs)
        return tuple(found)

    def keep(self, *, ended: bool = False) -> Updates:
        """Put the columns into the session; what the page shows of them."""
        columns = self.columns(ended=ended)
        return pictures.columns(self.session.change(lambda view: replace(view, columns=columns, stored_columns=False)))


def _stream(
    board: _Board, model: RoutedModel, prompt: str, chat: bool, sampling: dict[str, Any], run: Run
) -> Iterator[Updates]:
    events = model.generate(prompt, board.routers, chat=chat, stop=run.stop.is_set, **sampling)
    yield {**board.keep(), "status": status_html("busy", "Reading the prompt")}
    try:
        with closing(events):  # type: ignore[type-var]
            for event in events:
                board.streams[event.row].take(event)
                if board.pace.is_due():
                    words = f"Generating {count_text(len(board.streams), 'answer')}"
                    yield {**board.keep(), "status": status_html("busy", words)}
    finally:
        for stream in board.streams:
            stream.end(stopped=run.stop.is_set())
        shown = board.keep()
    yield {**shown, "glance": pictures.glance(board.session.view), "status": status_html("ok", _summary(board, run))}


def _score(board: _Board, model: RoutedModel, prompt: str, chat: bool, reference: str, run: Run) -> Iterator[Updates]:
    """The log-likelihood of the reference answer in each column."""
    for stream, router in zip(board.streams, board.routers, strict=True):
        found = yield from narrated(
            "Scoring the reference answer",
            lambda _, router=router: model.log_likelihood(prompt, reference, router, chat=chat),  # type: ignore[misc]
            run.stop,
        )
        stream.column = replace(stream.column, log_likelihood=found.total)
        yield board.keep()
    yield {**board.keep(), "status": status_html("ok", _summary(board, run) + " The reference answer was scored.")}


def _summary(board: _Board, run: Run) -> str:
    if run.stop.is_set():
        return STOPPED
    tokens = sum(len(stream.ids) for stream in board.streams)
    seconds = max((stream.seconds for stream in board.streams), default=0.0)
    rate = f", {tokens / seconds:.1f} tokens/s together" if seconds else ""
    return f"{count_text(len(board.streams), 'answer')} in {seconds:.1f} s{rate}."


def pick_column_router(_: Desk, __: Session, *keys: Any) -> Updates:
    """The pickers on top of the columns: only a single adapter needs a name."""
    return {name: gr.update(visible=key == "single") for name, key in zip(ADAPTERS, keys, strict=True)}
