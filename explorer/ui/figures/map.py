"""The map of a library: one point for each adapter, colour and shape by cluster (MBC, arXiv 2405.11157, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from explorer.adapters.adapter import Status
from explorer.records.library_record import AdapterSummary, LibraryRecord
from explorer.ui.figures.frame import figure, note
from explorer.ui.html import figure_text, shortened
from explorer.ui.naming import cluster_of, cluster_titles
from explorer.ui.palette import INK, mark

HEIGHT = 440
#: With more points than this the names would cover each other; the table and the hover text have them.
MOST_LABELS = 30
_SIZE = 13.0
_HOVER = "%{text}<extra></extra>"
_SIDES = ("top center", "bottom center", "middle right", "middle left")


def map_figure(
    record: LibraryRecord,
    *,
    selected: str | None = None,
    weights: Mapping[str, float] | None = None,
    highlighted: frozenset[str] | None = None,
) -> go.Figure:
    """The map, one trace for each cluster; `customdata` of a point is the adapter's name.

    Args:
        record: the library.
        selected: this adapter gets a ring.
        weights: if given, the area of a point grows with the adapter's weight for the current prompt.
        highlighted: if given, all other adapters are faded (none is ever taken away).
    """
    names = record.projection.names
    if not names:
        return note(HEIGHT, "No adapter of this library can be drawn.")
    xy = np.asarray(record.projection.xy, float)
    labels, titles = cluster_of(record), cluster_titles(record)
    drawn = figure(
        HEIGHT,
        xaxis=_hidden_axis(xy[:, 0]),
        yaxis={**_hidden_axis(xy[:, 1]), "scaleanchor": "x"},
        dragmode="select",
        clickmode="event",
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "itemsizing": "constant"},
    )
    summaries = {adapter.name: adapter for adapter in record.adapters}
    hover = [_hover(summaries.get(name), name, titles.get(labels.get(name, -1), "no cluster")) for name in names]
    sides = _label_sides(xy)
    for label in sorted({labels.get(name, -1) for name in names}):
        chosen = [index for index, name in enumerate(names) if labels.get(name, -1) == label]
        look = mark(label if label >= 0 else None)
        hollow = [_is_map_only(summaries.get(names[index])) for index in chosen]
        drawn.add_scatter(
            x=xy[chosen, 0].tolist(),
            y=xy[chosen, 1].tolist(),
            name=figure_text(titles.get(label, "no cluster")),
            mode="markers",
            customdata=[names[index] for index in chosen],
            text=[hover[index] for index in chosen],
            hovertemplate=_HOVER,
            marker={
                "color": look.colour,
                "symbol": [f"{look.symbol}-open" if empty else look.symbol for empty in hollow],
                "size": [_size(names[index], weights) for index in chosen],
                "opacity": [_opacity(names[index], highlighted) for index in chosen],
                "line": {"width": [2 if empty else 1 for empty in hollow], "color": INK},
            },
        )
    _add_labels(drawn, names, xy, sides, highlighted)
    _add_ring(drawn, names, xy, selected, weights)
    return drawn


def _hidden_axis(values: NDArray[np.float64]) -> dict[str, object]:
    """An axis without ticks, wide enough for the labels beside the points."""
    low, high = float(values.min()), float(values.max())
    room = 0.12 * (high - low) or 1.0
    return {
        "visible": True,
        "showticklabels": False,
        "ticks": "",
        "showgrid": False,
        "zeroline": False,
        "showline": False,
        "range": [low - room, high + room],
    }


def _is_map_only(summary: AdapterSummary | None) -> bool:
    return summary is not None and summary.status is Status.MAP_ONLY


def _size(name: str, weights: Mapping[str, float] | None) -> float:
    """Diameter in pixels: the area is proportional to the weight, above a least size that can still be hit."""
    if weights is None:
        return _SIZE
    largest = max(max(weights.values(), default=0.0), 1e-9)
    return 6.0 + 26.0 * math.sqrt(max(weights.get(name, 0.0), 0.0) / largest)


def _opacity(name: str, highlighted: frozenset[str] | None) -> float:
    return 1.0 if highlighted is None or name in highlighted else 0.18


def _hover(summary: AdapterSummary | None, name: str, cluster: str) -> str:
    """Name, task, family, cluster and the nearest three, one a line."""
    lines = [f"<b>{figure_text(name)}</b>"]
    if summary is not None:
        facts = (("task", summary.task), ("family", summary.family))
        lines += [f"{title}: {figure_text(shortened(value, 60))}" for title, value in facts if value]
    lines.append(f"cluster: {figure_text(cluster)}")
    if summary is not None and summary.neighbours:
        nearest = (f"{figure_text(near.name)} {near.score:.2f}" for near in summary.neighbours[:3])
        lines.append("nearest: " + ", ".join(nearest))
    if _is_map_only(summary):
        lines.append("map only: cannot be routed")
    return "<br>".join(lines)


def _label_sides(xy: NDArray[np.float64]) -> list[str]:
    """For each point the side on which its name stands: the one with the most room to other points and names."""
    spread = np.maximum(np.ptp(xy, axis=0), 1e-9)
    # In units of the picture: about 700 by 400 pixels, a name about 70 by 12.
    places = (xy - xy.min(axis=0)) / spread * np.array([560.0, 330.0])
    offsets = np.array([[0.0, 15.0], [0.0, -15.0], [46.0, 0.0], [-46.0, 0.0]])
    taken: list[NDArray[np.float64]] = [*places]
    sides = []
    for index, place in enumerate(places):
        others = np.array(taken[:index] + taken[index + 1 :]).reshape(-1, 2)
        room = [_crowding(place + offset, others) for offset in offsets]
        best = int(np.argmin(room))
        taken.append(place + offsets[best])
        sides.append(_SIDES[best])
    return sides


def _crowding(center: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """How much a name at `center` overlaps points and names at `others`."""
    if not len(others):
        return 0.0
    distance = np.abs(others - center) / np.array([70.0, 14.0])
    return float(np.clip(1.2 - distance.max(axis=1), 0, None).sum())


def _add_labels(
    drawn: go.Figure,
    names: Sequence[str],
    xy: NDArray[np.float64],
    sides: Sequence[str],
    highlighted: frozenset[str] | None,
) -> None:
    """Names beside the points, where there is room for them."""
    if len(names) > MOST_LABELS:
        return
    chosen = [index for index, name in enumerate(names) if _opacity(name, highlighted) == 1.0]
    drawn.add_scatter(
        x=xy[chosen, 0].tolist(),
        y=xy[chosen, 1].tolist(),
        mode="text",
        text=[figure_text(shortened(names[index], 16)) for index in chosen],
        textposition=[sides[index] for index in chosen],
        textfont={"size": 10, "color": INK},
        hoverinfo="skip",
        showlegend=False,
    )


def _add_ring(
    drawn: go.Figure,
    names: Sequence[str],
    xy: NDArray[np.float64],
    selected: str | None,
    weights: Mapping[str, float] | None,
) -> None:
    """A ring round the selected adapter."""
    if selected is None or selected not in names:
        return
    at = list(names).index(selected)
    size = _size(selected, weights) + 10
    drawn.add_scatter(
        x=[float(xy[at, 0])],
        y=[float(xy[at, 1])],
        mode="markers",
        marker={"symbol": "circle-open", "size": size, "color": INK, "line": {"width": 2.5, "color": INK}},
        hoverinfo="skip",
        showlegend=False,
    )
