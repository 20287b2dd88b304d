"""What people pick in a figure or in the strip, brought to Python.

Gradio's plot has no click event, and clicks inside an HTML block carry no data. So one hidden HTML block stands in for
both: page.js watches the page and hands it what was picked, and the block triggers an event of that name:

    picks = page_bridge()
    picks.pick(show_card, ...)       # a point of the map, or anything with data-adapter
    picks.lasso(highlight, ...)      # a box, a lasso, or a cluster in the legend
    picks.token(show_token, ...)     # a token of the strip, by click or arrow key
    picks.cell(show_cell, ...)       # a cell of the routing overview

Each handler takes `evt: gr.EventData`. Its data is written by the browser, so it is hostile: read it with the functions
below only, which return nothing that is not known already.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeGuard

import gradio as gr

MAP_ID = "map-plot"
OVERVIEW_ID = "overview-plot"

# The event names must stand here in quotes: gradio allows a listener only for names that it finds in this text.
_CONNECT = """
if (window.explorerPage) {
  window.explorerPage.connect(element, {
    pick: (data) => trigger('pick', data),
    lasso: (data) => trigger('lasso', data),
    token: (data) => trigger('token', data),
    cell: (data) => trigger('cell', data),
  });
}
"""


def page_bridge() -> gr.HTML:
    """The hidden block; make one in each page, and give the page :func:`explorer.ui.theme.head`."""
    return gr.HTML(value="", js_on_load=_CONNECT, visible="hidden", elem_id="page-bridge")


def picked_name(evt: gr.EventData, allowed: Collection[str]) -> str | None:
    """The adapter that was picked, None unless it is one of `allowed`."""
    return _known(_data(evt).get("name"), allowed)


def picked_names(
    evt: gr.EventData, allowed: Collection[str], clusters: Mapping[int, Collection[str]] | None = None
) -> frozenset[str] | None:
    """The adapters in the box or lasso, or in the cluster whose legend entry was pressed.

    Args:
        evt: the event.
        allowed: names of the library.
        clusters: members of each cluster by label (:func:`explorer.ui.naming.members`).

    Returns:
        Some of `allowed`; None where none of them was meant, which is to say "show all again".
    """
    data = _data(evt)
    label, names = data.get("cluster"), data.get("names")
    if _is_index(label):
        names = list((clusters or {}).get(label, ()))
    if not isinstance(names, list):
        return None
    return frozenset(name for name in names if _known(name, allowed) is not None) or None


def picked_token(evt: gr.EventData, length: int) -> int | None:
    """The index of the token that was picked, None unless it is below `length`."""
    index = _data(evt).get("index")
    return index if _is_index(index) and index < length else None


def picked_cell(evt: gr.EventData, layers: Collection[int], allowed: Collection[str]) -> tuple[int | None, str] | None:
    """Layer (None outside the layers) and adapter of the cell that was picked, None unless both are known."""
    data = _data(evt)
    layer, name = data.get("layer"), _known(data.get("name"), allowed)
    if name is None or not (layer is None or (_is_index(layer) and layer in layers)):
        return None
    return layer, name


def _data(evt: gr.EventData) -> Mapping[str, object]:
    """What the browser sent, or nothing if it is not even an object."""
    return evt._data if isinstance(evt._data, dict) else {}


def _known(name: object, allowed: Collection[str]) -> str | None:
    return name if isinstance(name, str) and name in allowed else None


def _is_index(value: object) -> TypeGuard[int]:
    """Whether `value` is a whole number from 0 on (JSON's true is none)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
