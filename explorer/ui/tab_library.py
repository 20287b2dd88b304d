"""The Library tab: the map beside the card, the clusters, the similarity matrix, the table."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from explorer.analysis.similarity import MEASURES
from explorer.records.library_record import LibraryRecord
from explorer.ui import cards, figures, tables
from explorer.ui.bridge import picked_name, picked_names
from explorer.ui.guard import Updates, guarded
from explorer.ui.naming import members
from explorer.ui.router_choice import number, one_of, whole
from explorer.ui.sessions import Session
from explorer.ui.shell import Shell
from explorer.ui.traces_view import shares
from explorer.ui.workplace import Workplace

MOST_CLUSTERS = 40


@dataclass(frozen=True, eq=False)
class LibraryTab:
    """The components of the tab."""

    map: gr.Plot
    legend: gr.HTML
    note: gr.HTML
    by_weight: gr.Checkbox
    card: gr.HTML
    spectrum: gr.Plot
    norms: gr.Plot
    measure: gr.Dropdown
    sparsity: gr.Slider
    clusters: gr.Slider
    silhouette: gr.Plot
    heatmap: gr.Plot
    table: gr.Dataframe
    facts: gr.HTML


def build_library_tab(session: Session) -> LibraryTab:
    """Lay the tab out with what the session shows already."""
    values = first_values(session)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            drawn = gr.Plot(values["map"], show_label=False, container=False, elem_id="map-plot")
            legend = gr.HTML(values["legend"], padding=False)
            note = gr.HTML(values["note"], padding=False)
            by_weight = gr.Checkbox(
                False, label="Point area = weight for the routed prompt", container=False, elem_id="by-weight"
            )
        with gr.Column(scale=2, min_width=300):
            card = gr.HTML(values["card"], padding=False, elem_id="adapter-card")
            spectrum = gr.Plot(values["spectrum"], show_label=False, container=False)
            norms = gr.Plot(values["norms"], show_label=False, container=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            measure = gr.Dropdown(
                [("whole updates (update)", "update"), ("factors A and B (parameters)", "parameters")],
                value="update",
                label="Similarity measure",
                info="'parameters' is the paper code's way and needs adapters that started from the same A.",
                elem_id="measure",
            )
            sparsity = gr.Slider(
                0.0, 0.95, 0.5, step=0.05, label="Sparsity: share of the smallest entries set to zero", visible=False
            )
            clusters = gr.Slider(
                1,
                max(values["most"], 2),
                values["k"],
                step=1,
                label="Clusters (K)",
                info="k-means on the rows of the similarity matrix; the curve shows the silhouette of each K.",
                elem_id="clusters",
            )
            silhouette = gr.Plot(values["silhouette"], show_label=False, container=False)
            facts = gr.HTML(values["facts"], padding=False, elem_id="library-card")
        with gr.Column(scale=3, min_width=320):
            heatmap = gr.Plot(values["heatmap"], show_label=False, container=False, elem_id="similarity-plot")
    table = gr.Dataframe(
        values["table"],
        label="All adapters (click a row to see its card)",
        interactive=False,
        show_search="search",
        max_height=360,
        elem_id="adapter-table",
    )
    return LibraryTab(
        drawn, legend, note, by_weight, card, spectrum, norms, measure, sparsity, clusters, silhouette, heatmap,
        table, facts,
    )  # fmt: skip


def first_values(session: Session) -> dict[str, object]:
    """What each component shows for the session's record (empty states where there is none)."""
    record = session.record
    if record is None:
        names = ("map", "spectrum", "norms", "silhouette", "heatmap", "table")
        empty = cards.empty_html("No library is open yet.")
        return {**dict.fromkeys(names), "legend": "", "note": "", "card": empty, "facts": empty, "k": 1, "most": 2}
    name = session.adapter if session.adapter in record.names else record.names[0]
    summary = record.summary(name)
    return {
        "map": _map(session, record, name, by_weight=False),
        "legend": cards.legend_html(record),
        "note": cards.map_note_html(record),
        "card": cards.adapter_card_html(summary, record),
        "spectrum": figures.spectrum_figure(summary),
        "norms": figures.layer_norm_figure(summary),
        "silhouette": figures.silhouette_figure(record),
        "heatmap": figures.similarity_figure(record),
        "table": tables.adapters_table(record),
        "facts": cards.library_card_html(record),
        "k": record.clustering.n_clusters,
        "most": max(min(len(record.names) - 1, MOST_CLUSTERS), 1),
    }


