"""One adapter alone, chosen by name (with the adapter of the prompt's own task: the oracle)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.errors import SettingsError
from explorer.routing.router import FixedRouter, unknown_adapter
from explorer.routing.setting import setting


@dataclass(frozen=True)
class Single(FixedRouter):
    """Weight 1 for one adapter; where it lacks a site, the base model stands unchanged.

    Raises:
        SettingsError: no name was given.
    """

    key: ClassVar[str] = "single"
    title: ClassVar[str] = "Single adapter"
    summary: ClassVar[str] = "One adapter alone, chosen by name."

    name: str = setting("Adapter", "The one adapter to use.", "adapter")

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SettingsError("Adapter", expected="the name of an adapter", found=repr(self.name)[:40])

    @property
    def label(self) -> str:
        """In words."""
        return f"Only {self.name}"

    def fixed(self, names: tuple[str, ...]) -> list[float]:
        """One-hot."""
        return [float(name == self.name) for name in names]

    def check(self, names: tuple[str, ...]) -> None:
        """Raise SettingsError, with the names there are, if the adapter is not among `names`."""
        if self.name not in names:
            raise unknown_adapter(self.name, names)
