"""What was learned for each module and adapter: numbers with the names they belong to, equal when their content is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from explorer.routing.router import unknown_adapter


@dataclass(frozen=True, eq=False)
class PerSite:
    """One row an adapter at each site: a weight, or a vector of the site's input width.

    Two are equal when names and numbers are, so that routers which hold them can be compared and kept.

    Attributes:
        names: the adapters that something was learned for.
        rows: site -> (adapters,) or (adapters, d_in), float32, in the order of `names`.
    """

    names: tuple[str, ...]
    rows: Mapping[str, Tensor]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and numbers, sites and adapters in alphabetical order."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        digest = hashlib.sha256("\0".join(sorted(self.names)).encode())
        for site in sorted(self.rows):
            rows = self.rows[site][order].float().cpu().contiguous()
            digest.update(f"\0{site} {tuple(rows.shape)}".encode() + rows.numpy().tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PerSite) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"PerSite({self.digest[:16]})"

    def at(self, site: str, names: Sequence[str], otherwise: float) -> Tensor:
        """The rows of a site in the order of `names`; of an adapter without one, filled with `otherwise`."""
        rows = self.rows[site]
        filled = torch.full((len(names), *rows.shape[1:]), otherwise, dtype=torch.float32)
        places = {name: place for place, name in enumerate(self.names)}
        for place, name in enumerate(names):
            if name in places:
                filled[place] = rows[places[name]]
        return filled

    def check(self, names: tuple[str, ...]) -> None:
        """Raise SettingsError, with the names there are, if something belongs to an adapter not among `names`."""
        for name in self.names:
            if name not in names:
                raise unknown_adapter(name, names)
