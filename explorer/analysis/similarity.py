"""How alike adapters are, by their parameters (MBC; paper, section 3.1, and its code).

Three measures, one file each:

- `update` (default): the cosine between whole updates; any ranks, any initial basis.
- `parameters`: the paper code's way, on the raw factors; for adapters that started from the same initial A.
- `subspace`: how far the updates read the same directions of their inputs, whatever their strength.

The products behind the cosines are kept in the user's cache (for adapters in files).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from explorer.adapters.adapter import Adapter
from explorer.adapters.identity import adapters_key
from explorer.analysis.blocks import Matrix
from explorer.analysis.parameter_products import parameter_products
from explorer.analysis.subspace_overlaps import subspace_overlaps
from explorer.analysis.survey import survey
from explorer.cache import Arrays, kept
from explorer.errors import LibraryError, SettingsError

MEASURES = ("update", "parameters", "subspace")
SiteFilter = Callable[[str], bool]
#: Goes up whenever the same adapters would give other products of "parameters" or "subspace".
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Similarity:
    """Cosine similarities between adapters.

    Attributes:
        names: length N.
        values: (N, N) symmetric, ones on the diagonal, within [-1, 1].
        measure: how it was computed (one of `MEASURES`).
        coverage: for each adapter the share of the library's sites that it has.
        notes: sentences about adapters that need care when reading the values.
        sparsity: the share of entries that the measure "parameters" set to zero; None for the others.
    """

    names: tuple[str, ...]
    values: Matrix
    measure: str
    coverage: tuple[float, ...]
    notes: tuple[str, ...] = ()
    sparsity: float | None = None

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.names), len(self.names)) or len(self.coverage) != len(self.names):
            raise ValueError("similarities need one row, one column and one coverage for each name")


def similarity(
    adapters: Iterable[Adapter],
    measure: str = "update",
    sparsity: float = 0.5,
    sites: SiteFilter | None = None,
) -> Similarity:
    """Compare all adapters with each other.

    Args:
        adapters: at least one.
        measure: "update", "parameters" or "subspace".
        sparsity: for "parameters", the share of entries set to zero, 0 up to but not 1.
        sites: which sites to look at, by name; None for all. For one layer or one kind of module, for example
            `lambda site: layer_label(site) == "layer 3"`.

    Raises:
        SettingsError: an unknown measure or a sparsity out of bounds.
        LibraryError: no adapter, none that has a chosen site, or "parameters" asked for adapters that do not have the
            same tensors.
    """
    if measure not in MEASURES:
        raise SettingsError(f"Measure {measure!r}", "is unknown", fix=f"Choose from: {', '.join(MEASURES)}.")
    if not 0 <= sparsity < 1:
        raise SettingsError("sparsity", expected="0 up to, but not, 1", found=f"{sparsity!r}")
    members = [adapter if sites is None else adapter.only(sites) for adapter in adapters]
    if not any(adapter.updates for adapter in members):
        raise LibraryError("Similarity", "has no adapter with a module to compare", fix="Choose other modules.")
    alike = of_products(members, _products(members, measure, sparsity), measure)
    return replace(alike, sparsity=sparsity) if measure == "parameters" else alike


def of_products(adapters: Sequence[Adapter], products: Matrix, measure: str = "update") -> Similarity:
    """The similarities of N adapters whose inner products (N, N) are known."""
    values, empty = _cosine(products)
    found = {site for adapter in adapters for site in adapter.updates}
    return Similarity(
        names=tuple(adapter.name for adapter in adapters),
        values=values,
        measure=measure,
        coverage=tuple(len(adapter.updates) / len(found) for adapter in adapters),
        notes=tuple(_note(adapters[index].name, measure) for index in empty),
    )


def _products(members: Sequence[Adapter], measure: str, sparsity: float) -> Matrix:
    if measure == "update":
        return survey(members).products
    key = adapters_key(measure, members, str(FORMAT), repr(sparsity if measure == "parameters" else None))

    def compute() -> Matrix:
        return parameter_products(members, sparsity) if measure == "parameters" else subspace_overlaps(members)

    return kept(key, compute, lambda found: {"products": found}, lambda stored: _checked(stored, len(members)))


def _checked(stored: Arrays, count: int) -> Matrix:
    products = stored["products"]
    if products.shape != (count, count) or products.dtype != np.float64 or not np.isfinite(products).all():
        raise ValueError("products of other adapters")
    return products


def _cosine(inner: Matrix) -> tuple[Matrix, list[int]]:
    """Cosines from inner products; a zero vector is like itself only. Also returns the zero vectors' indices."""
    norms = np.sqrt(np.clip(np.diag(inner), 0.0, None))
    empty = norms == 0
    safe = np.where(empty, 1.0, norms)
    values = np.clip(inner / safe[:, None] / safe[None, :], -1.0, 1.0)
    values[empty, :] = values[:, empty] = 0.0
    values = (values + values.T) / 2
    np.fill_diagonal(values, 1.0)
    return values, [int(index) for index in np.flatnonzero(empty)]


def _note(name: str, measure: str) -> str:
    if measure == "parameters":
        return f"{name} is like no other: nothing of it is left in the components that are compared."
    return f"{name} is like no other: it changes nothing here, its update is zero."
