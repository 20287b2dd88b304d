"""The mean of all adapters' outputs: the "mu" baseline of the Arrow paper (arXiv 2405.11157, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.routing.router import FixedRouter


@dataclass(frozen=True)
class Uniform(FixedRouter):
    """Weight 1/E for each of the library's E adapters.

    An adapter that lacks a site counts as one that changes nothing there, so the weights of the others stay 1/E and
    sum to less than 1 at that site: this is the mean of the E adapted models' updates.
    """

    key: ClassVar[str] = "uniform"
    title: ClassVar[str] = "Uniform"
    paper: ClassVar[str] = "https://arxiv.org/abs/2405.11157"

    @property
    def label(self) -> str:
        """In words."""
        return "Uniform"

    def fixed(self, names: tuple[str, ...]) -> list[float]:
        """1/E each."""
        return [1.0 / len(names)] * len(names)
