"""A router's settings describe themselves: label, bounds and help travel with the field.

The page and the command line build their controls from this, and the same bounds are checked when a router is made.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from explorer.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a router.

    Attributes:
        name: the field, as `make_router` takes it.
        label: what a page calls it.
        help: one sentence.
        kind: "integer", "number", "flag", "adapter" (a name) or "weights" (a number for each name).
        default: None where the user has to choose.
        low, high: inclusive bounds of a number.
    """

    name: str
    label: str
    help: str
    kind: str
    default: Any = None
    low: float | None = None
    high: float | None = None


def setting(label: str, help_text: str, kind: str, *, hashed: bool = True, **known: Any) -> Any:
    """A dataclass field that knows its :class:`Setting`.

    Args:
        label: what a page calls it.
        help_text: one sentence.
        kind: as in :class:`Setting`.
        hashed: false for a field whose values cannot be hashed.
        known: default, low and high, as far as there are any.
    """
    about = {"label": label, "help": help_text, "kind": kind, **known}
    default = known.get("default", MISSING)
    return field(default=default, hash=None if hashed else False, metadata=about)


def settings_of(router_class: Any) -> tuple[Setting, ...]:
    """The settings of one router class, in order."""
    return tuple(Setting(name=entry.name, **entry.metadata) for entry in fields(router_class) if entry.metadata)


def check_settings(router: Any) -> None:
    """Check a router's numbers and flags against what their fields say.

    Raises:
        SettingsError: a value is of the wrong kind, not finite or out of its bounds.
    """
    for about in settings_of(type(router)):
        value = getattr(router, about.name)
        if about.kind == "flag" and not isinstance(value, bool):
            raise SettingsError(about.label, expected="true or false", found=repr(value)[:40])
        if about.kind in ("integer", "number") and not _fits(about, value):
            kind = "a whole number" if about.kind == "integer" else "a number"
            bounds = f"{kind} from {about.low:g} to {about.high:g}"
            raise SettingsError(about.label, expected=bounds, found=repr(value)[:40])


def _fits(about: Setting, value: Any) -> bool:
    allowed = int if about.kind == "integer" else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        return False
    return about.low is not None and about.high is not None and about.low <= value <= about.high


def top_k_setting(default: int = 4, label: str = "Top k", help_text: str = "How many adapters share a token.") -> Any:
    """How many adapters are kept."""
    return setting(label, help_text, "integer", default=default, low=1, high=10_000)


def temperature_setting(default: float = 1.0) -> Any:
    """Temperature of a softmax over scores."""
    help_text = "Below 1 sharpens the weights, above 1 evens them."
    return setting("Temperature T", help_text, "number", default=default, low=1e-6, high=1e6)


def per_prompt_setting() -> Any:
    """One decision for a whole prompt."""
    help_text = "One decision for each module from the prompt's mean scores, kept while generating."
    return setting("Per prompt", help_text, "flag", default=False)


def factors_setting() -> Any:
    """The paper code's way of mixing."""
    help_text = "Mix A and B before multiplying, as the paper's own code does; needs equal ranks."
    return setting("Average factors", help_text, "flag", default=False)
