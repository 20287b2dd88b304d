"""How alike adapters are, by their parameters (MBC; paper, section 3.1, and its code).

Three measures, one file each:

- `update` (default): the cosine between whole updates; any ranks, any initial basis.
- `parameters`: the paper code's way, on the raw factors; for adapters that started from the same initial A.
- `subspace`: how far the updates read the same directions of their inputs, whatever their strength.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from explorer.adapters.adapter import Adapter
from explorer.analysis.blocks import Matrix
from explorer.analysis.parameter_products import parameter_products
from explorer.analysis.subspace_overlaps import subspace_overlaps
from explorer.analysis.update_products import update_products
from explorer.errors import LibraryError, SettingsError

MEASURES = ("update", "parameters", "subspace")
SiteFilter = Callable[[str], bool]


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
    members = [_restricted(adapter, sites) for adapter in adapters]
    found = {site for adapter in members for site in adapter.updates}
    if not found:
        raise LibraryError("Similarity", "has no adapter with a module to compare", fix="Choose other modules.")
    values, empty = _cosine(_products(members, measure, sparsity))
    return Similarity(
        names=tuple(adapter.name for adapter in members),
        values=values,
        measure=measure,
        coverage=tuple(len(adapter.updates) / len(found) for adapter in members),
        notes=tuple(_note(members[index].name, measure) for index in empty),
        sparsity=sparsity if measure == "parameters" else None,
    )


def _restricted(adapter: Adapter, sites: SiteFilter | None) -> Adapter:
    if sites is None:
        return adapter
    return replace(adapter, updates={site: update for site, update in adapter.updates.items() if sites(site)})


def _products(members: Sequence[Adapter], measure: str, sparsity: float) -> Matrix:
    if measure == "parameters":
        return parameter_products(members, sparsity)
    return update_products(members) if measure == "update" else subspace_overlaps(members)


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
