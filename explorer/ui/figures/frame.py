"""What all figures share: no title, no background, one ink that the style sheet turns into the theme's text colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from explorer.ui.html import figure_text, shortened
from explorer.ui.palette import INK, Mark

GRID = "rgba(128,128,128,0.22)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
#: Only the buttons that help here; the picture is saved as SVG (page.js).
_UNUSED_BUTTONS = ["zoomIn2d", "zoomOut2d", "autoScale2d", "toggleSpikelines", "hoverClosestCartesian"]


def figure(height: int, *, margin: tuple[int, int, int, int] = (8, 8, 8, 8), **layout: Any) -> go.Figure:
    """An empty figure `height` pixels high; `margin` is left, right, top, bottom."""
    left, right, top, bottom = margin
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": left, "r": right, "t": top, "b": bottom, "pad": 2},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 11, "color": INK},
            "hoverlabel": {"font": {"family": FONT, "size": 12, "color": INK}, "bgcolor": "#ffffff", "align": "left"},
            "modebar": {
                "remove": _UNUSED_BUTTONS,
                "bgcolor": "rgba(0,0,0,0)",
                "color": "rgba(128,128,128,0.9)",
                "activecolor": "#3f90da",
            },
            "dragmode": False,
            "showlegend": False,
            **layout,
        }
    )


def axis(title: str = "", **settings: Any) -> dict[str, Any]:
    """A plain axis with faint lines."""
    return {
        "title": {"text": title, "font": {"size": 11}, "standoff": 6},
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": GRID,
        "automargin": True,
        **settings,
    }


def names_axis(names: Sequence[str], *, most: int = 60, length: int = 28, **settings: Any) -> dict[str, Any]:
    """An axis with one place 0, 1, 2, ... for each name; the names show only in hover texts when they are too many.

    Plotly puts the tick's text in place of `%{x}` in a hover text, so the name needs no place in the data.
    """
    shown = len(names) <= most
    return axis(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=[figure_text(shortened(name, length if shown else 80)) for name in names],
        showticklabels=shown,
        range=[-0.5, len(names) - 0.5],
        showgrid=False,
        tickfont={"size": 10},
        **settings,
    )


def group_bars(target: go.Figure, groups: Sequence[tuple[Mark, int]], *, axis_letter: str = "x") -> None:
    """Draw a thin bar in each group's colour along an axis of names, and a line between two groups.

    Args:
        target: a figure whose axis `axis_letter` was made by :func:`names_axis`.
        groups: the mark and the number of names of each group, in order.
        axis_letter: "x" draws above the plot, "y" to its left.
    """
    along, across = axis_letter, "y" if axis_letter == "x" else "x"
    near, far = (1.006, 1.026) if axis_letter == "x" else (-0.026, -0.006)
    start = 0
    for mark, count in groups:
        ends = {f"{along}0": start - 0.5, f"{along}1": start + count - 0.5, f"{along}ref": along}
        bar = {f"{across}0": near, f"{across}1": far, f"{across}ref": "paper"}
        target.add_shape(type="rect", fillcolor=mark.colour, line={"width": 1, "color": INK}, **ends, **bar)
        if start:
            at = {f"{along}0": start - 0.5, f"{along}1": start - 0.5, f"{along}ref": along}
            target.add_shape(
                type="line", line={"width": 1, "color": INK}, **at, **{f"{across}0": 0, f"{across}1": 1, f"{across}ref": "paper"}
            )
        start += count


def note(height: int, sentence: str) -> go.Figure:
    """A figure that says in words why there is nothing to draw."""
    empty = figure(height, xaxis={"visible": False}, yaxis={"visible": False})
    empty.add_annotation(text=figure_text(sentence), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return empty
