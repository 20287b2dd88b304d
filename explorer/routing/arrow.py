"""Arrow: zero-shot routing by the top right singular vector of each update (arXiv 2405.11157, section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.router import Decision, Router, SiteBank
from explorer.routing.setting import check_settings, setting


@dataclass(frozen=True, kw_only=True)
class Arrow(Router):
    """Softmax over the `top_k` adapters whose prototype p_e lies closest to the direction of the input h.

    score_e = |<h, p_e>| in float32, with h as it is (so no cosine: routing is sharper where ||h|| is large) or, with
    `unit_norm`, divided by its length; then softmax(score / temperature) over the `top_k` largest. The absolute
    value is there because the sign of a singular vector means nothing.

    Adapters that lack the site are left out, and `top_k` is clamped to those that have it. Equal scores go to the
    adapter that stands first in the library. An update of zero has no direction: its prototype is the zero vector
    and its score is 0, so it is kept only where fewer than `top_k` others are there to keep, and then it adds nothing
    but takes its share of the weight.

    Raises:
        SettingsError: a setting is out of its bounds.
    """

    key: ClassVar[str] = "arrow"
    title: ClassVar[str] = "Arrow"
    paper: ClassVar[str] = "https://arxiv.org/abs/2405.11157"

    top_k: int = setting("Top k", "How many adapters share a token.", "integer", default=4, low=1, high=10_000)
    temperature: float = setting(
        "Temperature T", "Below 1 sharpens the weights, above 1 evens them.", "number", default=1.0, low=1e-6, high=1e6
    )
    unit_norm: bool = setting(
        "Unit-norm input",
        "Score by the cosine, which does not depend on the length of the input; wants a T of about 0.05.",
        "flag",
        default=False,
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        return f"Arrow, top {self.top_k}, T {self.temperature:g}" + (", unit-norm input" if self.unit_norm else "")

    def decide(self, bank: SiteBank, hidden: Float[Tensor, "*batch d_in"]) -> Decision:
        """Weights that sum to 1 over at most `top_k` adapters (all 0 if no adapter has the site), and the scores."""
        h = hidden.float()
        if self.unit_norm:
            h = torch.nn.functional.normalize(h, dim=-1)
        scores = (h @ bank.prototypes.T).abs()
        ranked = scores if bank.complete else scores.masked_fill(~bank.present, -math.inf)
        weights = _softmax_of_largest(ranked, self.top_k, self.temperature)
        if bank.complete:
            return Decision(weights, scores)
        return Decision(weights.masked_fill(~bank.present, 0.0), scores.masked_fill(~bank.present, math.nan))


def _softmax_of_largest(
    scores: Float[Tensor, "*batch adapters"], top_k: int, temperature: float
) -> Float[Tensor, "*batch adapters"]:
    """softmax(scores / temperature) over the `top_k` largest of each row, 0 elsewhere.

    A stable sort rather than `topk`, whose choice among equal scores is left open.
    """
    if top_k >= scores.shape[-1]:
        return torch.softmax(scores / temperature, dim=-1)
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    kept = torch.softmax(ordered[..., :top_k] / temperature, dim=-1)
    return torch.zeros_like(scores).scatter(-1, order[..., :top_k], kept)
