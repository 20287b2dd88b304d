"""Weights that somebody decided for one prompt: the same at every token and site of it, others for the next prompt.

They could be a fixed router. But fixed weights are made into one update, which is kept for the next pass: too dear
where every prompt has its own. As scores they go the way that all prompts of a batch share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.observation import Observation
from explorer.routing.router import Kept, ScoreRouter, unknown_adapter


@dataclass(frozen=True, kw_only=True)
class PromptWeights(ScoreRouter):
    """The given weights at every token and site; an adapter that lacks a site adds nothing there, others stay as said.

    Args:
        names: adapters.
        weights: one for each; an adapter not named has weight 0.
        named: what people call the router.
    """

    key: ClassVar[str] = "prompt-weights"
    title: ClassVar[str] = "Weights of a prompt"
    summary: ClassVar[str] = "One decision for a whole prompt, the same at every module."

    names: tuple[str, ...]
    weights: tuple[float, ...]
    named: str = "Weights of this prompt"

    @property
    def label(self) -> str:
        """In words."""
        return self.named

    @property
    def most_kept(self) -> int:
        """Those named."""
        return len(self.names)

    def score(self, seen: Observation) -> Float[Tensor, "tokens sites adapters"]:
        """The weights are their own scores."""
        given = dict(zip(self.names, self.weights, strict=True))
        row = torch.tensor([given.get(name, 0.0) for name in seen.bank.names], device=seen.hidden.device)
        return row.expand(seen.shape)

    def keep(self, scores: Float[Tensor, "tokens sites adapters"], seen: Observation) -> Kept:
        """The adapters that are named."""
        bank = seen.bank
        own = torch.tensor([bank.names.index(name) for name in self.names], device=scores.device)
        weights = torch.where(bank.present, scores, 0.0)[..., own]
        return Kept(own.expand(weights.shape), weights)

    def check(self, names: tuple[str, ...]) -> None:
        """Raise SettingsError, with the names there are, if a weight is for an adapter not among `names`."""
        for name in self.names:
            if name not in names:
                raise unknown_adapter(name, names)
