"""Neutral prompts, and what each prototype scores on them: what calibrated Arrow measures a prompt against.

The sentences are our own and of no task: plain statements, questions and requests on everyday things.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from explorer.models.chat import encode_prompt
from explorer.routing.observation import Observation
from explorer.routing.router import Decision, FixedRouter

if TYPE_CHECKING:
    from explorer.models.routed_model import RoutedModel

PROMPTS = (
    "The train to the coast leaves at nine and arrives before noon.",
    "Tell me something about the history of bridges.",
    "My neighbour keeps bees, and every summer she gives us a jar of honey.",
    "How does a bicycle stay upright when it moves?",
    "Write a short note to thank a friend for a book.",
    "Most of the shops in the old town close on Monday afternoons.",
    "What should I think about before I buy a winter coat?",
    "The committee met on Thursday and agreed to repair the roof first.",
    "Explain in simple words why leaves change their colour.",
    "We walked along the river until it was too dark to see the path.",
)


@dataclass(frozen=True)
class _Listener(FixedRouter):
    """The base model alone, with Arrow's scores noted."""

    key: ClassVar[str] = "listener"
    title: ClassVar[str] = "Listener"
    summary: ClassVar[str] = "The base model, listened to."
    uses_adapters: ClassVar[bool] = False

    @property
    def label(self) -> str:
        return "Base model, Arrow's scores noted"

    def fixed(self, names: tuple[str, ...]) -> list[float]:
        return [0.0] * len(names)

    def decide(self, seen: Observation) -> Decision:
        return Decision(seen.along.new_zeros(seen.shape), seen.along)


def neutral_scores(routed: RoutedModel) -> dict[str, Tensor]:
    """For each site the mean of |<h, p_e>| over all tokens of the neutral prompts, (adapters,) float32.

    The prompts go through the base model without adapters, in its chat template where it has one.
    """
    found = []
    for prompt in PROMPTS:
        ids = encode_prompt(routed.base.tokenizer, prompt, chat=True)[: routed.base.max_tokens]
        _, current = routed.forward([ids], [_Listener()], record=[0], keep=1)
        found.append(current.recorded(0, routed.sites)[1])
    means = np.concatenate(found, axis=1).mean(axis=1)
    return {site: torch.from_numpy(mean).to(routed.base.device) for site, mean in zip(routed.sites, means, strict=True)}
