"""Figures of a whole routed text: which adapters each layer uses, and how evenly (Arrow, arXiv 2405.11157)."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np
import plotly.graph_objects as go

from explorer.records.library_record import LibraryRecord
from explorer.routing.trace import RoutingTrace
from explorer.ui.figures.frame import axis, figure, group_bars, names_axis, note
from explorer.ui.html import figure_text
from explorer.ui.naming import cluster_of, in_cluster_order
from explorer.ui.palette import COLOURS, INK, mark
from explorer.ui.traces_view import mean_entropy, mean_weights

#: The ramp is fixed from 0 to 1, so that a colour means the same in every picture. Colours follow the square root
#: of the weight: with 24 adapters most mean weights are below 0.3 and would all look alike on a plain ramp.
RAMP_TICKS = (0.0, 0.04, 0.25, 0.5, 1.0)
_MOST_NAMES = 60


def routing_overview_figure(
    trace: RoutingTrace, record: LibraryRecord, *, tokens: slice | None = None, module: str | None = None
) -> go.Figure:
    """Mean weight of each adapter (columns, by cluster) in each layer (rows), over the chosen tokens and modules.

    The `customdata` of a cell is `[layer or null, adapter name, mean weight]`.
    """
    means = mean_weights(trace, tokens, module)
    if not means.rows or not means.names:
        return note(200, "There is no routing to show for this choice.")
    order = in_cluster_order(record, means.names)
    index = {name: position for position, name in enumerate(means.names)}
    values = means.values[:, [index[name] for name in order]]
    rows = len(means.rows)
    shown = len(order) <= _MOST_NAMES
    drawn = figure(
        max(200, 13 * rows) + (130 if shown else 60),
        margin=(8, 8, 16, 8),
        xaxis=names_axis(order, most=_MOST_NAMES, length=20, tickangle=-90),
        yaxis={**_rows_axis(means.rows), "range": [rows - 0.5, -0.5]},
        hovermode="closest",
    )
    drawn.add_heatmap(
        z=np.round(np.sqrt(np.clip(values, 0, 1)), 4).tolist(),
        zmin=0,
        zmax=1,
        colorscale="cividis",
        customdata=[
            [[means.layers[row], name, round(float(values[row, column]), 5)] for column, name in enumerate(order)]
            for row in range(rows)
        ],
        hovertemplate="layer %{y}<br>%{x}<br>mean weight %{customdata[2]:.3f}<extra></extra>",
        colorbar={
            "title": {"text": "mean weight", "side": "right"},
            "thickness": 10,
            "outlinewidth": 0,
            "tickmode": "array",
            "tickvals": [math.sqrt(value) for value in RAMP_TICKS],
            "ticktext": [f"{value:g}" for value in RAMP_TICKS],
        },
    )
    labels = cluster_of(record)
    group_bars(drawn, [(mark(label), len(list(found))) for label, found in groupby(order, key=labels.get)])
    return drawn


def _rows_axis(rows: tuple[str, ...]) -> dict[str, object]:
    """An axis for layers: about ten labels, and always the rows that are no layers."""
    step = max(1, math.ceil(len(rows) / 10))
    labelled = [place for place, row in enumerate(rows) if place % step == 0 or not row.isdecimal()]
    return axis(
        "layer",
        tickmode="array",
        tickvals=list(range(len(rows))),
        ticktext=[figure_text(row) if place in labelled else "" for place, row in enumerate(rows)],
        tickangle=0,
        showgrid=False,
        tickfont={"size": 10},
    )


def entropy_figure(trace: RoutingTrace, tokens: slice | None = None, module: str | None = None) -> go.Figure:
    """Mean entropy of the weights in each layer; the scale on the right reads it as an effective number of adapters.

    Two lines give the entropy of equal weights: over the adapters kept at a time, and over all of them.
    """
    found = mean_entropy(trace, tokens, module)
    if not found.rows:
        return note(180, "There is no routing to show for this choice.")
    values = [float(value) for value in found.values[:, 0]]
    kept, everyone = max(_most_kept(trace), 1), max(len(trace.names), 1)
    top = math.log(everyone) * 1.12 + 0.05
    places = list(range(len(values)))
    drawn = figure(
        210,
        margin=(44, 44, 12, 34),
        xaxis={**_rows_axis(found.rows), "range": [-0.5, len(values) - 0.5]},
        yaxis=axis("entropy (nats)", range=[0, top], nticks=5),
        hovermode="closest",
    )
    drawn.update_layout(yaxis2=_effective_axis(everyone, top))
    drawn.add_scatter(
        x=places,
        y=values,
        mode="lines+markers",
        line={"color": COLOURS[0], "width": 2},
        marker={"color": COLOURS[0], "size": 6, "line": {"width": 1, "color": INK}},
        customdata=[[figure_text(row), math.exp(value)] for row, value in zip(found.rows, values, strict=True)],
        hovertemplate="layer %{customdata[0]}<br>entropy %{y:.2f} nats<br>"
        "like %{customdata[1]:.1f} equal adapters<extra></extra>",
    )
    # The right axis shows only when a curve belongs to it.
    drawn.add_scatter(x=places, y=[None] * len(places), yaxis="y2", hoverinfo="skip")
    lines = {kept: f"{kept} kept, equal weights", everyone: f"all {everyone}, equal weights"}
    for count, words in lines.items():
        height = math.log(count)
        drawn.add_shape(
            type="line", x0=0, x1=1, xref="paper", y0=height, y1=height, line={"color": INK, "width": 1, "dash": "dot"}
        )
        drawn.add_annotation(
            x=0.995,
            xref="paper",
            xanchor="right",
            y=height,
            yanchor="bottom",
            text=words,
            showarrow=False,
            font={"size": 10},
        )
    return drawn


def _most_kept(trace: RoutingTrace) -> int:
    """The largest number of adapters that are active at one site for one token."""
    return int((trace.weights > 0).sum(axis=-1).max(initial=0))


def _effective_axis(everyone: int, top: float) -> dict[str, object]:
    """The same scale as the entropy's, labelled with exp(entropy)."""
    counts = [count for count in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if count <= everyone]
    return axis(
        "effective number",
        overlaying="y",
        side="right",
        range=[0, top],
        tickmode="array",
        tickvals=[math.log(count) for count in counts],
        ticktext=[str(count) for count in counts],
        showgrid=False,
    )
