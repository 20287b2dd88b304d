"""Centroid matching: an adapter's vector is the mean input that its own examples give (baseline "CM" of 2405.11157)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from explorer.routing.per_site import PerSite
from explorer.routing.setting import check_settings, per_prompt_setting, temperature_setting, top_k_setting
from explorer.routing.vector_router import VectorRouter

ALL = 10_000


@dataclass(frozen=True, kw_only=True)
class Centroid(VectorRouter):
    """softmax(<h, p_e> / sqrt(d_in)) over all adapters, p_e the unit mean of h over the adapter's own examples.

    Args:
        vectors: p_e for each site and adapter (`learning/centroids.py`).
        top_k: adapters that share a token; all by default.
        temperature: of the softmax, on top of sqrt(d_in).
        per_prompt: decide once a site, from the mean of the prompt tokens' scores, and keep to it while generating.

    Raises:
        SettingsError: a setting is out of its bounds.
    """

    key: ClassVar[str] = "centroid"
    title: ClassVar[str] = "Centroid matching"
    summary: ClassVar[str] = "Each token goes to the adapters whose own examples gave inputs like it."
    paper: ClassVar[str] = "https://arxiv.org/abs/2405.11157"
    needs: ClassVar[str] = "about ten prompts of each adapter's own task"

    vectors: PerSite
    top_k: int = top_k_setting(ALL)
    temperature: float = temperature_setting()
    per_prompt: bool = per_prompt_setting()

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        options = [f", top {self.top_k}"] * (self.top_k < ALL) + [f", T {self.temperature:g}"] * (self.temperature != 1)
        return f"Centroid matching{''.join(options)}" + (", per prompt" * self.per_prompt)

    def of_input(self, hidden: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_in"]:
        """As it is."""
        return hidden

    def of_vector(self, vectors: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_in"]:
        """As it is."""
        return vectors
