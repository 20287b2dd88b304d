"""What a router is: weights over the adapters, for each token, at each site.

A router sees one site at a time: the site's adapters as a :class:`SiteBank` and the inputs of that linear module.
It answers with a :class:`Decision`. How the weighted updates are then applied is the same for all routers and is
done elsewhere (`routed_linear.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SiteBank:
    """All adapters of a library at one site, stacked.

    An adapter that lacks the site has `present` false, a zero prototype and no rows in the stacked factors.

    Attributes:
        site: name of the module.
        names: adapters, in the library's order.
        present: which of them adapt this site.
        prototypes: unit top right singular vectors (Arrow), zero where absent.
        a: the A factors of the present adapters, one below the other.
        b: the B factors times their scales, one beside the other.
        owners: for each stacked row, the index of its adapter.
    """

    site: str
    names: tuple[str, ...]
    present: Bool[Tensor, " adapters"]
    prototypes: Float[Tensor, "adapters d_in"]
    a: Float[Tensor, "rows d_in"]
    b: Float[Tensor, "d_out rows"]
    owners: Tensor


@dataclass(frozen=True, eq=False)
class Decision:
    """One router's answer at one site.

    Attributes:
        weights: what multiplies each adapter's output; 0 where an adapter is absent or not kept.
        scores: the raw scores before the top k and the softmax (for routers without scores: the weights); NaN where
            an adapter lacks the site.
    """

    weights: Float[Tensor, "*batch adapters"]
    scores: Float[Tensor, "*batch adapters"]


class Router(ABC):
    """Chooses weights. Subclasses are final frozen dataclasses whose fields are the router's settings."""

    key: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str] = ""

    @abstractmethod
    def decide(self, bank: SiteBank, hidden: Float[Tensor, "*batch d_in"]) -> Decision:
        """Weights and scores for every input vector at one site, float32."""

    def check(self, names: tuple[str, ...]) -> None:
        """Raise SettingsError if this router names an adapter that is not among `names`."""
