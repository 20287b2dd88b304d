"""The control: Arrow with random prototypes. Whatever this router can do, routing had no part in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.bank import Bank
from explorer.routing.observation import Observation
from explorer.routing.setting import check_settings, per_prompt_setting, setting, temperature_setting, top_k_setting
from explorer.routing.top_k import Reads, TopKRouter


@dataclass(frozen=True, kw_only=True)
class RandomControl(TopKRouter):
    """Arrow's rule with a random unit vector for each adapter and site in place of its prototype.

    A vector depends on the seed and on the names of the site and the adapter alone: not on the library's order, nor
    on who else is in it.

    Args:
        top_k: adapters that share a token.
        temperature: of the softmax.
        per_prompt: decide once a site, from the mean of the prompt tokens' scores, and keep to it while generating.
        seed: of the vectors.

    Raises:
        SettingsError: a setting is out of its bounds.
    """

    key: ClassVar[str] = "random"
    title: ClassVar[str] = "Random control"
    summary: ClassVar[str] = "Arrow with random prototypes: what this can do, routing had no part in."
    reads: ClassVar[Reads] = "vectors"

    top_k: int = top_k_setting()
    temperature: float = temperature_setting()
    per_prompt: bool = per_prompt_setting()
    seed: int = setting("Seed", "Of the random prototypes.", "integer", default=0, low=0, high=999_999)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        return f"Random prototypes, top {self.top_k}, T {self.temperature:g}, seed {self.seed}" + (
            ", per prompt" * self.per_prompt
        )

    def score(self, seen: Observation) -> Float[Tensor, "tokens sites adapters"]:
        """|<h, random vector>|."""
        vectors = seen.bank.memory.get(self, lambda: random_directions(seen.bank, self.seed))
        return (seen.hidden.float() @ vectors.T).abs_().view(seen.shape)


def random_directions(bank: Bank, seed: int) -> Float[Tensor, "pairs d_in"]:
    """A random unit vector for each (site, adapter), float32."""
    width = bank.directions.shape[1]
    vectors = [_vector([site, name], seed, width) for site in bank.sites for name in bank.names]
    return torch.nn.functional.normalize(torch.stack(vectors), dim=-1).to(bank.directions.device)


def _vector(names: Sequence[str], seed: int, width: int) -> Tensor:
    digest = hashlib.sha256("\0".join([*names, str(seed)]).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(width, generator=generator)
