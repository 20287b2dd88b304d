"""Arrow: zero-shot routing by the top right singular vector of each update (arXiv 2405.11157, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.routing.setting import (
    check_settings,
    factors_setting,
    per_prompt_setting,
    setting,
    temperature_setting,
    top_k_setting,
)
from explorer.routing.top_k import TopKRouter


@dataclass(frozen=True, kw_only=True)
class Arrow(TopKRouter):
    """Softmax over the `top_k` adapters whose prototype p_e lies closest to the direction of the input h.

    score_e = |<h, p_e>| in float32, with h as it is (so no cosine: routing is sharper where ||h|| is large) or, with
    `unit_norm`, divided by its length; then softmax(score / temperature) over the `top_k` largest. The absolute
    value is there because the sign of a singular vector means nothing.

    Adapters that lack the site are left out, and `top_k` is clamped to those that have it. Equal scores go to the
    adapter that stands first in the library. An update of zero has no direction: its prototype is the zero vector
    and its score is 0, so it is kept only where fewer than `top_k` others are there to keep, and then it adds nothing
    but takes its share of the weight.

    Args:
        top_k: adapters that share a token.
        temperature: of the softmax.
        unit_norm: score by the cosine.
        per_prompt: decide once a site, from the mean of the prompt tokens' scores, and keep to it while generating.
        average_factors: apply (sum w B)(sum w A) instead of sum w B A, as the paper's own code does.

    Raises:
        SettingsError: a setting is out of its bounds.
    """

    key: ClassVar[str] = "arrow"
    title: ClassVar[str] = "Arrow"
    summary: ClassVar[str] = (
        "Each token goes to the adapters whose strongest input direction it lies along; no training, no data."
    )
    paper: ClassVar[str] = "https://arxiv.org/abs/2405.11157"

    top_k: int = top_k_setting()
    temperature: float = temperature_setting()
    unit_norm: bool = setting(
        "Unit-norm input",
        "Score by the cosine, which does not depend on the length of the input; wants a T of about 0.05.",
        "flag",
        default=False,
    )
    per_prompt: bool = per_prompt_setting()
    average_factors: bool = factors_setting()

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        options = {
            "unit-norm input": self.unit_norm,
            "per prompt": self.per_prompt,
            "factors averaged": self.average_factors,
        }
        return ", ".join([f"Arrow, top {self.top_k}, T {self.temperature:g}", *(w for w, on in options.items() if on)])

    @property
    def averages_factors(self) -> bool:
        """As set."""
        return self.average_factors

    @property
    def by_length(self) -> bool:
        """As set."""
        return self.unit_norm
