"""The mean of all adapters' outputs: the "mu" baseline of the Arrow paper (arXiv 2405.11157, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.routing.router import FixedRouter
from explorer.routing.setting import check_settings, factors_setting


@dataclass(frozen=True, kw_only=True)
class Uniform(FixedRouter):
    """Weight 1/E for each of the library's E adapters.

    An adapter that lacks a site counts as one that changes nothing there, so the weights of the others stay 1/E and
    sum to less than 1 at that site: this is the mean of the E adapted models' updates.

    Args:
        average_factors: apply (mean B)(mean A) instead of the mean of B A, as the paper's own code does.

    Raises:
        SettingsError: the setting is not true or false.
    """

    key: ClassVar[str] = "uniform"
    title: ClassVar[str] = "Uniform"
    summary: ClassVar[str] = "The mean of all adapters' outputs, the same for every token."
    paper: ClassVar[str] = "https://arxiv.org/abs/2405.11157"

    average_factors: bool = factors_setting()

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        return "Uniform" + (", factors averaged" * self.average_factors)

    @property
    def averages_factors(self) -> bool:
        """As set."""
        return self.average_factors

    def fixed(self, names: tuple[str, ...]) -> list[float]:
        """1/E each."""
        return [1.0 / len(names)] * len(names)
