"""SpectR: routing by all directions of an update, not the strongest alone (arXiv 2504.03454)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.routing.setting import check_settings, per_prompt_setting, temperature_setting, top_k_setting
from explorer.routing.top_k import Reads, TopKRouter


@dataclass(frozen=True, kw_only=True)
class SpectR(TopKRouter):
    """Softmax over the `top_k` adapters with the largest ||V_e^T h||, where dW_e = U S V^T.

    The length of the input within the space that an update reads, whatever the update does with it. At rank 1 this
    is Arrow.

    Args:
        top_k: adapters that share a token.
        temperature: of the softmax.
        per_prompt: decide once a site, from the mean of the prompt tokens' scores, and keep to it while generating.

    Raises:
        SettingsError: a setting is out of its bounds.
    """

    key: ClassVar[str] = "spectr"
    title: ClassVar[str] = "SpectR"
    summary: ClassVar[str] = "Like Arrow, but by all directions that an update reads, not the strongest alone."
    paper: ClassVar[str] = "https://arxiv.org/abs/2504.03454"
    reads: ClassVar[Reads] = "all directions"

    top_k: int = top_k_setting()
    temperature: float = temperature_setting()
    per_prompt: bool = per_prompt_setting()

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        return f"SpectR, top {self.top_k}, T {self.temperature:g}" + (", per prompt" * self.per_prompt)
