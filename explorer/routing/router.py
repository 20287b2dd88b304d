"""What a router is: weights over the adapters, for each token, at each site.

A router sees one site at a time: the site's adapters as a :class:`SiteBank` and the inputs of that linear module.
It answers with a :class:`Decision`. How the weighted updates are then applied is the same for all routers and is
done elsewhere (`routed_linear.py`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from explorer.errors import SettingsError


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
        owners: for each stacked row, the index of its adapter; ascending.
    """

    site: str
    names: tuple[str, ...]
    present: Bool[Tensor, " adapters"]
    prototypes: Float[Tensor, "adapters d_in"]
    a: Float[Tensor, "rows d_in"]
    b: Float[Tensor, "d_out rows"]
    owners: Int[Tensor, " rows"]

    @cached_property
    def complete(self) -> bool:
        """Whether every adapter of the library has this site."""
        return bool(self.present.all())


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
    """Chooses weights. Subclasses are final frozen dataclasses whose fields are the router's settings.

    Attributes:
        key: the name on the command line and in addresses.
        title: the name that people read.
        paper: where it was described ("" for the obvious ones).
        uses_adapters: false where every weight is always 0, so that the base model is left exactly as it is.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str] = ""
    uses_adapters: ClassVar[bool] = True

    @property
    @abstractmethod
    def label(self) -> str:
        """This router with its settings, in words."""

    @abstractmethod
    def decide(self, bank: SiteBank, hidden: Float[Tensor, "*batch d_in"]) -> Decision:
        """Weights and scores for every input vector at one site, float32."""

    def check(self, names: tuple[str, ...]) -> None:  # noqa: B027 - most routers name no adapter
        """Raise SettingsError if this router names an adapter that is not among `names`."""


class FixedRouter(Router):
    """A router that gives every token the same weights, whatever its input."""

    @abstractmethod
    def fixed(self, names: tuple[str, ...]) -> list[float]:
        """The weight of each adapter in `names`, before those that lack a site are set to 0 there."""

    def decide(self, bank: SiteBank, hidden: Float[Tensor, "*batch d_in"]) -> Decision:
        """The fixed weights at every input vector; they are their own scores."""
        given = torch.tensor(self.fixed(bank.names), dtype=torch.float32, device=hidden.device)
        shape = (*hidden.shape[:-1], len(bank.names))
        if bank.complete:
            return Decision(given.expand(shape), given.expand(shape))
        scores = given.masked_fill(~bank.present, math.nan)
        return Decision(given.masked_fill(~bank.present, 0.0).expand(shape), scores.expand(shape))


def unknown_adapter(wanted: str, names: tuple[str, ...]) -> SettingsError:
    """The error for a name that is not among the adapters; it lists those there are."""
    menu = ", ".join(names[:30]) + (" ..." if len(names) > 30 else "")
    return SettingsError(f"Adapter {wanted[:80]!r}", "is not one that can be routed here", fix=f"Choose from: {menu}.")
