"""Where the names of points stand, so that they do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CHARACTER, _LINE = 5.7, 12.0
_POINT = 8.0


class Box(NamedTuple):
    """A rectangle in pixels, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Shared area, square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)


def place_labels(
    points: NDArray[np.float64], names: Sequence[str], *, first: int | None = None, tolerated: float = 0.25
) -> list[str]:
    """Plotly's `textposition` for each name, "" where it would cover more than `tolerated` of its own area.

    Greedy: each name in turn takes the side on which it covers the least. O(N^2).

    Args:
        points: (N, 2) pixels, y upwards.
        names: as they will be shown.
        first: this point is placed before all others, and always.
        tolerated: share of a name's box.
    """
    taken = [Box(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in points.tolist()]
    sides = [""] * len(names)
    for index in sorted(range(len(names)), key=lambda index: index != first):
        boxes = _boxes(float(points[index, 0]), float(points[index, 1]), len(names[index]) * _CHARACTER)
        covered = {
            side: sum(box.overlap(other) for place, other in enumerate(taken) if place != index)
            for side, box in boxes.items()
        }
        best = min(covered, key=covered.__getitem__)
        box = boxes[best]
        if index == first or covered[best] <= tolerated * (box.right - box.left) * (box.top - box.bottom):
            sides[index] = best
            taken.append(box)
    return sides


def _boxes(x: float, y: float, width: float) -> dict[str, Box]:
    """The four places for a name beside a point."""
    return {
        "top center": Box(x - width / 2, y + _POINT, x + width / 2, y + _POINT + _LINE),
        "bottom center": Box(x - width / 2, y - _POINT - _LINE, x + width / 2, y - _POINT),
        "middle right": Box(x + _POINT, y - _LINE / 2, x + _POINT + width, y + _LINE / 2),
        "middle left": Box(x - _POINT - width, y - _LINE / 2, x - _POINT, y + _LINE / 2),
    }
