"""What a router is: weights over the adapters, for each token, at each site.

A router sees the inputs of the sites of one bank as an :class:`Observation` and answers with a :class:`Decision`. How
the weighted updates are then applied is the same for all routers and is done elsewhere (`mixing.py`).

There are three kinds: those that score each token (:class:`ScoreRouter`), those whose weights are the same for all
tokens (:class:`FixedRouter`), and merges, which make one update out of all (:class:`MergeRouter`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.errors import SettingsError
from explorer.routing.bank import Bank
from explorer.routing.observation import Observation


@dataclass(slots=True, eq=False)
class Kept:
    """The adapters that share a token at a site, K of them at most, and their weights.

    Attributes:
        adapters: their indices in the library; each at most once.
        weights: float32; 0 where fewer than K are there.
    """

    adapters: Int[Tensor, "tokens sites kept"]
    weights: Float[Tensor, "tokens sites kept"]

    def dense(self, adapters: int) -> Float[Tensor, "tokens sites adapters"]:
        """The weights of all E adapters, 0 for those that were not kept."""
        empty = self.weights.new_zeros(*self.weights.shape[:2], adapters)
        return empty.scatter_(-1, self.adapters, self.weights)


@dataclass(frozen=True, eq=False)
class Decision:
    """One router's answer at the sites of one bank.

    Attributes:
        weights: what multiplies each adapter's output; 0 where an adapter is absent or not kept.
        scores: the raw scores before the top k and the softmax (for routers without scores: the weights); NaN where
            an adapter lacks the site.
    """

    weights: Float[Tensor, "tokens sites adapters"]
    scores: Float[Tensor, "tokens sites adapters"]


class Router(ABC):
    """Chooses weights. Subclasses are final frozen dataclasses whose fields are the router's settings.

    Attributes:
        key: the name on the command line and in addresses.
        title: the name that people read.
        summary: what it does, in one sentence for a reader.
        paper: where it was described ("" for the obvious ones).
        needs: what it needs beside the adapters, in words ("" for nothing).
        uses_adapters: false where every weight is always 0, so that the base model is left exactly as it is.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    needs: ClassVar[str] = ""
    uses_adapters: ClassVar[bool] = True

    @property
    @abstractmethod
    def label(self) -> str:
        """This router with its settings, in words."""

    @abstractmethod
    def decide(self, seen: Observation) -> Decision:
        """Weights and scores for every input vector at every site of a bank, float32."""

    @property
    def averages_factors(self) -> bool:
        """Whether the adapters' factors are averaged instead of their outputs, as the paper's own code does."""
        return False

    def check(self, names: tuple[str, ...]) -> None:  # noqa: B027 - most routers name no adapter
        """Raise SettingsError if this router names an adapter that is not among `names`."""


class ScoreRouter(Router):
    """A router that scores the adapters for each token and keeps a few.

    Attributes:
        needs_neutral: whether it needs the scores of neutral prompts.
    """

    needs_neutral: ClassVar[bool] = False

    @property
    @abstractmethod
    def most_kept(self) -> int:
        """At most so many adapters share a token."""

    @property
    def decides_per_prompt(self) -> bool:
        """Whether the mean scores of a prompt's tokens stand for all its tokens, and for those generated."""
        return False

    @abstractmethod
    def score(self, seen: Observation) -> Float[Tensor, "tokens sites adapters"]:
        """Raw scores, float32; of an adapter that lacks a site anything finite."""

    @abstractmethod
    def keep(self, scores: Float[Tensor, "tokens sites adapters"], seen: Observation) -> Kept:
        """The adapters kept for each token and site, with weights that sum to 1 (0 where nobody has the site)."""

    def decide(self, seen: Observation) -> Decision:
        """Scores, then the weights of those kept."""
        scores = self.score(seen)
        return decision_of(self.keep(scores, seen), scores, seen.bank)


