"""The base model alone: no adapter takes part. The yardstick that every other router is read against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.routing.router import FixedRouter


@dataclass(frozen=True)
class Base(FixedRouter):
    """Weight 0 for every adapter."""

    key: ClassVar[str] = "base"
    title: ClassVar[str] = "Base model"
    summary: ClassVar[str] = "The base model, no adapter at all."
    uses_adapters: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """In words."""
        return "Base model"

    def fixed(self, names: tuple[str, ...]) -> list[float]:
        """Zeros."""
        return [0.0] * len(names)
