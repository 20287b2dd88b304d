"""Figures of the clustering (MBC, arXiv 2405.11157, section 3.1): silhouettes and the similarity matrix."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import plotly.graph_objects as go

from explorer.records.library_record import LibraryRecord
from explorer.ui.figures.frame import LONGEST_TICK, axis, counting_axis, figure, group_bars, names_axis, note
from explorer.ui.naming import cluster_of, in_cluster_order
from explorer.ui.palette import COLOURS, INK, mark

#: Blue-orange about 0; both ends and the middle stay apart for all kinds of colour vision.
DIFFERENCES = [[0.0, "#1f5fa8"], [0.25, "#7fb0dd"], [0.5, "#f2f2f0"], [0.75, "#f5b060"], [1.0, "#b85a00"]]

_MOST_NAMES = 40


def silhouette_figure(record: LibraryRecord) -> go.Figure:
    """The silhouette for each number of clusters; the chosen and the suggested number are marked."""
    clustering = record.clustering
    counts = sorted(clustering.silhouettes)
    if not counts:
        return note(140, "Too few adapters to compare numbers of clusters.")
    values = [clustering.silhouettes[count] for count in counts]
    drawn = figure(
        150,
        margin=(44, 10, 22, 34),
        xaxis=counting_axis("K, number of clusters", counts[-1], showgrid=False),
        yaxis=axis("silhouette", nticks=4, rangemode="tozero"),
        hovermode="closest",
    )
    drawn.add_scatter(
        x=counts,
        y=values,
        mode="lines+markers",
        line={"color": COLOURS[0], "width": 2},
        marker={"color": COLOURS[0], "size": 6, "line": {"width": 1, "color": INK}},
        hovertemplate="K = %{x}<br>silhouette %{y:.3f}<extra></extra>",
    )
    for count, word in _marked(clustering.n_clusters, clustering.suggested):
        drawn.add_shape(
            type="line", x0=count, x1=count, y0=0, y1=1, yref="paper", line={"color": INK, "width": 1, "dash": "dot"}
        )
        drawn.add_annotation(
            x=count, y=1.0, yref="paper", yanchor="bottom", text=word, showarrow=False, font={"size": 10}
        )
    return drawn


def _marked(chosen: int, suggested: int | None) -> list[tuple[int, str]]:
    """The numbers of clusters that get a line, with the word over it."""
    if suggested is None:
        return [(chosen, f"K = {chosen}")]
    if chosen == suggested:
        return [(chosen, f"K = {chosen}, suggested")]
    return [(chosen, f"K = {chosen}"), (suggested, f"suggested {suggested}")]


def similarity_figure(record: LibraryRecord) -> go.Figure:
    """Cosine of each pair of adapters, -1 to 1, ordered by cluster and then by name."""
    similarity = record.similarity
    if not similarity.names:
        return note(140, "No adapter of this library can be compared.")
    order = in_cluster_order(record, similarity.names)
    index = {name: position for position, name in enumerate(similarity.names)}
    rows = [index[name] for name in order]
    values = np.asarray(similarity.values, float)[rows][:, rows]
    # Room for the cells and, below them, for the longest name.
    below = 40 + round(5.6 * min(max(map(len, order)), LONGEST_TICK))
    height = max(120, 15 * len(order)) + below if len(order) <= _MOST_NAMES else 640
    drawn = figure(
        height,
        margin=(24, 8, 22, 8),
        xaxis=names_axis(order, most=_MOST_NAMES, tickangle=-90, constrain="domain"),
        yaxis={**names_axis(order, most=_MOST_NAMES), "range": [len(order) - 0.5, -0.5]},
        hovermode="closest",
    )
    drawn.add_heatmap(
        z=np.round(values, 4).tolist(),
        zmin=-1,
        zmax=1,
        colorscale=DIFFERENCES,
        hovertemplate="%{y}<br>%{x}<br>cosine %{z:.3f}<extra></extra>",
        colorbar={"title": {"text": "cosine", "side": "right"}, "thickness": 10, "len": 0.9, "outlinewidth": 0},
    )
    labels = cluster_of(record)
    groups = [(mark(label), len(list(found))) for label, found in groupby(order, key=labels.get)]
    group_bars(drawn, groups)
    return drawn
