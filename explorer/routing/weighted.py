"""Given weights, the same for every token and site: a linear mix of adapters (as in LoraHub, arXiv 2307.13269)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from explorer.errors import SettingsError
from explorer.routing.router import FixedRouter, unknown_adapter
from explorer.routing.setting import setting

MOST = 1e3  # beyond this a mix is a slip of the keyboard, and the model's numbers overflow


@dataclass(frozen=True)
class Weighted(FixedRouter):
    """The weights as given, not normalised; negative ones subtract an adapter. Adapters not named have weight 0.

    Raises:
        SettingsError: no weight, a weight that is not a finite number from -1000 to 1000, or a name that is not text.
    """

    key: ClassVar[str] = "weighted"
    title: ClassVar[str] = "Weighted"
    summary: ClassVar[str] = "Fixed weights of your own, the same for every token."
    paper: ClassVar[str] = "https://arxiv.org/abs/2307.13269"

    weights: Mapping[str, float] = setting("Weights", "A number for each adapter to mix.", "weights", hashed=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", checked_weights(self.weights))

    @property
    def label(self) -> str:
        """In words; the four largest weights are named."""
        return f"Weighted: {named_weights(self.weights)}"

    def fixed(self, names: tuple[str, ...]) -> list[float]:
        """The given weights, in the order of `names`."""
        return [float(self.weights.get(name, 0.0)) for name in names]

    def check(self, names: tuple[str, ...]) -> None:
        """Raise SettingsError, with the names there are, if a weight is for an adapter not among `names`."""
        check_names(self.weights, names)


def checked_weights(weights: object) -> dict[str, float]:
    """A copy of the weights (the caller's may change later).

    Raises:
        SettingsError: there is none, or one is not a finite number from -1000 to 1000, or a name is not text.
    """
    if not isinstance(weights, Mapping) or not weights:
        raise SettingsError("Weights", expected="a number for at least one adapter", found=repr(weights)[:40])
    for name, weight in weights.items():
        if not isinstance(name, str):
            raise SettingsError("Weights", expected="names of adapters", found=repr(name)[:40])
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or abs(weight) > MOST:
            expected = f"a number from {-MOST:g} to {MOST:g}"
            raise SettingsError(f"Weight of {name[:80]!r}", expected=expected, found=repr(weight)[:40])
    return dict(weights)


def named_weights(weights: Mapping[str, float]) -> str:
    """The four largest weights in words."""
    largest = sorted(weights.items(), key=lambda item: -abs(item[1]))
    named = ", ".join(f"{name} {weight:g}" for name, weight in largest[:4])
    return named + (f" and {len(largest) - 4} more" if len(largest) > 4 else "")


def check_names(weights: Mapping[str, float] | tuple[()], names: tuple[str, ...]) -> None:
    """Raise SettingsError, with the names there are, if a weight is for an adapter not among `names`."""
    for name in weights:
        if name not in names:
            raise unknown_adapter(name, names)
