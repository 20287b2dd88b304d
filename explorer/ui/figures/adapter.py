"""Figures of one adapter's card: the spectrum of its update and the size of its update in each layer."""

from __future__ import annotations

import plotly.graph_objects as go

from explorer.records.library_record import AdapterSummary
from explorer.ui.figures.frame import axis, counting_axis, figure, note
from explorer.ui.html import figure_text
from explorer.ui.palette import COLOURS, INK

_HEIGHT = 150
_MARGIN = (44, 8, 8, 34)
_BAR = {"color": COLOURS[0], "line": {"width": 1, "color": INK}}


def spectrum_figure(summary: AdapterSummary) -> go.Figure:
    """Singular values of the update, largest first, each the mean over the adapter's sites."""
    if not summary.spectrum:
        return note(_HEIGHT, "No spectrum: the update could not be computed.")
    drawn = figure(
        _HEIGHT,
        margin=_MARGIN,
        xaxis=counting_axis("singular value, largest first", len(summary.spectrum), showgrid=False),
        yaxis=axis("mean size", rangemode="tozero", nticks=4),
        bargap=0.15,
    )
    drawn.add_bar(
        x=list(range(1, len(summary.spectrum) + 1)),
        y=list(summary.spectrum),
        marker=_BAR,
        hovertemplate="number %{x}: %{y:.4g}<extra></extra>",
    )
    return drawn


def layer_norm_figure(summary: AdapterSummary) -> go.Figure:
    """Frobenius norm of the adapter's whole update in each layer."""
    if not summary.layer_norms:
        return note(_HEIGHT, "No update sizes: the update could not be computed.")
    places = list(range(len(summary.layer_norms)))
    names = [figure_text(name) for name, _ in summary.layer_norms]
    step = max(1, len(places) // 10)
    drawn = figure(
        _HEIGHT,
        margin=_MARGIN,
        xaxis=axis("layer", tickmode="array", tickvals=places[::step], ticktext=names[::step], showgrid=False),
        yaxis=axis("update norm", rangemode="tozero", nticks=4),
        bargap=0.15,
    )
    drawn.add_bar(
        x=places,
        y=[norm for _, norm in summary.layer_norms],
        marker=_BAR,
        customdata=names,
        hovertemplate="layer %{customdata}: %{y:.4g}<extra></extra>",
    )
    return drawn
