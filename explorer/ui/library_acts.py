"""What happens in the Library tab: picking adapters, clustering anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from explorer.analysis.similarity import MEASURES
from explorer.errors import LibraryError
from explorer.ui import pictures
from explorer.ui.answers import status_html
from explorer.ui.bridge import picked_name, picked_names
from explorer.ui.choices import number, one_of, whole
from explorer.ui.desk import Desk
from explorer.ui.html import count_text
from explorer.ui.naming import members
from explorer.ui.narrate import narrated
from explorer.ui.pictures import Updates
from explorer.ui.sessions import Session
from explorer.ui.state import View

MOST_CLUSTERS = 64
CARD = ("map", "card", "spectrum", "layer_norms")
CLUSTERS = (
    *CARD,
    *("legend", "library_card", "silhouette", "heat", "table", "clusters", "map_note"),
    *("strip", "overview", "detail", "share"),
)


def pick_adapter(_: Desk, session: Session, picked: gr.EventData) -> Updates:
    """A point of the map, or a name anywhere on the page, was clicked."""
    record = session.view.record
    return _select(session, picked_name(picked, record.names) if record is not None else None)


def pick_row(_: Desk, session: Session, picked: gr.EventData) -> Updates:
    """A row of the table was clicked; its place says nothing once the table is sorted, so its name is read."""
    data = picked._data
    row = data.get("row_value") if isinstance(data, dict) else None
    name = row[0] if isinstance(row, list) and row else None
    record = session.view.record
    known = record is not None and isinstance(name, str) and name in record.names
    return _select(session, name if known else None)


def _select(session: Session, name: str | None) -> Updates:
    if name is None:
        return {}
    view = session.change(lambda view: replace(view, selected=name))
    return pictures.chosen_adapter(view)


def pick_many(_: Desk, session: Session, picked: gr.EventData) -> Updates:
    """A box or lasso on the map, or a cluster of the legend: fade all others."""
    record = session.view.record
    if record is None:
        return {}
    names = picked_names(picked, record.names, members(record))
    view = session.change(lambda view: replace(view, highlighted=names))
    words = f"{count_text(len(names), 'adapter')} in the selection." if names else "All adapters are shown."
    return {"map": pictures.the_map(view), "status": status_html("ok", words)}


def size_points(_: Desk, session: Session, sized: Any) -> Updates:
    """Point area = weight for the routed prompt, or all alike."""
    view = session.change(lambda view: replace(view, sized=sized is True))
    if view.sized and view.routed is None:
        return {"status": status_html("stale", "No prompt was routed yet: route one, and the points take its weights.")}
    return {"map": pictures.the_map(view)}


def measure_anew(desk: Desk, session: Session, measure: Any, sparsity: Any, wanted: Any) -> Iterator[Updates]:
    """Another similarity, sparsity or number of clusters."""
    if session.view.record is None:
        raise LibraryError("The library", "is not open yet", fix="Wait a moment.")
    measure = one_of(measure, "Measure", MEASURES)
    sparsity = number(sparsity, "Sparsity", 0.0, 0.99)
    k = whole(wanted, "Clusters", 1, MOST_CLUSTERS) if wanted is not None else None
    record = yield from narrated(
        "Comparing and clustering the adapters",
        lambda _: desk.holding(session).analysed(measure, sparsity, k),
    )

    def clustered(view: View) -> View:
        return replace(view, record=record, measure=measure, sparsity=sparsity, highlighted=None)

    view = session.change(clustered)
    quality = record.clustering.silhouettes.get(record.clustering.n_clusters)
    told = f", silhouette {quality:.2f}" if quality is not None else ""
    words = f"{count_text(record.clustering.n_clusters, 'cluster')} by {measure}{told}."
    yield {
        **pictures.chosen_adapter(view),
        **pictures.clusters(view),
        **{name: value for name, value in pictures.routing(view).items() if name in CLUSTERS},
        "map_note": pictures.library(view)["map_note"],
        "status": status_html("ok", " ".join([words, *record.similarity.notes[:2]])),
    }


def suggest(desk: Desk, session: Session, measure: Any, sparsity: Any) -> Iterator[Updates]:
    """The number of clusters with the best silhouette."""
    yield from measure_anew(desk, session, measure, sparsity, None)
