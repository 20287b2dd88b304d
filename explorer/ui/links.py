"""A view as an address: `?lib=sample&prompt=...&router=arrow&topk=4&tab=Routing&layer=12`, written and read back.

An address can come from anybody. What it says is checked; what does not fit is left out and named in one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlencode

from explorer.adapters.sources import sample_names
from explorer.errors import ExplorerError
from explorer.routing.registry import ROUTERS
from explorer.ui.choices import number, one_of, prompt_text, whole
from explorer.ui.state import TABS

MOST_LAYERS = 10_000


@dataclass(frozen=True, kw_only=True)
class Link:
    """What an address may say; None where it says nothing."""

    lib: str | None = None
    prompt: str | None = None
    router: str | None = None
    topk: int | None = None
    temperature: float | None = None
    tab: str | None = None
    layer: int | None = None
    adapter: str | None = None


def query_of(link: Link) -> str:
    """The address's query, with its question mark; "" for a link that says nothing."""
    said = {entry.name: getattr(link, entry.name) for entry in fields(Link)}
    pairs = {
        name: f"{value:g}" if isinstance(value, float) else value for name, value in said.items() if value is not None
    }
    return f"?{urlencode(pairs)}" if pairs else ""


def read_query(query: Mapping[str, str]) -> tuple[Link, str]:
    """What an address asks for, and one sentence on what in it was left out ("" where nothing was)."""
    readers: dict[str, Callable[[str], object]] = {
        "lib": lambda value: one_of(value, "lib", ("sample", *sample_names())),
        "prompt": prompt_text,
        "router": lambda value: one_of(value, "router", tuple(ROUTERS)),
        "topk": lambda value: whole(_integer(value), "topk", 1, 10_000),
        "temperature": lambda value: number(_float(value), "temperature", 1e-6, 1e6),
        "tab": lambda value: one_of(value, "tab", TABS),
        "layer": lambda value: whole(_integer(value), "layer", 0, MOST_LAYERS),
        "adapter": lambda value: value[:200],
    }
    said, refused = {}, []
    for name, read in readers.items():
        if name not in query:
            continue
        try:
            said[name] = read(query[name])
        except ExplorerError:
            refused.append(name)
    sentence = (
        f"The link's {' and '.join(refused)} could not be used and {'was' if len(refused) == 1 else 'were'} left out."
    )
    return Link(**said), sentence if refused else ""  # type: ignore[arg-type]


def _integer(text: str) -> object:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text


def _float(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text
