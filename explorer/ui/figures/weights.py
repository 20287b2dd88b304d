"""Figures of weights as bars: one token at one place, and the shares over a whole text."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from explorer.records.library_record import LibraryRecord
from explorer.routing.trace import RoutingTrace
from explorer.ui.figures.frame import axis, figure, names_axis, note
from explorer.ui.html import figure_text, short_name, shortened
from explorer.ui.naming import cluster_of, cluster_titles
from explorer.ui.palette import INK, mark
from explorer.ui.traces_view import select_sites, shares

#: With more adapters than this only the best are drawn; the axis says so.
_MOST_BARS = 40
_EMPTY = "rgba(0,0,0,0)"


def token_detail_figure(
    trace: RoutingTrace, record: LibraryRecord, token: int, layer: int | None, module: str | None
) -> go.Figure:
    """Raw score of every adapter for one token, as bars: solid with the weight beside it if kept, hollow if not.

    Several sites (layer or module None) are averaged. An adapter that lacks all of them is named as such.
    """
    sites = select_sites(trace, layer, module)
    if not sites or not 0 <= token < len(trace.tokens):
        return note(200, "There is no routing to show for this choice.")
    weights = trace.weights[sites, token].mean(axis=0)
    scores, lacking = _mean_scores(trace.scores[sites, token])
    ranking = np.lexsort((-np.where(lacking, -np.inf, scores), -weights))
    order = [int(index) for index in ranking[:_MOST_BARS]]
    names = [trace.names[index] for index in order]
    kept = [bool(weights[index] > 0) for index in order]
    colours = [mark(cluster_of(record).get(name)).colour for name in names]
    left_out = f" (best {len(order)} of {len(trace.names)})" if len(order) < len(trace.names) else ""
    drawn = figure(
        64 + 17 * len(names),
        margin=(8, 52, 4, 34),
        xaxis=axis(f"raw score{left_out}", nticks=5, zeroline=True, zerolinecolor=INK),
        yaxis={**names_axis(names, most=_MOST_BARS, length=20), "range": [len(names) - 0.5, -0.5]},
        bargap=0.22,
        hovermode="closest",
    )
    drawn.add_bar(
        orientation="h",
        x=[0.0 if lacking[index] else float(scores[index]) for index in order],
        y=list(range(len(names))),
        marker={
            "color": [colour if active else _EMPTY for colour, active in zip(colours, kept, strict=True)],
            "line": {"width": 1, "color": INK},
        },
        text=[_bar_text(float(weights[index]), bool(lacking[index])) for index in order],
        textposition="outside",
        cliponaxis=False,
        customdata=[
            [name, _bar_text(float(weights[index]), bool(lacking[index])) or "not kept"]
            for name, index in zip(names, order, strict=True)
        ],
        hovertemplate="%{y}<br>raw score %{x:.4g}<br>%{customdata[1]}<extra></extra>",
    )
    return drawn


def _mean_scores(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the sites that an adapter has, (E,), and which adapters have none of them, (E,)."""
    present = ~np.isnan(scores)
    count = present.sum(axis=0)
    return np.where(present, scores, 0.0).sum(axis=0) / np.maximum(count, 1), count == 0


def _bar_text(weight: float, lacks_site: bool) -> str:
    """What stands at the end of a bar."""
    if lacks_site:
        return "no such site"
    if weight <= 0:
        return ""
    return f"{weight:.2f}" if weight >= 0.005 else "&lt;0.01"


def share_figure(trace: RoutingTrace, record: LibraryRecord, *, tokens: slice | None = None) -> go.Figure:
    """Mean weight over all sites and tokens: of each cluster (upper part) and of each adapter (lower part)."""
    found = shares(trace, tokens)
    labels, titles = cluster_of(record), cluster_titles(record)
    by_cluster: dict[int, float] = {}
    for name, value in found.items():
        label = labels.get(name, -1)
        by_cluster[label] = by_cluster.get(label, 0.0) + value
    if not found:
        return note(160, "There is no routing to show.")
    best = sorted(found, key=lambda name: -found[name])[:_MOST_BARS]
    bars = [
        (f"<b>{figure_text(shortened(titles.get(label, 'no cluster'), 26))}</b>", value, label)
        for label, value in sorted(by_cluster.items(), key=lambda pair: -pair[1])
    ]
    split = len(bars)
    bars += [(figure_text(short_name(name, 26)), found[name], labels.get(name, -1)) for name in best]
    places = [place + (0.8 if place >= split else 0.0) for place in range(len(bars))]
    drawn = figure(
        70 + 17 * len(bars),
        margin=(8, 40, 4, 34),
        xaxis=axis("share of all weight", rangemode="tozero", nticks=5, tickformat=".0%"),
        yaxis=axis(
            tickmode="array",
            tickvals=places,
            ticktext=[bar[0] for bar in bars],
            range=[places[-1] + 0.6, -0.6],
            showgrid=False,
            tickfont={"size": 10},
        ),
        bargap=0.22,
        hovermode="closest",
    )
    drawn.add_bar(
        orientation="h",
        x=[value for _, value, _ in bars],
        y=places,
        marker={
            "color": [mark(label if label >= 0 else None).colour for _, _, label in bars],
            "line": {"width": 1, "color": INK},
        },
        text=[f"{value:.1%}" if value >= 0.0005 else "" for _, value, _ in bars],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}<br>%{x:.2%}<extra></extra>",
    )
    if len(places) > split:
        middle = (places[split - 1] + places[split]) / 2
        drawn.add_shape(
            type="line", x0=0, x1=1, xref="paper", y0=middle, y1=middle, line={"color": INK, "width": 1, "dash": "dot"}
        )
    drawn.update_xaxes(range=[0, 1.12 * max(max(value for _, value, _ in bars), math.ulp(1.0))])
    return drawn
