"""TIES merging: trim, elect signs, and average what agrees (arXiv 2306.01708)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import LibraryError
from explorer.routing.bank import Bank
from explorer.routing.router import Merged, MergeRouter, updates_at
from explorer.routing.setting import check_settings, setting

MOST_BYTES = 2 << 30  # what the updates of one module may take, written out


@dataclass(frozen=True, kw_only=True)
class Ties(MergeRouter):
    """One update out of all: of each, the `density` largest entries of a module; of those, the sign that weighs more.

    Trimming is by module, as PEFT and mergekit do it (the paper trims a whole task vector at once). At each entry the
    values that agree with the elected sign are averaged. An adapter's share is that of its entries in the sum of the
    merged update's absolute values: at one entry all values that count have one sign, so the shares add up.

    Args:
        density: share of the entries that trimming leaves.

    Raises:
        SettingsError: the density is out of its bounds.
        LibraryError: (when merging) the updates of one module are too large to be written out side by side.
    """

    key: ClassVar[str] = "ties"
    title: ClassVar[str] = "TIES merge"
    summary: ClassVar[str] = "One merged update: small entries trimmed, signs elected, agreeing values averaged."
    paper: ClassVar[str] = "https://arxiv.org/abs/2306.01708"

    density: float = setting(
        "Density", "The share of each update's entries that is kept.", "number", default=0.2, low=1e-3, high=1.0
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        return f"TIES merge, density {self.density:g}"

    def merge(self, bank: Bank, site: int) -> Merged:
        """Trim, elect, average."""
        _check_room(bank, site)
        updates = updates_at(bank, site)
        trimmed = torch.stack([trim(update, self.density) for update in updates.values()])
        sign = trimmed.sum(dim=0).sign()
        agreeing = trimmed * (trimmed.sign() == sign)
        counted = agreeing.ne(0).sum(dim=0).clamp_min(1)
        delta = agreeing.sum(dim=0) / counted
        own = (agreeing.abs() / counted).sum(dim=(1, 2))
        shares = torch.zeros(len(bank.names), device=own.device)
        shares[list(updates)] = own / own.sum().clamp_min(torch.finfo(torch.float32).tiny)
        energy = float(delta.square().sum(dtype=torch.float64))
        return Merged(shares, energy, energy, dense=delta)


def trim(update: Float[Tensor, "d_out d_in"], density: float) -> Float[Tensor, "d_out d_in"]:
    """The floor(density * entries) entries of largest absolute value, at least one, and zeros."""
    flat = update.flatten()
    kept = flat.abs().topk(max(int(density * flat.numel()), 1), sorted=False).indices
    return torch.zeros_like(flat).scatter_(0, kept, flat[kept]).view_as(update)


def _check_room(bank: Bank, site: int) -> None:
    written_out = 4 * int(bank.present[site].sum()) * bank.down.shape[1] * bank.up[site].shape[1]
    if written_out > MOST_BYTES:
        raise LibraryError(
            f"TIES merge, module {bank.sites[site]}",
            "is too large for so many adapters",
            expected=f"at most {MOST_BYTES >> 20:,} MB written out",
            found=f"{written_out >> 20:,} MB",
            fix="Merge a part of the library.",
        )
