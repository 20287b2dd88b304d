"""PHATGOOSE: each adapter has a gate of its own, trained after it; the gates of all compete (arXiv 2402.05859)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.per_site import PerSite
from explorer.routing.setting import check_settings, per_prompt_setting, temperature_setting, top_k_setting
from explorer.routing.vector_router import VectorRouter


@dataclass(frozen=True, kw_only=True)
class Phatgoose(VectorRouter):
    """Softmax over the top 2 of LayerNorm(h) . LayerNorm(v_e) / sqrt(d_in), v_e the adapter's gate (section 3.2).

    The layer norms have no parameters: mean 0 and variance 1 over the width, with 1e-5 added to the variance. A gate
    of zeros (training left it as it was) scores 0.

    Args:
        vectors: v_e for each site and adapter (`learning/gates.py`).
        top_k: adapters that share a token.
        temperature: of the softmax, on top of sqrt(d_in).
        per_prompt: decide once a site, from the mean of the prompt tokens' scores, and keep to it while generating.

    Raises:
        SettingsError: a setting is out of its bounds.
    """

    key: ClassVar[str] = "phatgoose"
    title: ClassVar[str] = "PHATGOOSE"
    summary: ClassVar[str] = "Each token goes to the adapters whose own gates, trained one by one, open for it."
    paper: ClassVar[str] = "https://arxiv.org/abs/2402.05859"
    needs: ClassVar[str] = "training rows of each adapter's own task, and about 100 steps for each adapter"

    vectors: PerSite
    top_k: int = top_k_setting(2)
    temperature: float = temperature_setting()
    per_prompt: bool = per_prompt_setting()

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        temperature = f", T {self.temperature:g}" * (self.temperature != 1)
        return f"PHATGOOSE, top {self.top_k}{temperature}" + (", per prompt" * self.per_prompt)

    def of_input(self, hidden: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_in"]:
        """Normalised."""
        return torch.nn.functional.layer_norm(hidden, hidden.shape[1:])

    def of_vector(self, vectors: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_in"]:
        """Normalised."""
        return torch.nn.functional.layer_norm(vectors, vectors.shape[1:])
