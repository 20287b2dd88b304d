"""Calibrated Arrow (our own): Arrow's scores measured against what each prototype scores on any text.

Some prototypes lie along directions that every token has (a single direction holds about half of an input's energy in
the sample's base model), so their adapters are chosen whatever the prompt says. Dividing by the mean score over a few
neutral sentences removes that; no task data and no training are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from explorer.routing.observation import Observation
from explorer.routing.setting import check_settings, per_prompt_setting, temperature_setting, top_k_setting
from explorer.routing.top_k import TopKRouter

TINY = 1e-6  # a prototype of zeros scores 0 everywhere, and 0 / TINY stays 0


@dataclass(frozen=True, kw_only=True)
class CalibratedArrow(TopKRouter):
    """Arrow with score_e = |<h, p_e>| / m_e, m_e the mean of |<h, p_e>| over the tokens of neutral prompts.

    A score of 1 says: as much as on any text. The neutral prompts are run once through the base model, without
    adapters (:data:`explorer.models.neutral.PROMPTS`).

    Args:
        top_k: adapters that share a token.
        temperature: of the softmax.
        per_prompt: decide once a site, from the mean of the prompt tokens' scores, and keep to it while generating.

    Raises:
        SettingsError: a setting is out of its bounds.
    """

    key: ClassVar[str] = "calibrated"
    title: ClassVar[str] = "Calibrated Arrow"
    summary: ClassVar[str] = (
        "Arrow, measured against what each adapter scores on any text: no pull by directions that every token has."
    )
    needs: ClassVar[str] = "ten neutral prompts, which come along"
    needs_neutral: ClassVar[bool] = True

    top_k: int = top_k_setting()
    temperature: float = temperature_setting(0.25)
    per_prompt: bool = per_prompt_setting()

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        return f"Calibrated Arrow, top {self.top_k}, T {self.temperature:g}" + (", per prompt" * self.per_prompt)

    def scale(self, seen: Observation) -> Float[Tensor, "sites adapters"]:
        """One over the mean score on neutral prompts."""
        expected = seen.expected()
        return seen.bank.memory.get("neutral", lambda: 1.0 / expected.clamp_min(TINY))
