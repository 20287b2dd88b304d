"""Fixed weights that were learned, one for each adapter and module: what LoraHub and the learned mixture route by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.routing.per_site import PerSite
from explorer.routing.router import FixedRouter


@dataclass(frozen=True, kw_only=True)
class SiteWeights(FixedRouter):
    """The same weights for every token, but others at each site; negative ones subtract an adapter.

    Args:
        weights: of each adapter at each site; adapters not among its names have weight 0.
        named: what people call these weights.
    """

    key: ClassVar[str] = "site-weights"
    title: ClassVar[str] = "Learned weights"
    summary: ClassVar[str] = "Fixed weights that were learned for each module."
    needs: ClassVar[str] = "a few examples of the target task"

    weights: PerSite
    named: str = "Learned weights"

    @property
    def label(self) -> str:
        """In words."""
        return self.named

    def fixed(self, names: tuple[str, ...]) -> list[float]:
        """Each adapter's mean over the sites, for where one number has to stand for all."""
        rows = [self.fixed_at(site, names) for site in self.weights.rows]
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)]

    def fixed_at(self, site: str, names: tuple[str, ...]) -> list[float]:
        """The weights at one site."""
        found: list[float] = self.weights.at(site, names, 0.0).tolist()
        return found

    def check(self, names: tuple[str, ...]) -> None:
        """Raise SettingsError, with the names there are, if a weight is for an adapter not among `names`."""
        self.weights.check(names)
