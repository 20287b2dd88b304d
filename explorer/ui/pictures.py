"""From a session's view to what the page's parts show: names of parts -> values. Pure, so a test needs no browser."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.records.library_record import LibraryRecord
from explorer.ui import cards, figures
from explorer.ui.answers import compare_column_html
from explorer.ui.evaluation_pictures import EVALUATION_PARTS, evaluation
from explorer.ui.html import count_text, text
from explorer.ui.options import LIMITS
from explorer.ui.state import Column, Routed, View
from explorer.ui.strip import EMPTY_STRIP, strip_html
from explorer.ui.tables import adapters_table
from explorer.ui.traces_view import layers, modules, shares

Updates = dict[str, Any]
ALL = "all"

LIBRARY_PARTS = (
    *("map", "legend", "map_note", "card", "spectrum", "layer_norms"),
    *("library_card", "silhouette", "heat", "table", "clusters", "glance"),
)
ROUTING_PARTS = ("strip", "overview", "detail", "entropy", "share", "routed_note", "views", "layer", "module", "range")
COLUMN_PARTS = tuple(f"column_{index}" for index in range(LIMITS.columns))
ADAPTER_PICKERS = ("router_single_name", "evaluate_adapter", *(f"adapter_{index}" for index in range(LIMITS.columns)))
EVERY_PART = (*LIBRARY_PARTS, *ROUTING_PARTS, *COLUMN_PARTS, *ADAPTER_PICKERS, *EVALUATION_PARTS, "answer")


def everything(view: View) -> Updates:
    """All parts that depend on the view."""
    tabs = {**library(view), **routing(view), **columns(view), **evaluation(view.evaluation, view.record)}
    return {**tabs, **pickers(view), "answer": answer(view.answer)}


def library(view: View) -> Updates:
    """The Library tab."""
    record = view.record
    if record is None:
        empty = cards.empty_html("No library is open yet.")
        blank: Updates = dict.fromkeys(LIBRARY_PARTS, None)
        return {**blank, "clusters": gr.update(), "card": empty, "legend": "", "map_note": "", "library_card": empty}
    return {
        **chosen_adapter(view),
        **clusters(view),
        "map_note": cards.map_note_html(record),
        "library_card": cards.library_card_html(record),
        "glance": glance(view),
    }


def clusters(view: View) -> Updates:
    """What changes with the similarity and the number of clusters."""
    record = view.record
    if record is None:
        return {}
    most = max(len(record.names) - 1, 2)
    return {
        "map": the_map(view),
        "legend": cards.legend_html(record),
        "library_card": cards.library_card_html(record),
        "silhouette": figures.silhouette_figure(record),
        "heat": figures.similarity_figure(record),
        "table": adapters_table(record),
        "clusters": gr.update(
            maximum=min(most, 64), value=record.clustering.n_clusters, interactive=len(record.names) > 2
        ),
    }


def the_map(view: View) -> Any:
    """The map, its points sized by the weights of the routed text where that is wished."""
    if view.record is None:
        return None
    return figures.map_figure(
        view.record,
        selected=view.selected,
        weights=_weights(view) if view.sized else None,
        highlighted=view.highlighted,
    )


def chosen_adapter(view: View) -> Updates:
    """The map with the selected adapter, and its card."""
    record = view.record
    if record is None or view.selected is None or view.selected not in record.names:
        return {
            "map": the_map(view),
            "card": cards.empty_html("Pick an adapter."),
            "spectrum": None,
            "layer_norms": None,
        }
    summary = record.summary(view.selected)
    return {
        "map": the_map(view),
        "card": cards.adapter_card_html(summary, record),
        "spectrum": figures.spectrum_figure(summary),
        "layer_norms": figures.layer_norm_figure(summary),
    }


def _weights(view: View) -> dict[str, float] | None:
    return shares(view.routed.trace, _typed(view.routed)) if view.routed is not None else None


def _typed(routed: Routed) -> slice | None:
    """From the first to the last token that the user typed: the template would drown a short prompt."""
    own = [index for index, typed in enumerate(routed.trace.typed[: routed.trace.prompt_length]) if typed]
    return slice(own[0], own[-1] + 1) if own else None


def routing(view: View) -> Updates:
    """The strip and the Routing tab, with controls that fit the trace."""
    routed, record = view.routed, view.record
    if routed is None or record is None:
        blank: Updates = dict.fromkeys(("overview", "detail", "entropy", "share"), None)
        return {**blank, "strip": EMPTY_STRIP, "routed_note": "", "views": gr.update(elem_classes=[])}
    found = layers(routed.trace)
    length = len(routed.trace.tokens)
    return {
        **over_tokens(view),
        **one_token(view),
        "layer": gr.update(choices=[ALL, *(str(layer) for layer in found)], value=_word(view.layer)),
        "module": gr.update(choices=[ALL, *modules(routed.trace)], value=_word(view.module)),
        "range": gr.update(value=range_text(view), placeholder=f"all, or for example 0-{max(length - 1, 0)}"),
    }


def over_tokens(view: View) -> Updates:
    """The pictures of the whole text."""
    routed, record = view.routed, view.record
    if routed is None or record is None:
        return {}
    return {
        "overview": figures.routing_overview_figure(routed.trace, record, tokens=view.tokens, module=view.module),
        "entropy": figures.entropy_figure(routed.trace, view.tokens, view.module),
        "share": figures.share_figure(routed.trace, record, tokens=view.tokens),
        "routed_note": routed_note(view),
        "views": gr.update(elem_classes=["lx-stale"] if view.stale else []),
    }


def one_token(view: View) -> Updates:
    """The strip and the detail of the selected token."""
    routed, record = view.routed, view.record
    if routed is None or record is None:
        return {}
    return {
        "strip": the_strip(view),
        "detail": figures.token_detail_figure(routed.trace, record, view.token or 0, view.layer, view.module),
        "routed_note": routed_note(view),
    }


def the_strip(view: View) -> str:
    """The tokens of the routed text."""
    if view.routed is None or view.record is None:
        return EMPTY_STRIP
    return strip_html(
        view.routed.trace,
        view.record,
        view.token,
        layer=view.layer,
        module=view.module,
        show_template=view.show_template,
    )


def routed_note(view: View) -> str:
    """One line: what was routed, and what the pictures below look at."""
    routed = view.routed
    if routed is None:
        return ""
    source = "Stored run, shown without the model" if view.stored else "This run"
    place = f"layer {ALL if view.layer is None else view.layer}, module {_word(view.module)}"
    token = repr(routed.trace.tokens[view.token]) if view.token is not None else "none"
    return (
        f'<p class="lx-quiet">{text(f"{source}: {routed.trace.router}. Looking at token {token}, {place}.")} '
        f"{text(_averaged(view, len(routed.trace.tokens)))}</p>"
    )


def _averaged(view: View, length: int) -> str:
    """Which tokens the means are taken over: a reader sees the template hidden and would think it left out."""
    if view.tokens is None:
        return f"Means are over all {length} tokens, the chat template's included."
    first, stop, _ = view.tokens.indices(length)
    return f"Means are over tokens {first} to {stop - 1}."


def range_text(view: View) -> str:
    """The chosen tokens as the user would write them ("" for all)."""
    if view.first is None and view.last is None:
        return ""
    return f"{view.first or 0}-{'' if view.last is None else view.last}"


def columns(view: View) -> Updates:
    """The columns of the comparison."""
    filled = [*view.columns, *[Column("No router chosen")] * LIMITS.columns][: LIMITS.columns]
    return {name: column_html(column) for name, column in zip(COLUMN_PARTS, filled, strict=True)}


def column_html(column: Column) -> str:
    """One column."""
    return compare_column_html(
        column.label,
        column.text,
        column.state,
        tokens=column.tokens,
        seconds=column.seconds,
        log_likelihood=column.log_likelihood,
        departs_at=column.departs_at,
        problem=column.problem,
    )


def answer(column: Column | None) -> str:
    """The answer box of the Routing tab."""
    return column_html(column) if column is not None else cards.empty_html("Generate writes an answer here.")


def glance(view: View) -> str:
    """The latest answers of all columns, small, for the Library tab."""
    answers = [column for column in view.columns if column.text or column.state == "failed"]
    if not answers:
        return ""
    title = "Stored run: one prompt, four routers" if view.stored_columns else "The latest comparison"
    cells = "".join(
        f'<div class="lx-glance-cell"><b>{text(column.label)}</b><p>{text(column.text or column.problem)}</p></div>'
        for column in answers
    )
    return (
        f'<section class="lx-glance" aria-label="Answers"><h4>{text(title)}</h4>'
        f'<div class="lx-glance-row">{cells}</div></section>'
    )


def pickers(view: View) -> Updates:
    """The lists of adapters that can be routed."""
    names = routable(view.record)
    best = view.selected if view.selected in names else (names[0] if names else None)
    return {name: gr.update(choices=list(names), value=best) for name in ADAPTER_PICKERS}


def routable(record: LibraryRecord | None) -> tuple[str, ...]:
    """Names of the adapters that routers may use."""
    return tuple(one.name for one in record.adapters if one.can_be_routed) if record is not None else ()


def measured(routed: Routed) -> str:
    """How much was routed, for the status line."""
    trace = routed.trace
    found, kinds = layers(trace), modules(trace)
    size = f"{count_text(len(trace.tokens), 'token')} x {count_text(len(found), 'layer')}"
    return f"{size} x {count_text(len(kinds), 'module')}"


def _word(value: object) -> str:
    return ALL if value is None else str(value)
