"""Weights that are the same for every token make one update of each module: prepared once, applied to any token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.bank import Bank
from explorer.routing.router import FixedRouter, MergeRouter


@dataclass(frozen=True, eq=False)
class StaticUpdate:
    """The updates of a bank's sites: up^T diag(scale) down, or written out where that is less to read.

    Attributes:
        down: rows to read by, of all sites; None where the updates are written out.
        scale: a factor for each row, or None.
        spans: for each site its rows.
        ups: for each site the rows to write by, or the transposed update written out, (d_in, d_out).
    """

    down: Tensor | None
    scale: Tensor | None
    spans: Sequence[slice]
    ups: Sequence[Tensor]

    def inner(self, hidden: Float[Tensor, "tokens d_in"]) -> Tensor | None:
        """The products with the rows that read, scaled."""
        if self.down is None:
            return None
        inner = hidden.to(self.down.dtype) @ self.down.T
        return inner if self.scale is None else inner.mul_(self.scale)

    def factors(self, site: int, hidden: Tensor, inner: Tensor | None) -> tuple[Tensor, Tensor]:
        """Two matrices whose product is what the site adds to each token."""
        if inner is None:
            return hidden.to(self.ups[site].dtype), self.ups[site]
        return inner[:, self.spans[site]], self.ups[site]


def static_update(router: FixedRouter | MergeRouter, bank: Bank) -> StaticUpdate:
    """The update that a router with fixed weights, or a merge, stands for."""
    if isinstance(router, MergeRouter):
        return _merged(router, bank)
    by_row = router.weights_at(bank).flatten()[bank.owners[:-1]]
    used = by_row.nonzero().squeeze(1)
    if _is_less(len(used), bank):
        return _selected(bank, used, by_row)
    return _written_out(
        [(bank.ups[site].T.float() * by_row[span]) @ bank.down[span].float() for site, span in enumerate(bank.spans)],
        bank.down.dtype,
    )


def _is_less(rows: int, bank: Bank) -> bool:
    """Whether factors with so many rows in all are less to read than the updates written out."""
    width = bank.down.shape[1]
    outputs = [rows.shape[1] for rows in bank.ups]
    return rows * (width + sum(outputs) / len(outputs)) <= width * sum(outputs)


def _selected(bank: Bank, used: Tensor, by_row: Tensor) -> StaticUpdate:
    """The used adapters' rows; the bank's own, not copied, where most are used."""
    if 2 * len(used) > len(by_row):
        scale = torch.nn.functional.pad(by_row, (0, 1)).to(bank.down.dtype)
        return StaticUpdate(bank.down, scale, bank.spans, bank.ups)
    counts = [int(((used >= span.start) & (used < span.stop)).sum()) for span in bank.spans]
    spans = _spans(counts)
    ups = [bank.ups[site][used[own] - bank.starts[site]] for site, own in enumerate(spans)]
    return StaticUpdate(bank.down[used], by_row[used].to(bank.down.dtype), spans, ups)


def _merged(router: MergeRouter, bank: Bank) -> StaticUpdate:
    merged = router.merged(bank)
    factors = [(one.down, one.up) for one in merged if one.down is not None and one.up is not None]
    if len(factors) < len(merged) or not _is_less(sum(len(down) for down, _ in factors), bank):
        dense = [one.dense if one.dense is not None else one.up.T @ one.down for one in merged]  # type: ignore[union-attr, operator]
        return _written_out(dense, bank.down.dtype)
    down = torch.cat([down for down, _ in factors]).to(bank.down.dtype)
    ups = [up.to(bank.down.dtype) for _, up in factors]
    return StaticUpdate(down, None, _spans([len(rows) for rows, _ in factors]), ups)


def _spans(lengths: Sequence[int]) -> list[slice]:
    """Slices of these lengths, one after the other."""
    return [slice(first, last) for first, last in pairwise(accumulate(lengths, initial=0))]


def _written_out(updates: Sequence[Tensor], dtype: torch.dtype) -> StaticUpdate:
    return StaticUpdate(None, None, (), [update.T.contiguous().to(dtype) for update in updates])
