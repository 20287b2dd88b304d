"""From what a page's controls hold to settings that the core accepts; every value may come from a hostile client."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from explorer.errors import PromptError, SettingsError
from explorer.models.base import BaseModel
from explorer.models.chat import encode_prompt
from explorer.routing.registry import ROUTERS, describe, make_router
from explorer.routing.router import Router
from explorer.ui.options import LIMITS
from explorer.ui.state import RouterChoice

#: One entry of the weights' text: anything up to a separator, those in double quotes do not count.
ENTRY = re.compile(r'(?:"[^"]*"|[^,;\n])+')
MOST_WEIGHTS = 1_000
LONGEST_WEIGHTS = 100_000


def choice_of(key: Any, values: Mapping[str, Any]) -> RouterChoice:
    """The router called `key` with those of `values` (by setting name) that it has."""
    if not isinstance(key, str) or key not in ROUTERS:
        raise SettingsError("Router", expected=" or ".join(ROUTERS), found=repr(key)[:40])
    known = {entry.name: entry for entry in describe(key).settings}
    taken = tuple((name, _as_kind(entry.kind, values[name])) for name, entry in known.items() if name in values)
    return RouterChoice(key, taken)


def router_of(choice: RouterChoice, names: Sequence[str]) -> Router:
    """The router itself, checked against the adapters that can be routed.

    Raises:
        SettingsError: a setting is out of its bounds or names an unknown adapter.
    """
    known = {entry.name: entry for entry in describe(choice.key).settings}
    settings = {
        name: parsed_weights(value) if known[name].kind == "weights" else value
        for name, value in choice.settings
        if name in known and not (known[name].default is not None and value in ("", None))
    }
    router = make_router(choice.key, **settings)
    router.check(tuple(names))
    return router


def _as_kind(kind: str, value: Any) -> Any:
    """A slider gives 4.0 for 4; nothing else is bent into shape."""
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def parsed_weights(value: Any) -> dict[str, float]:
    """`name = 0.5, "name, with a comma" = 0.25` as a mapping (a mapping is taken as it is).

    Raises:
        SettingsError: it is not of that form.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str) and len(value) > LONGEST_WEIGHTS:
        raise SettingsError("Weights", expected=f"at most {LONGEST_WEIGHTS:,} characters", found=f"{len(value):,}")
    entries = [part for part in ENTRY.findall(value) if part.strip()] if isinstance(value, str) else []
    pairs = dict(filter(None, map(_weight, entries[:MOST_WEIGHTS])))
    if not pairs or len(pairs) != len(entries):
        raise SettingsError("Weights", expected="adapter = number, adapter = number", found=repr(value)[:60])
    return pairs


def _weight(entry: str) -> tuple[str, float] | None:
    """One adapter's name and weight; the name may stand in double quotes, and may hold an equals sign."""
    name, _, number = entry.rpartition("=")
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1]
    try:
        weight = float(number)
    except ValueError:
        return None
    return (name, weight) if name and math.isfinite(weight) else None


def whole(value: Any, where: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`.

    Raises:
        SettingsError: it is anything else.
    """
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise SettingsError(where, expected=f"a whole number from {low} to {high}", found=repr(value)[:40])
    return number


def number(value: Any, where: str, low: float, high: float) -> float:
    """A finite number from `low` to `high` (raises as `whole`)."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not low <= value <= high:
        raise SettingsError(where, expected=f"a number from {low:g} to {high:g}", found=repr(value)[:40])
    return float(value)


def one_of(value: Any, where: str, allowed: Sequence[str]) -> str:
    """One of `allowed` (raises as `whole`)."""
    if not isinstance(value, str) or value not in allowed:
        menu = ", ".join(allowed[:12])
        raise SettingsError(where, expected=f"one of {menu}", found=repr(value)[:40])
    return value


def prompt_text(value: Any) -> str:
    """A prompt that is text of a bearable length.

    Raises:
        PromptError: it is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise PromptError("Prompt", "is empty", fix="Type a prompt first.")
    if len(value) > LIMITS.prompt_characters:
        most = f"at most {LIMITS.prompt_characters:,} characters"
        raise PromptError("Prompt", "is too long", expected=most, found=f"{len(value):,}", fix="Shorten it.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PromptError("Prompt", "is not valid text", fix="Type it again.") from None
    return value


def check_size(base: BaseModel, prompt: str, *, chat: bool, new_tokens: int, sites: int, adapters: int) -> None:
    """Refuse a prompt whose routing would be more than a page can hold.

    Raises:
        PromptError: too many tokens, or too much to record for a library of this size.
    """
    most = min(LIMITS.prompt_tokens, base.max_tokens)
    length = len(encode_prompt(base.tokenizer, prompt, chat=chat, max_tokens=most)) + new_tokens
    if length * sites * adapters > LIMITS.trace_numbers:
        room = max(LIMITS.trace_numbers // max(sites * adapters, 1), 1)
        expected = f"at most {room:,} tokens with a library of {adapters:,} adapters, new ones included"
        raise PromptError("Prompt", "is too long", expected=expected, found=f"{length:,}", fix="Shorten it.")


def token_range(value: Any, length: int) -> tuple[int | None, int | None]:
    """`3-8`, `3-`, `5` or nothing as first and last token, counted from 0.

    Raises:
        SettingsError: it is not of that form, or reaches beyond the text.
    """
    if value is None or value == "":
        return None, None
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*(?:(-)\s*([0-9]{0,6})\s*)?", value) if isinstance(value, str) else None
    first = int(match.group(1)) if match else -1
    last = (int(match.group(3)) if match.group(3) else length - 1 if match.group(2) else first) if match else -1
    if match is None or not 0 <= first <= last < length:
        raise SettingsError("Tokens", expected=f"for example 0-{max(length - 1, 0)}", found=repr(value)[:40])
    return first, last
