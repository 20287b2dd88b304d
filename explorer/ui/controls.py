"""Controls for a router's settings, made from what each router says of itself: a new router brings its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from explorer.routing.registry import ROUTERS, describe
from explorer.routing.setting import Setting
from explorer.ui.choices import choice_of
from explorer.ui.html import text
from explorer.ui.pictures import Updates
from explorer.ui.state import RouterChoice

DEFAULT_ROUTER = "arrow"
#: Names of the parts that hold settings: which router, which setting.
SETTINGS: dict[str, tuple[str, Setting]] = {
    f"router_{key}_{entry.name}": (key, entry) for key in ROUTERS for entry in describe(key).settings
}
#: What every event that needs a router takes as its inputs.
CHOICE = ("router", *SETTINGS)


def router_menu() -> list[tuple[str, str]]:
    """Titles and keys of all routers."""
    return [(describe(key).title, key) for key in ROUTERS]


def router_controls(names: Sequence[str], best: str | None) -> dict[str, Any]:
    """The router's picker and the settings of all routers, of which only the chosen one's are shown."""
    picker = gr.Dropdown(
        router_menu(), value=DEFAULT_ROUTER, label="Router", elem_id="router", filterable=False, min_width=140
    )
    parts = {part: _control(key, entry, names, best) for part, (key, entry) in SETTINGS.items()}
    return {"router": picker, **parts}


def _control(key: str, entry: Setting, names: Sequence[str], best: str | None) -> Any:
    shared: dict[str, Any] = {
        "label": entry.label,
        "info": entry.help,
        "visible": key == DEFAULT_ROUTER,
        "elem_id": f"{key}-{entry.name}".replace("_", "-"),
        "min_width": 150,
    }
    if entry.kind == "integer":
        return gr.Number(value=entry.default, precision=0, **shared)
    if entry.kind == "number":
        return gr.Number(value=entry.default, step=0.05, **shared)
    if entry.kind == "flag":
        return gr.Checkbox(value=bool(entry.default), **shared)
    if entry.kind == "adapter":
        return gr.Dropdown(list(names), value=best, **shared)
    return gr.Textbox(placeholder='adapter = 0.5, "a, b" = 0.5', **shared)


def router_note(key: str) -> str:
    """What the chosen router does, what it needs, and where it was described."""
    about = describe(key)
    needs = f" Needs {about.needs}." if about.needs else ""
    source = f' <a href="{about.paper}" target="_blank" rel="noopener">Paper</a>' if about.paper else ""
    return f'<p class="lx-quiet lx-router-note">{text(about.summary + needs)}{source}</p>'


def shown_settings(key: str) -> Updates:
    """Only the settings of the router called `key` are to be seen."""
    return {part: gr.update(visible=owner == key) for part, (owner, _) in SETTINGS.items()}


def choice_beside(key: Any, adapter: Any, values: Sequence[Any]) -> RouterChoice:
    """A router chosen outside the Routing tab: with that tab's settings, a single adapter by the name beside it.

    Args:
        key: the router's.
        adapter: the single adapter's name.
        values: those of all :data:`SETTINGS`.

    Raises:
        SettingsError: there is no such router, or a value is not of its kind.
    """
    own = {entry.name: value for (owner, entry), value in zip(SETTINGS.values(), values, strict=True) if owner == key}
    return choice_of(key, own if key != "single" else {"name": adapter})


def read_choice(key: Any, values: Sequence[Any]) -> RouterChoice:
    """The router chosen, from the values of :data:`CHOICE` (raises SettingsError)."""
    own = {entry.name: value for (owner, entry), value in zip(SETTINGS.values(), values, strict=True) if owner == key}
    return choice_of(key, own)
