"""Figures of an evaluation: each method's mean with its error, and how much it relies on the right adapter by layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import plotly.graph_objects as go

from explorer.adapters.natural_order import natural_key
from explorer.evaluation.record import LOWER_IS_BETTER, TITLES, EvaluationRecord, Measure, MethodNote
from explorer.ui.evaluation_board import MOST_METHODS, Board, is_base, is_oracle
from explorer.ui.evaluation_table import measure_text
from explorer.ui.evaluation_view import PARTS, Part
from explorer.ui.figures.frame import axis, figure, note
from explorer.ui.html import figure_text, short_name
from explorer.ui.palette import COLOURS, INK, mark

MOST_LINES, MOST_LAYERS = 12, 200
_HEIGHT, _ROW = 78, 22
#: One place above the other where a method has two means.
_SHIFT = 0.16
_DASHES = ("solid", "dash", "dot")


def means_figure(board: Board, part: Part) -> go.Figure:
    """Mean of each method over the tasks of `part` ("all": of both kinds, one above the other), with its error.

    Base and oracle are lines from top to bottom where only one kind of tasks is shown.
    """
    kinds = [kind for kind in board.parts if part in ("all", kind)]
    rows = [row for row in board.rows if any(row.means[board.parts.index(kind)] is not None for kind in kinds)]
    if not rows:
        return note(140, "No method was measured on all of these tasks yet.")
    several = len(board.libraries) > 1
    drawn = figure(
        _HEIGHT + _ROW * len(rows) + 20 * (len(kinds) > 1),
        margin=(8, 12, 24 if len(kinds) == 1 else 40, 34),
        xaxis=axis(f"{TITLES[board.measure]}, mean of tasks", nticks=6, **_percent(board.measure)),
        yaxis=axis(
            tickmode="array",
            tickvals=list(range(len(rows))),
            ticktext=[_title(row.method, several) for row in rows],
            range=[len(rows) - 0.5, -0.5],
            tickfont={"size": 10},
        ),
        hovermode="closest",
        showlegend=len(kinds) > 1,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 11}},
    )
    for place, kind in enumerate(kinds):
        column = board.parts.index(kind)
        found = [(index, row.means[column], row) for index, row in enumerate(rows) if row.means[column] is not None]
        shift = 0.0 if len(kinds) == 1 else _SHIFT * (2 * place - 1)
        means = [(index, mean, row) for index, mean, row in found if mean is not None]
        drawn.add_scatter(
            x=[mean.mean for _, mean, _ in means],
            y=[index + shift for index, _, _ in means],
            mode="markers",
            name=PARTS[kind],
            error_x={
                "type": "data",
                "array": [mean.error or 0.0 for _, mean, _ in means],
                "color": INK,
                "thickness": 1.2,
                "width": 3,
            },
            marker={
                "color": COLOURS[0] if kind == "in_distribution" else COLOURS[1],
                "symbol": "circle" if kind == "in_distribution" else "square",
                "size": 9,
                "line": {"width": 1, "color": INK},
            },
            customdata=[[_hover(row.method, mean, board.measure), _gap(row.gap)] for _, mean, row in means],
            hovertemplate=f"%{{customdata[0]}}<br>{PARTS[kind]} mean%{{customdata[1]}}<extra></extra>",
        )
        if len(kinds) == 1:
            _lines(drawn, [(row.method, mean) for _, mean, row in means], board.measure)
    return drawn


def _lines(drawn: go.Figure, means: list[tuple[MethodNote, Measure]], measure: str) -> None:
    """Dotted lines at the base model and at the first oracle, each named on its outer side."""
    base = next((mean.mean for method, mean in means if is_base(method)), None)
    oracle = next((mean.mean for method, mean in means if is_oracle(method)), None)
    for value, word, outer in ((base, "base", measure not in LOWER_IS_BETTER), (oracle, "oracle", measure in LOWER_IS_BETTER)):
        if value is None:
            continue
        line = {"color": INK, "width": 1, "dash": "dot"}
        drawn.add_shape(type="line", x0=value, x1=value, y0=0, y1=1, yref="paper", line=line)
        drawn.add_annotation(
            x=value,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            xanchor="left" if outer else "right",
            text=word,
            showarrow=False,
            font={"size": 10},
        )


def _title(method: MethodNote, several: bool) -> str:
    name = figure_text(short_name(method.title, 30))
    return f"{name} · {figure_text(short_name(method.library, 18))}" if several and method.library else name


def _hover(method: MethodNote, mean: Measure, measure: str) -> str:
    needs = f"<br>needs {figure_text(method.uses)}" if method.uses else ""
    library = f"<br>{figure_text(method.library)}" if method.library else ""
    return f"{figure_text(method.title)}{library}{needs}<br>{figure_text(measure_text(mean, measure))}"


def _gap(gap: float | None) -> str:
    return "" if gap is None else f"<br>{gap:.0%} of the gap between base and oracle recovered (loss)"


def _percent(measure: str) -> dict[str, object]:
    return {} if measure == "loss" else {"tickformat": ".0%", "rangemode": "tozero"}


def own_share_figure(record: EvaluationRecord, part: Part, adapters: Mapping[str, int]) -> go.Figure:
    """Mean weight on the right adapter, a line for each method over the layers, with the share that chance gives.

    Args:
        record: the evaluation.
        part: over which tasks the mean is taken; those without a right adapter have no share.
        adapters: how many adapters a library has, by its hash, where the record does not say.
    """
    shares = _shares(record, part)
    methods = [method for method in record.methods[:MOST_METHODS] if method.key in shares][:MOST_LINES]
    if not methods:
        return note(140, "Nothing is routed on tasks that have an adapter of their own.")
    names = {name for method in methods for name in shares[method.key]}
    layers = sorted(names, key=natural_key)[:MOST_LAYERS]
    place = {layer: index for index, layer in enumerate(layers)}
    step = max(1, -(-len(layers) // 10))
    drawn = figure(
        320 + 9 * len(methods),
        margin=(44, 10, 8, 34),
        xaxis=axis(
            "layer",
            tickmode="array",
            tickvals=list(range(0, len(layers), step)),
            ticktext=[figure_text(short_name(layer)) for layer in layers[::step]],
            showgrid=False,
        ),
        yaxis=axis("weight on the right adapter", rangemode="tozero", nticks=6, tickformat=".0%"),
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 11}},
    )
    several = len({method.library for method in methods}) > 1
    for index, method in enumerate(methods):
        found = {layer: value for layer, value in shares[method.key].items() if layer in place}
        ordered = sorted(found, key=place.__getitem__)
        look = mark(index)
        drawn.add_scatter(
            x=[place[layer] for layer in ordered],
            y=[found[layer] for layer in ordered],
            mode="lines+markers",
            name=_title(method, several),
            line={"color": look.colour, "width": 2, "dash": _DASHES[index % len(_DASHES)]},
            marker={"color": look.colour, "symbol": look.symbol, "size": 5, "line": {"width": 1, "color": INK}},
            customdata=[figure_text(layer) for layer in ordered],
            hovertemplate=f"{_title(method, several)}<br>layer %{{customdata}}: %{{y:.1%}}<extra></extra>",
        )
    for count in sorted({method.adapters or adapters.get(method.library_hash, 0) for method in methods} - {0}):
        _chance(drawn, count)
    return drawn


def _chance(drawn: go.Figure, count: int) -> None:
    line = {"color": INK, "width": 1, "dash": "dot"}
    drawn.add_shape(type="line", x0=0, x1=1, xref="paper", y0=1 / count, y1=1 / count, line=line)
    drawn.add_annotation(
        x=0.995,
        xref="paper",
        xanchor="right",
        y=1 / count,
        yanchor="bottom",
        text=f"chance, 1 of {count:,}",
        showarrow=False,
        font={"size": 10},
    )


def _shares(record: EvaluationRecord, part: Part) -> dict[str, dict[str, float]]:
    """Mean share by method's key and layer, over the tasks of `part` that have one."""
    wanted = {task.name for task in record.tasks if part == "all" or task.held_out == (part == "held_out")}
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in record.cells:
        if cell.task in wanted:
            for layer, value in cell.own_share.items():
                found[cell.method][layer].append(value)
    return {key: {layer: sum(all_) / len(all_) for layer, all_ in by.items()} for key, by in found.items()}
