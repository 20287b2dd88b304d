"""The map of a library: one point for each adapter, colour and shape by its cluster (MBC, arXiv 2405.11157)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from explorer.adapters.adapter import Status
from explorer.records.library_record import AdapterSummary, LibraryRecord
from explorer.ui.figures.frame import figure, note
from explorer.ui.figures.label_places import place_labels
from explorer.ui.html import figure_text, short_name, shortened
from explorer.ui.naming import cluster_of, cluster_titles
from explorer.ui.palette import INK, mark

HEIGHT = 440
#: What the map usually gets of a 1280 pixel page; only where names stand depends on it.
_WIDTH = 680
#: With more points than this the names would cover each other; the table and the hover text have them.
MOST_LABELS = 30
_HOVER = "%{hovertext}<extra></extra>"


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
        yaxis={**_hidden_axis(xy[:, 1]), "scaleanchor": "x", "scaleratio": _stretch(xy)},
        dragmode="select",
        clickmode="event",
        hovermode="closest",
    )
    summaries = {adapter.name: adapter for adapter in record.adapters}
    hover = [_hover(summaries.get(name), name, titles.get(labels.get(name, -1), "no cluster")) for name in names]
    texts, sides = _labels(names, xy, selected, highlighted)
    for label in sorted({labels.get(name, -1) for name in names}):
        chosen = [index for index, name in enumerate(names) if labels.get(name, -1) == label]
        look = mark(label if label >= 0 else None)
        hollow = [_is_map_only(summaries.get(names[index])) for index in chosen]
        drawn.add_scatter(
            x=xy[chosen, 0].tolist(),
            y=xy[chosen, 1].tolist(),
            name=figure_text(titles.get(label, "no cluster")),
            mode="markers+text" if any(texts) else "markers",
            customdata=[names[index] for index in chosen],
            text=[texts[index] for index in chosen],
            textposition=[sides[index] for index in chosen],
            textfont={"size": 10, "color": INK},
            hovertext=[hover[index] for index in chosen],
            hovertemplate=_HOVER,
            marker={
                "color": look.colour,
                "symbol": [f"{look.symbol}-open" if empty else look.symbol for empty in hollow],
                "size": [_size(names[index], weights, len(names)) for index in chosen],
                "opacity": [_opacity(names[index], highlighted) for index in chosen],
                "line": {"width": [2 if empty else 1 for empty in hollow], "color": INK},
            },
        )
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


def _spread(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Width and height of the map in its own units, never 0."""
    return np.maximum(np.ptp(xy, axis=0), 1e-6)


def _stretch(xy: NDArray[np.float64]) -> float:
    """How much longer a unit is up than across: fills the frame, but bends the picture by no more than 1.7."""
    width, height = _spread(xy)
    return float(np.clip((width / _WIDTH) / (height / HEIGHT), 1 / 1.7, 1.7))


def _in_pixels(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the points will stand on a usual screen, (N, 2), y upwards."""
    flat = xy * np.array([1.0, _stretch(xy)])
    width, height = _spread(flat) * 1.24
    return (flat - flat.min(axis=0)) * min(_WIDTH / width, HEIGHT / height)


def _is_map_only(summary: AdapterSummary | None) -> bool:
    return summary is not None and summary.status == Status.MAP_ONLY


def _size(name: str, weights: Mapping[str, float] | None, count: int) -> float:
    """Diameter in pixels: the area grows with the weight, from a least size that can still be hit."""
    if weights is None:
        return 13.0 if count <= 60 else 10.0
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
        nearest = (f"{figure_text(short_name(near.name, 30))} {near.score:.2f}" for near in summary.neighbours[:3])
        lines.append("nearest: " + ", ".join(nearest))
    if _is_map_only(summary):
        lines.append("map only: cannot be routed")
    return "<br>".join(lines)


def _labels(
    names: tuple[str, ...], xy: NDArray[np.float64], selected: str | None, highlighted: frozenset[str] | None
) -> tuple[list[str], list[str]]:
    """The name that stands beside each point ("" for none) and its `textposition`; the selected one always has it."""
    if len(names) > MOST_LABELS:
        return [""] * len(names), ["top center"] * len(names)
    shown = [short_name(name, 22) if _opacity(name, highlighted) == 1.0 else "" for name in names]
    sides = place_labels(_in_pixels(xy), shown, first=names.index(selected) if selected in names else None)
    texts = [figure_text(name) if side else "" for name, side in zip(shown, sides, strict=True)]
    return texts, [side or "top center" for side in sides]


def _add_ring(
    drawn: go.Figure,
    names: tuple[str, ...],
    xy: NDArray[np.float64],
    selected: str | None,
    weights: Mapping[str, float] | None,
) -> None:
    """A ring round the selected adapter."""
    if selected is None or selected not in names:
        return
    at = names.index(selected)
    size = _size(selected, weights, len(names)) + 10
    drawn.add_scatter(
        x=[float(xy[at, 0])],
        y=[float(xy[at, 1])],
        mode="markers",
        marker={"symbol": "circle-open", "size": size, "color": INK, "line": {"width": 2.5, "color": INK}},
        hoverinfo="skip",
    )
