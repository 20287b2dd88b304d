"""Each method's mean over tasks with its standard error, between the lines of the base model and of the oracle."""

from __future__ import annotations

import plotly.graph_objects as go

from explorer.evaluation.record import LOWER_IS_BETTER, TITLES, Measure, MethodNote
from explorer.ui.evaluation_board import Board, BoardRow, is_base, is_oracle
from explorer.ui.evaluation_table import measure_text
from explorer.ui.evaluation_view import Part
from explorer.ui.figures.frame import axis, figure, note
from explorer.ui.html import figure_text, short_name
from explorer.ui.palette import COLOURS, INK

#: How far a mark stands from the middle of its row where a method has two.
SHIFT = 0.16
_ROW, _ROW_OF_TWO = 22, 30
_LOOKS = {"in_distribution": (COLOURS[0], "circle", -SHIFT), "held_out": (COLOURS[1], "square", SHIFT)}
_Mean = tuple[int, Measure, BoardRow]


def means_figure(board: Board, part: Part) -> go.Figure:
    """Mean of each method over the tasks of `part` ("all": of both kinds, one above the other), with its error.

    Base and oracle are lines from top to bottom where only one kind of tasks is shown.
    """
    kinds = [kind for kind in board.parts if part in ("all", kind)]
    places = [board.parts.index(kind) for kind in kinds]
    rows = [row for row in board.rows if any(row.means[place] is not None for place in places)]
    if not rows:
        return note(140, "No method was measured on all of these tasks yet.")
    drawn = _frame(board, [row.method for row in rows], both=len(kinds) > 1)
    for kind, place in zip(kinds, places, strict=True):
        means = [(index, mean, row) for index, row in enumerate(rows) if (mean := row.means[place]) is not None]
        _marks(drawn, means, board, kind, both=len(kinds) > 1)
        if len(kinds) == 1:
            _lines(drawn, means, board.measure)
    return drawn


def _frame(board: Board, methods: list[MethodNote], *, both: bool) -> go.Figure:
    several = len(board.libraries) > 1
    percent = {} if board.measure == "loss" else {"tickformat": ".0%", "rangemode": "tozero"}
    return figure(
        78 + (_ROW_OF_TWO if several else _ROW) * len(methods) + 20 * both,
        margin=(8, 12, 40 if both else 24, 34),
        xaxis=axis(f"{TITLES[board.measure]}, mean of tasks", nticks=6, **percent),
        yaxis=axis(
            tickmode="array",
            tickvals=list(range(len(methods))),
            ticktext=[method_text(method, several, between="<br>") for method in methods],
            range=[len(methods) - 0.5, -0.5],
            tickfont={"size": 10},
        ),
        hovermode="closest",
        showlegend=both,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 11}},
    )


def _marks(drawn: go.Figure, means: list[_Mean], board: Board, kind: Part, *, both: bool) -> None:
    colour, symbol, shift = _LOOKS[kind]
    title = board.titles[board.parts.index(kind)]
    errors = [mean.error or 0.0 for _, mean, _ in means]
    drawn.add_scatter(
        x=[mean.mean for _, mean, _ in means],
        y=[index + shift * both for index, _, _ in means],
        mode="markers",
        name=title,
        error_x={"type": "data", "array": errors, "color": INK, "thickness": 1.2, "width": 3},
        marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 1, "color": INK}},
        customdata=[_hover(row, mean, board.measure) for _, mean, row in means],
        hovertemplate=f"%{{customdata}}<br>mean of tasks: {title.lower()}<extra></extra>",
    )


def _lines(drawn: go.Figure, means: list[_Mean], measure: str) -> None:
    """Dotted lines at the base model and at the first oracle, each named on its outer side."""
    lower = measure in LOWER_IS_BETTER
    base = next((mean.mean for _, mean, row in means if is_base(row.method)), None)
    oracle = next((mean.mean for _, mean, row in means if is_oracle(row.method)), None)
    for value, word, on_left in ((base, "base", lower), (oracle, "oracle", not lower)):
        if value is None:
            continue
        line = {"color": INK, "width": 1, "dash": "dot"}
        drawn.add_shape(type="line", x0=value, x1=value, y0=0, y1=1, yref="paper", line=line)
        side = {"xanchor": "right" if on_left else "left", "yanchor": "bottom"}
        drawn.add_annotation(x=value, y=1.0, yref="paper", text=word, showarrow=False, font={"size": 10}, **side)


def method_text(method: MethodNote, several: bool, *, between: str = " · ") -> str:
    """A method's title for a figure, with its library where there are several."""
    name = figure_text(short_name(method.title, 26))
    return f"{name}{between}{figure_text(short_name(method.library, 24))}" if several and method.library else name


def _hover(row: BoardRow, mean: Measure, measure: str) -> str:
    lines = [row.method.title, row.method.library, f"needs {row.method.uses}" if row.method.uses else ""]
    lines.append(measure_text(mean, measure))
    if row.gap is not None:
        lines.append(f"{row.gap:.0%} of the gap between base and oracle recovered (in-distribution loss)")
    return "<br>".join(figure_text(line) for line in lines if line)
