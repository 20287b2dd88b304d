"""What one session's page shows, as one frozen value: every picture of the page is drawn from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from explorer.records.library_record import LibraryRecord
from explorer.records.prompt_record import PromptRecord
from explorer.routing.trace import RoutingTrace
from explorer.ui.answers import ColumnState
from explorer.ui.evaluation_view import EvaluationView

Tab = Literal["Library", "Routing", "Compare", "Evaluate"]
TABS: tuple[Tab, ...] = ("Library", "Routing", "Compare", "Evaluate")


@dataclass(frozen=True)
class RouterChoice:
    """A router as chosen on the page: its key and the settings that differ from one page to the next."""

    key: str = "arrow"
    settings: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, eq=False)
class Routed:
    """A text that went through the model.

    Attributes:
        prompt: as typed.
        chat: whether the chat template was applied.
        choice: the router asked for; None for a stored run (its label is in the trace).
        trace: what was recorded.
        seconds: how long it took, None for a stored run.
    """

    prompt: str
    chat: bool
    choice: RouterChoice | None
    trace: RoutingTrace
    seconds: float | None = None


@dataclass(frozen=True)
class Column:
    """One column of the comparison."""

    label: str
    text: str = ""
    state: ColumnState = "empty"
    tokens: int | None = None
    seconds: float | None = None
    log_likelihood: float | None = None
    departs_at: int | None = None
    problem: str = ""


@dataclass(frozen=True, eq=False)
class View:
    """The page of one session.

    Attributes:
        record: the library with its analysis; None before any library is open.
        measure, sparsity: as the similarity was computed.
        selected: the adapter on the card.
        highlighted: adapters that are not faded on the map; None: all.
        sized: whether the points of the map grow with the adapter's weight for the prompt.
        routed: the text in the strip.
        stored, stored_columns: whether `routed` and `columns` come from the stored run.
        stale: whether the prompt or the router has changed since.
        token, layer, module, first, last: what the routing views look at (None: all).
        show_template: whether the strip shows the chat template's tokens.
        columns: the latest answers side by side.
        answer: the latest answer of the Routing tab.
        evaluation: the Evaluate tab.
        tab: the one in front.
    """

    record: LibraryRecord | None = None
    measure: str = "update"
    sparsity: float = 0.5
    selected: str | None = None
    highlighted: frozenset[str] | None = None
    sized: bool = False
    routed: Routed | None = None
    stored: bool = False
    stored_columns: bool = False
    stale: bool = False
    token: int | None = None
    layer: int | None = None
    module: str | None = None
    first: int | None = None
    last: int | None = None
    show_template: bool = False
    columns: tuple[Column, ...] = ()
    answer: Column | None = None
    evaluation: EvaluationView = field(default_factory=EvaluationView)
    tab: Tab = "Library"

    @property
    def tokens(self) -> slice | None:
        """The tokens that the routing views average over."""
        if self.routed is None or (self.first is None and self.last is None):
            return None
        return slice(self.first or 0, None if self.last is None else self.last + 1)


@dataclass(frozen=True)
class FirstView:
    """The stored run that a page opens with, and the evaluation that lies in the library."""

    record: LibraryRecord
    prompt: PromptRecord = field(repr=False)
    evaluation: EvaluationView = field(default_factory=EvaluationView, repr=False)


def view_of(record: LibraryRecord, evaluation: EvaluationView | None = None) -> View:
    """A library as it looks when it was just opened, with the evaluation that lies in it."""
    selected = record.names[0] if record.names else None
    return View(record=record, selected=selected, evaluation=evaluation or EvaluationView())


def stored_view(first: FirstView) -> View:
    """The stored run as a page shows it; the adapter with the largest weight is on the card."""
    prompt = first.prompt
    routed = Routed(prompt.prompt, prompt.chat, None, prompt.trace)
    columns = tuple(
        Column(answer.router, answer.text, "done", answer.tokens, answer.seconds) for answer in prompt.answers
    )
    typed = [index for index, own in enumerate(prompt.trace.typed) if own]
    best = _heaviest(prompt.trace, typed)
    opened = view_of(first.record, first.evaluation)
    view = replace(opened, routed=routed, columns=columns, stored=True, stored_columns=True, sized=True)
    return replace(view, token=typed[-1] if typed else None, selected=best or view.selected)


def with_trace(view: View, routed: Routed) -> View:
    """The view after a text was routed; the selected token stays where there is still one."""
    typed = [index for index, own in enumerate(routed.trace.typed[: routed.trace.prompt_length]) if own]
    keep = view.token if view.token is not None and view.token < len(routed.trace.tokens) and not view.stored else None
    token = keep if keep is not None else (typed[-1] if typed else 0)
    return replace(view, routed=routed, stored=False, stale=False, token=token, first=None, last=None)


def _heaviest(trace: RoutingTrace, tokens: list[int]) -> str | None:
    if not trace.names or not tokens:
        return None
    return trace.names[int(trace.weights[:, tokens].sum(axis=(0, 1)).argmax())]
