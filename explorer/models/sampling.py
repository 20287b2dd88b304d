"""Choosing the next token: greedy, or nucleus sampling that a seed repeats."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How an answer is drawn.

    Args:
        max_new_tokens: at most so many tokens.
        temperature: 0 is greedy; above, probabilities are softmax(logits / temperature).
        top_p: keep the smallest set of tokens that holds this probability.
        seed: the same seed gives the same answer.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind, low, high in (
            ("max_new_tokens", int, 1, 4096),
            ("temperature", float, 0.0, 5.0),
            ("top_p", float, 1e-6, 1.0),
            ("seed", int, 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            number = isinstance(value, int | kind) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not low <= value <= high:
                what = "a whole number" if kind is int else "a number"
                raise SettingsError(name, expected=f"{what} from {low:g} to {high:g}", found=repr(value)[:40])

    def draw(self, logits: Float[Tensor, " vocabulary"], generator: torch.Generator) -> int:
        """The next token of one row (float32 logits on the CPU)."""
        if self.temperature == 0:
            return int(logits.argmax())
        probabilities = torch.softmax(logits / self.temperature, dim=-1)
        if self.top_p < 1:
            ordered, order = probabilities.sort(descending=True, stable=True)
            beyond = ordered.cumsum(-1) - ordered >= self.top_p
            probabilities = probabilities.scatter(-1, order, ordered.masked_fill(beyond, 0.0))
        return int(torch.multinomial(probabilities, 1, generator=generator))