def library_updates(tab: LibraryTab, session: Session, by_weight: bool = False) -> Updates:
    """Draw the whole tab anew."""
    values = first_values(session)
    updates: Updates = {
        getattr(tab, part): values[part]
        for part in ("legend", "note", "card", "spectrum", "norms", "silhouette", "heatmap", "table", "facts")
    }
    most = values["most"]
    updates[tab.clusters] = gr.update(value=values["k"], maximum=max(int(str(most)), 2))
    updates[tab.map] = _map_now(session, by_weight)
    return updates


def connect_library_tab(tab: LibraryTab, shell: Shell, picks: gr.HTML, place: Workplace) -> None:
    """Attach the handlers."""
    safe = guarded(shell.status)
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    shown = [tab.map, tab.card, tab.spectrum, tab.norms, shell.status]

    def select(name: str | None, session: Session, by_weight: bool) -> Updates:
        if name is None or session.record is None:
            return {}
        session.adapter = name
        summary = session.record.summary(name)
        return {
            tab.map: _map_now(session, by_weight),
            tab.card: cards.adapter_card_html(summary, session.record),
            tab.spectrum: figures.spectrum_figure(summary),
            tab.norms: figures.layer_norm_figure(summary),
        }

    @safe
    def pick(by_weight: bool, evt: gr.EventData, request: gr.Request) -> Updates:
        session = place.sessions.get(request.session_hash)
        return select(picked_name(evt, session.record.names if session.record else ()), session, by_weight)

    @safe
    def pick_row(by_weight: bool, evt: gr.SelectData, request: gr.Request) -> Updates:
        session = place.sessions.get(request.session_hash)
        name = evt.row_value[0] if evt.row_value else None
        return select(one_of(name, session.record.names if session.record else ()), session, by_weight)

    @safe
    def lasso(by_weight: bool, evt: gr.EventData, request: gr.Request) -> Updates:
        session = place.sessions.get(request.session_hash)
        if session.record is None:
            return {}
        session.highlighted = picked_names(evt, session.record.names, members(session.record))
        return {tab.map: _map_now(session, by_weight)}

    @safe
    def weigh(by_weight: bool, request: gr.Request) -> Updates:
        return {tab.map: _map_now(place.sessions.get(request.session_hash), by_weight)}

    @safe
    def analyse(measure: str, sparsity: float, k: float, by_weight: bool, keep_k: bool, request: gr.Request) -> Updates:
        session = place.sessions.get(request.session_hash)
        chosen = one_of(measure, MEASURES) or "update"
        share = number("Sparsity", sparsity, 0.0, 0.99)
        count = whole("Clusters", k, 1, 10_000) if keep_k else None
        session.record = place.library_of(session).record(chosen, share, count)
        session.highlighted = None
        updates = library_updates(tab, session, by_weight)
        updates[tab.sparsity] = gr.update(visible=chosen == "parameters")
        if keep_k:
            updates.pop(tab.clusters)
        return updates

    everything = [*shown, tab.legend, tab.note, tab.silhouette, tab.heatmap, tab.table, tab.facts, tab.clusters]
    everything.append(tab.sparsity)
    keep, anew = gr.State(True), gr.State(False)
    picks.pick(pick, [tab.by_weight], shown, trigger_mode="always_last", **quiet)
    picks.lasso(lasso, [tab.by_weight], [tab.map, shell.status], trigger_mode="always_last", **quiet)
    tab.table.select(pick_row, [tab.by_weight], shown, **quiet)
    tab.by_weight.change(weigh, [tab.by_weight], [tab.map, shell.status], **quiet)
    settings = [tab.measure, tab.sparsity, tab.clusters, tab.by_weight]
    tab.measure.input(analyse, [*settings, anew], everything, api_visibility="private")
    tab.sparsity.release(analyse, [*settings, anew], everything, api_visibility="private")
    tab.clusters.release(analyse, [*settings, keep], everything, api_visibility="private", show_progress="hidden")


def _map_now(session: Session, by_weight: bool) -> object:
    record = session.record
    return None if record is None else _map(session, record, session.adapter, by_weight=by_weight)


def _map(session: Session, record: LibraryRecord, selected: str | None, *, by_weight: bool) -> object:
    weights = None
    if by_weight and session.trace is not None:
        weights = {name: share for name, share in shares(session.trace).items() if name in record.names}
    return figures.map_figure(record, selected=selected, weights=weights, highlighted=session.highlighted)
