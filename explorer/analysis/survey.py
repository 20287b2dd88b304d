"""One pass over all updates of a library: their inner products, and what each looks like inside.

Both come from the same small matrices, and reading is much of the cost. For adapters in files the result is kept in the
user's cache, under their content hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from explorer.adapters.adapter import Adapter
from explorer.adapters.identity import adapters_key
from explorer.analysis.blocks import Matrix
from explorer.analysis.site_by_site import add_at, over_sites
from explorer.analysis.sites import site_groups
from explorer.analysis.spectra import SpectrumSums, UpdateShape
from explorer.analysis.update_products import site_products
from explorer.cache import Arrays, from_numbers, kept, to_numbers

#: Goes up whenever the same adapters would give other numbers.
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Survey:
    """N adapters: `products` (N, N) are the inner products of their updates, `shapes` N descriptions."""

    products: Matrix
    shapes: tuple[UpdateShape, ...]

    def __post_init__(self) -> None:
        if self.products.shape != (len(self.shapes),) * 2 or self.products.dtype != np.float64:
            raise ValueError("a survey needs one row and one column of products for each shape")


def survey(adapters: Sequence[Adapter]) -> Survey:
    """Read all updates site by site; memory grows with one site's factors and with N^2, not with the library."""

    def from_arrays(stored: Arrays) -> Survey:
        shapes = tuple(_shape(*entry) for entry in from_numbers(stored["shapes"]))
        if len(shapes) != len(adapters) or not np.isfinite(stored["products"]).all():
            raise ValueError("a survey of another library")
        return Survey(stored["products"], shapes)

    return kept(adapters_key("survey", adapters, str(FORMAT)), lambda: _survey(adapters), _to_arrays, from_arrays)


def _survey(adapters: Sequence[Adapter]) -> Survey:
    total, sums = np.zeros((len(adapters), len(adapters))), SpectrumSums(adapters)
    for group, found in over_sites(site_groups(adapters), site_products):
        add_at(total, group.members, found.inner)
        sums.add(group.site, group.members, found.singular_values)
    return Survey(total, sums.shapes())


def _to_arrays(found: Survey) -> Arrays:
    return {"products": found.products, "shapes": to_numbers([astuple(shape) for shape in found.shapes])}


def _shape(spectrum: Any, effective_rank: Any, layers: Any) -> UpdateShape:
    return UpdateShape(
        spectrum=tuple(float(value) for value in spectrum),
        effective_rank=float(effective_rank),
        layers=tuple((str(label), float(norm)) for label, norm in layers),
    )
