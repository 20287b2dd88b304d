"""How much routing weight the right adapter gets, by layer: a line for each method, and what chance would give."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

import plotly.graph_objects as go

from explorer.adapters.natural_order import natural_key
from explorer.evaluation.record import EvaluationRecord
from explorer.ui.evaluation_board import MOST_METHODS
from explorer.ui.figures.frame import axis, figure, note
from explorer.ui.figures.method_means import method_text
from explorer.ui.html import figure_text, short_name
from explorer.ui.palette import INK, mark

MOST_LINES, MOST_LAYERS = 12, 200
_DASHES = ("solid", "dash", "dot")
_TICKS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_Shares = dict[str, dict[str, float]]


def own_shares_figure(record: EvaluationRecord, adapters: Mapping[str, int]) -> go.Figure:
    """Mean weight on the right adapter (or cluster) by layer, and a dotted line at one in as many as there are.

    The mean is over all tasks that have a right adapter. Heights are square roots: where one router finds nearly always
    the right one, the others, at a few percent, can still be told apart.

    Args:
        record: the evaluation.
        adapters: how many adapters a library has, by its hash, where the record does not say.
    """
    shares = _shares(record)
    methods = [method for method in record.methods[:MOST_METHODS] if method.key in shares][:MOST_LINES]
    if not methods:
        return note(140, "Nothing is routed on tasks that have an adapter of their own.")
    names = {name for method in methods for name in shares[method.key]}
    layers = sorted(names, key=natural_key)[:MOST_LAYERS]
    drawn = _frame(layers, len(methods))
    several = len({method.library for method in methods}) > 1
    for index, method in enumerate(methods):
        _line(drawn, method_text(method, several), shares[method.key], layers, index)
    for count in sorted({method.adapters or adapters.get(method.library_hash, 0) for method in methods} - {0}):
        _chance(drawn, count)
    return drawn


def _shares(record: EvaluationRecord) -> _Shares:
    """Mean share by method's key and layer, over the tasks that have one."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in record.cells:
        for layer, value in cell.own_share.items():
            found[cell.method][layer].append(value)
    return {key: {layer: sum(each) / len(each) for layer, each in by.items()} for key, by in found.items()}


def _frame(layers: list[str], lines: int) -> go.Figure:
    step = max(1, -(-len(layers) // 10))
    names = [figure_text(short_name(layer.removeprefix("layer "))) for layer in layers]
    ticks = {"tickvals": list(range(0, len(layers), step)), "ticktext": names[::step]}
    return figure(
        260 + 22 * lines,
        margin=(44, 10, 8, 34),
        xaxis=axis("layer", tickmode="array", tickangle=0, showgrid=False, **ticks),
        yaxis=axis(
            "weight on the right one (root scale)",
            rangemode="tozero",
            tickmode="array",
            tickvals=[_height(share) for share in _TICKS],
            ticktext=[f"{share:.0%}" for share in _TICKS],
        ),
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "v", "x": 0, "y": -44 / 200, "yanchor": "top", "font": {"size": 11}},
    )


def _line(drawn: go.Figure, title: str, shares: Mapping[str, float], layers: list[str], index: int) -> None:
    places = [place for place, layer in enumerate(layers) if layer in shares]
    look = mark(index)
    drawn.add_scatter(
        x=places,
        y=[_height(shares[layers[place]]) for place in places],
        mode="lines+markers",
        name=title,
        line={"color": look.colour, "width": 2, "dash": _DASHES[index % len(_DASHES)]},
        marker={"color": look.colour, "symbol": look.symbol, "size": 5, "line": {"width": 1, "color": INK}},
        customdata=[[title, figure_text(layers[place]), shares[layers[place]]] for place in places],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}: %{customdata[2]:.1%}<extra></extra>",
    )


def _height(share: float) -> float:
    """Its square root; weights of linear mixes may be negative."""
    return math.copysign(math.sqrt(abs(share)), share)


def _chance(drawn: go.Figure, count: int) -> None:
    line = {"color": INK, "width": 1, "dash": "dot"}
    drawn.add_shape(type="line", x0=0, x1=1, xref="paper", y0=_height(1 / count), y1=_height(1 / count), line=line)
    words = f"chance, 1 of {count:,}"
    place = {"x": 0.995, "xref": "paper", "xanchor": "right", "y": _height(1 / count), "yanchor": "bottom"}
    drawn.add_annotation(text=words, showarrow=False, font={"size": 10}, **place)
