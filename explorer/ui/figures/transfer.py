"""The transfer matrix: the loss of each task under each adapter alone, ordered by cluster (MBC, arXiv 2405.11157)."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from explorer.adapters.natural_order import natural_key
from explorer.evaluation.record import Transfer
from explorer.ui.figures.frame import LONGEST_TICK, figure, group_bars, names_axis, note
from explorer.ui.figures.library import DIFFERENCES
from explorer.ui.palette import INK, mark

MOST_CELLS, MOST_NAMES = 40_000, 60
#: Colours end at this share of all differences: one adapter that ruins one task would make all others look alike.
CLIPPED = 0.97


def transfer_figure(transfer: Transfer, *, as_loss: bool = False) -> go.Figure:
    """Rows tasks, columns adapters by cluster; the difference to the base model's loss, or the loss itself.

    Each task's own adapter is outlined; rows stand as their own adapters do, tasks without one at the end.
    """
    if not transfer.tasks or not transfer.adapters:
        return note(140, "The matrix is empty.")
    if len(transfer.tasks) * len(transfer.adapters) > MOST_CELLS:
        return note(140, "The matrix is too large to be drawn here; it is in the JSON.")
    columns = sorted(
        range(len(transfer.adapters)), key=lambda one: (transfer.clusters[one], natural_key(transfer.adapters[one]))
    )
    place = {adapter: index for index, adapter in enumerate(columns)}
    rows = _rows(transfer, place)
    losses = np.asarray(transfer.loss, float)[rows][:, columns]
    base = np.asarray(transfer.base_loss, float)[rows]
    saved = losses - base[:, None]
    names, tasks = [transfer.adapters[one] for one in columns], [transfer.tasks[one] for one in rows]
    below = 40 + round(5.6 * min(max(map(len, names)), LONGEST_TICK))
    shown = len(names) <= MOST_NAMES
    drawn = figure(
        max(150, 15 * len(tasks)) + (below if shown else 40),
        margin=(24, 8, 22, 8),
        xaxis=names_axis(names, most=MOST_NAMES, tickangle=-90),
        yaxis={**names_axis(tasks, most=MOST_NAMES), "range": [len(tasks) - 0.5, -0.5]},
        hovermode="closest",
    )
    drawn.add_heatmap(
        z=np.round(losses if as_loss else saved, 4).tolist(),
        customdata=np.round(np.stack([losses, np.broadcast_to(base[:, None], losses.shape), saved], -1), 4).tolist(),
        hovertemplate="%{y}<br>under %{x}<br>loss %{customdata[0]:.3f}, base model %{customdata[1]:.3f}<br>"
        "difference %{customdata[2]:+.3f}<extra></extra>",
        **(_plain(losses) if as_loss else _about_zero(saved)),
    )
    labels = [transfer.clusters[one] for one in columns]
    group_bars(drawn, [(mark(label), len(list(found))) for label, found in groupby(labels)])
    own = [None if transfer.own[task] is None else place[transfer.own[task]] for task in rows]  # type: ignore[index]
    _outline(drawn, own)
    _separate(drawn, [None if column is None else labels[column] for column in own])
    return drawn


def _rows(transfer: Transfer, place: dict[int, int]) -> list[int]:
    """Tasks as their own adapters stand, then the others by name."""

    def key(task: int) -> tuple[bool, int, tuple[object, ...]]:
        own = transfer.own[task]
        return own is None, 0 if own is None else place[own], tuple(natural_key(transfer.tasks[task]))

    return sorted(range(len(transfer.tasks)), key=key)


def _about_zero(saved: NDArray[np.float64]) -> dict[str, object]:
    """Blue where an adapter saves loss, orange where it costs some."""
    end = float(np.quantile(np.abs(saved), CLIPPED)) or 1.0
    return {"zmin": -end, "zmax": end, "colorscale": DIFFERENCES, "colorbar": _bar("loss, less that of the base model")}


def _plain(losses: NDArray[np.float64]) -> dict[str, object]:
    end = float(np.quantile(losses, CLIPPED)) or 1.0
    return {"zmin": 0, "zmax": end, "colorscale": "cividis", "reversescale": True, "colorbar": _bar("loss")}


def _bar(title: str) -> dict[str, object]:
    return {"title": {"text": title, "side": "right"}, "thickness": 10, "len": 0.9, "outlinewidth": 0}


def _outline(drawn: go.Figure, own: list[int | None]) -> None:
    """A frame around each task's own adapter."""
    for row, column in enumerate(own):
        if column is not None:
            corners = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
            drawn.add_shape(type="rect", line={"width": 1.5, "color": INK}, **corners)


def _separate(drawn: go.Figure, labels: list[int | None]) -> None:
    """A line between the tasks of two clusters."""
    for row in range(1, len(labels)):
        if labels[row] != labels[row - 1]:
            line = {"width": 1, "color": INK}
            drawn.add_shape(type="line", x0=0, x1=1, xref="paper", y0=row - 0.5, y1=row - 0.5, line=line)