def decision_of(kept: Kept, scores: Float[Tensor, "tokens sites adapters"], bank: Bank) -> Decision:
    """Kept adapters and raw scores as a decision over all adapters."""
    weights = kept.dense(len(bank.names))
    if bank.complete:
        return Decision(weights, scores)
    return Decision(weights.masked_fill(~bank.present, 0.0), scores.masked_fill(~bank.present, math.nan))


class FixedRouter(Router):
    """A router that gives every token the same weights, whatever its input."""

    @abstractmethod
    def fixed(self, names: tuple[str, ...]) -> list[float]:
        """The weight of each adapter in `names`, before those that lack a site are set to 0 there."""

    def fixed_at(self, site: str, names: tuple[str, ...]) -> list[float]:
        """The same at one site: most fixed routers know no difference between sites."""
        return self.fixed(names)

    def weights_at(self, bank: Bank) -> Float[Tensor, "sites adapters"]:
        """The fixed weights at the sites of a bank, float32, where an adapter lacks a site too."""
        rows = [self.fixed_at(site, bank.names) for site in bank.sites]
        return torch.tensor(rows, dtype=torch.float32, device=bank.down.device)

    def decide(self, seen: Observation) -> Decision:
        """The fixed weights at every input vector; they are their own scores."""
        bank = seen.bank
        weights = torch.where(bank.present, self.weights_at(bank), 0.0).expand(seen.shape)
        return Decision(weights, weights if bank.complete else weights.masked_fill(~bank.present, math.nan))


@dataclass(frozen=True, eq=False)
class Merged:
    """One update made out of all adapters at one site: up^T down, or `dense` where no factors are cheaper.

    Attributes:
        down: rows to read by, or None.
        up: rows to write by, or None.
        dense: the update written out, or None.
        shares: how much of it comes from each adapter: not negative, summing to 1 (0 throughout for no update).
        energy: squared Frobenius norm of the update.
        full_energy: the same before its rank was cut; equal to `energy` where it was not.
    """

    shares: Float[Tensor, " adapters"]
    energy: float
    full_energy: float
    down: Float[Tensor, "rows d_in"] | None = None
    up: Float[Tensor, "rows d_out"] | None = None
    dense: Float[Tensor, "d_out d_in"] | None = None


class MergeRouter(Router):
    """A merge: one update for all tokens that is no weighted sum of the adapters' updates.

    Its "weights" are each adapter's share in the merged update, so that it can be read beside the others.
    """

    @abstractmethod
    def merge(self, bank: Bank, site: int) -> Merged:
        """Merge the updates of one site, float32."""

    def merged(self, bank: Bank) -> tuple[Merged, ...]:
        """The merged updates of all sites, computed on first use."""
        return bank.memory.get(self, lambda: tuple(self.merge(bank, site) for site in range(len(bank.sites))))

    def decide(self, seen: Observation) -> Decision:
        """The shares, the same for every token; they are their own scores."""
        weights = torch.stack([merged.shares for merged in self.merged(seen.bank)]).expand(seen.shape)
        return Decision(weights, weights if seen.bank.complete else weights.masked_fill(~seen.bank.present, math.nan))


def updates_at(bank: Bank, site: int) -> dict[int, Tensor]:
    """Every adapter's update at one site written out, (d_out, d_in) float32, by the adapter's index."""
    there = [adapter for adapter, has in enumerate(bank.present[site].tolist()) if has]
    factors = {adapter: bank.update(site, adapter) for adapter in there}
    return {adapter: up.float().T @ down.float() for adapter, (down, up) in factors.items()}


def unknown_adapter(wanted: str, names: tuple[str, ...]) -> SettingsError:
    """The error for a name that is not among the adapters; it lists those there are."""
    menu = ", ".join(names[:30]) + (" ..." if len(names) > 30 else "")
    return SettingsError(f"Adapter {wanted[:80]!r}", "is not one that can be routed here", fix=f"Choose from: {menu}.")
