"""What all figures share: no title, no background, one ink that the style sheet turns into the theme's text colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from explorer.ui.html import figure_text, short_name
from explorer.ui.palette import INK, Mark

GRID = "rgba(128,128,128,0.22)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
#: Names on an axis are cut to this many characters.
LONGEST_TICK = 28
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
        "ticks": "",
        **settings,
    }


def counting_axis(title: str, highest: int, **settings: Any) -> dict[str, Any]:
    """An axis of whole numbers up to `highest`; plotly would write each twice where there are only a few."""
    return axis(title, tickformat="d", **({"dtick": 1} if highest <= 10 else {}), **settings)


def names_axis(names: Sequence[str], *, most: int = 60, length: int = LONGEST_TICK, **settings: Any) -> dict[str, Any]:
    """An axis with one place 0, 1, 2, ... for each name; the names show only in hover texts when they are too many.

    Plotly puts the tick's text in place of `%{x}` in a hover text, so the name needs no place in the data.
    """
    shown = len(names) <= most
    return axis(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=[figure_text(short_name(name, length if shown else 80)) for name in names],
        showticklabels=shown,
        range=[-0.5, len(names) - 0.5],
        showgrid=False,
        tickfont={"size": 10},
        **settings,
    )


def group_bars(target: go.Figure, groups: Sequence[tuple[Mark, int]]) -> None:
    """Draw a thin bar in each group's colour above the plot, and a line between two groups.

    Args:
        target: a figure whose x axis was made by :func:`names_axis`.
        groups: the mark and the number of names of each group, in order.
    """
    start = -0.5
    line = {"width": 1, "color": INK}
    for mark, count in groups:
        across = {"x0": start, "x1": start + count, "yref": "paper"}
        target.add_shape(type="rect", y0=1.006, y1=1.026, fillcolor=mark.colour, line=line, **across)
        if start > 0:
            target.add_shape(type="line", x0=start, x1=start, y0=0, y1=1, yref="paper", line=line)
        start += count


def note(height: int, sentence: str) -> go.Figure:
    """A figure that says in words why there is nothing to draw."""
    empty = figure(height, xaxis={"visible": False}, yaxis={"visible": False})
    empty.add_annotation(text=figure_text(sentence), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return empty
