"""From what a visitor set on the page to a router; every value comes from a browser and is checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from explorer.errors import PromptError, SettingsError
from explorer.routing.registry import make_router
from explorer.routing.router import Router

MAX_CHARACTERS = 8000
#: Routers that the page offers, in the order of the menu.
CHOICES = (("Arrow", "arrow"), ("Uniform", "uniform"), ("One adapter", "single"), ("Base model", "base"))
_KEYS = frozenset(key for _, key in CHOICES)


def chosen_router(
    key: Any, *, top_k: Any = 4, temperature: Any = 1.0, unit_norm: Any = False, adapter: Any = None
) -> Router:
    """The router with its settings.

    Raises:
        SettingsError: an unknown router, or a setting that is missing or out of bounds.
    """
    if key not in _KEYS:
        raise SettingsError("Router", "is unknown", fix=f"Choose from: {', '.join(name for name, _ in CHOICES)}.")
    if key == "arrow":
        return make_router(
            "arrow",
            top_k=whole("Top k", top_k, 1, 10_000),
            temperature=number("Router temperature", temperature, 1e-4, 1e4),
            unit_norm=bool(unit_norm),
        )
    if key == "single":
        if not isinstance(adapter, str) or not adapter:
            raise SettingsError("Router 'One adapter'", "needs an adapter", fix="Choose one beside it.")
        return make_router("single", name=adapter)
    return make_router(key)


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number within bounds, or SettingsError."""
    checked = number(name, value, low, high)
    if checked != int(checked):
        raise SettingsError(name, expected=f"a whole number from {low} to {high}", found=f"{value!r}"[:40])
    return int(checked)


def number(name: str, value: Any, low: float, high: float) -> float:
    """A number within bounds, or SettingsError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingsError(name, expected=f"a number from {low:g} to {high:g}", found=f"{value!r}"[:40])
    if not low <= value <= high:
        raise SettingsError(name, expected=f"a number from {low:g} to {high:g}", found=f"{value:g}")
    return float(value)


def checked_prompt(value: Any) -> str:
    """The prompt, or PromptError where it is empty or far too long for a page."""
    if not isinstance(value, str) or not value.strip():
        raise PromptError("Prompt", "is empty", fix="Type one, or choose an example.")
    if len(value) > MAX_CHARACTERS:
        raise PromptError(
            "Prompt", "is too long", expected=f"at most {MAX_CHARACTERS} characters", found=f"{len(value)}"
        )
    return value


def one_of(value: Any, allowed: Sequence[Any]) -> Any:
    """`value` if it is allowed, else None."""
    return value if value in allowed else None
