"""A view as an address: `?lib=sample&prompt=...&router=arrow&topk=4&tab=Routing&layer=12`, written and read back.

A router's settings are written as `set.<name>`, two of them by the short names `topk` and `temperature`. An address can
come from anybody. What it says is checked; what does not fit is left out and named in one sentence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from explorer.adapters.sources import REPOSITORY
from explorer.adapters.wording import clean_line, shown
from explorer.errors import ExplorerError, SettingsError
from explorer.routing.registry import ROUTERS, describe
from explorer.routing.setting import Setting
from explorer.ui.choices import number, one_of, parsed_weights, prompt_text, whole
from explorer.ui.controls import DEFAULT_ROUTER
from explorer.ui.state import TABS

MOST_LAYERS = 10_000
LONGEST_NAME = 200
SETTING = "set."
SHORT = {"topk": "top_k", "temperature": "temperature"}


@dataclass(frozen=True, kw_only=True)
class Link:
    """What an address may say; None where it says nothing.

    `settings` are those of `router` (Arrow where none is named), by name; `adapter` is the one on the card.
    """

    lib: str | None = None
    prompt: str | None = None
    router: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    chat: bool | None = None
    tab: str | None = None
    layer: int | None = None
    adapter: str | None = None


def query_of(link: Link) -> str:
    """The address's query, with its question mark; "" for a link that says nothing."""
    short = {name: given for given, name in SHORT.items()}
    said = {
        **{"lib": link.lib, "prompt": link.prompt, "router": link.router},
        **{short.get(name, SETTING + name): value for name, value in link.settings},
        **{"chat": link.chat, "tab": link.tab, "layer": link.layer, "adapter": link.adapter},
    }
    pairs = {name: _written(value) for name, value in said.items() if value is not None}
    return f"?{urlencode(pairs)}" if pairs else ""


def read_query(query: Mapping[str, str]) -> tuple[Link, tuple[str, ...]]:
    """What an address asks for, and the names of what in it does not fit."""
    readers: dict[str, Callable[[str], object]] = {
        "lib": _library,
        "prompt": prompt_text,
        "router": lambda value: one_of(value, "router", tuple(ROUTERS)),
        "chat": _flag,
        "tab": lambda value: one_of(value, "tab", TABS),
        "layer": lambda value: whole(_integer(value), "layer", 0, MOST_LAYERS),
        "adapter": _name,
    }
    said, refused = _read(query, readers)
    known = {entry.name: entry for entry in describe(str(said.get("router") or DEFAULT_ROUTER)).settings}
    asked = {name: text for name, text in query.items() if _setting_name(name)}
    settings, unfit = _read(asked, {name: _setting_reader(known.get(_setting_name(name))) for name in asked})
    named = tuple((_setting_name(name), value) for name, value in settings.items())
    return Link(**said, settings=named), (*refused, *unfit)


def left_out(refused: Sequence[str]) -> str:
    """One sentence on what a link says that does not fit, "" where all of it does."""
    if not refused:
        return ""
    names = " and ".join(shown(name, 40) for name in refused[:5]) + (" and more" if len(refused) > 5 else "")
    return f"The link's {names} could not be used and {'was' if len(refused) == 1 else 'were'} left out."


def _read(query: Mapping[str, str], readers: Mapping[str, Callable[[str], Any]]) -> tuple[dict[str, Any], list[str]]:
    said, refused = {}, []
    for name, read in readers.items():
        if name in query:
            try:
                said[name] = read(query[name])
            except ExplorerError:
                refused.append(name)
    return said, refused


def _setting_name(given: str) -> str:
    """The router's setting that a part of an address names, "" where it names none."""
    return SHORT.get(given) or (given.removeprefix(SETTING) if given.startswith(SETTING) else "")


def _setting_reader(entry: Setting | None) -> Callable[[str], Any]:
    """What reads a setting's text within its own bounds; the names of adapters are checked when a text is routed."""

    def refuse(text: str) -> Any:
        raise SettingsError("The router", "has no such setting")

    if entry is None:
        return refuse
    low = -math.inf if entry.low is None else entry.low
    high = math.inf if entry.high is None else entry.high
    readers: dict[str, Callable[[str], Any]] = {
        "integer": lambda text: int(number(_integer(text), entry.label, low, high)),
        "number": lambda text: number(_float(text), entry.label, low, high),
        "flag": _flag,
        "weights": _weights,
    }
    return readers.get(entry.kind, _name)


def _weights(text: str) -> str:
    parsed_weights(text)
    return text


def _library(text: str) -> str:
    """A sample, a repository, or the plain name of a folder or zip; never a path."""
    if not REPOSITORY.fullmatch(text) and ("/" in text or "\\" in text):
        raise SettingsError("lib", expected="the name of a library")
    return _name(text)


def _name(text: str) -> str:
    if not text or clean_line(text, LONGEST_NAME) != text:
        raise SettingsError("name", expected=f"a line of at most {LONGEST_NAME} characters")
    return text


def _flag(text: str) -> bool:
    return one_of(text, "flag", ("true", "false")) == "true"


def _integer(text: str) -> object:
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


def _float(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
