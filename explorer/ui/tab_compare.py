"""The Compare tab: up to four columns, a router on top of each, one prompt and one seed for all."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.ui.compare_acts import DEFAULTS, NONE
from explorer.ui.controls import router_menu
from explorer.ui.engine import ModelState
from explorer.ui.header import button_words
from explorer.ui.options import LIMITS
from explorer.ui.pictures import COLUMN_PARTS, Updates, routable
from explorer.ui.state import View
from explorer.ui.tab_routing import sampling_controls

NOTE = (
    '<p class="lx-quiet">All columns answer the prompt above in one batch, with one seed. '
    "Routers take their settings from the Routing tab.</p>"
)


def compare_tab(view: View, model: ModelState, initial: Updates) -> dict[str, Any]:
    """Make the tab's parts, filled with `initial`."""
    with gr.Row(elem_classes=["lx-controls"], equal_height=True):
        with gr.Column(scale=3, min_width=300):
            parts = sampling_controls("compare")
        with gr.Column(scale=3, min_width=240):
            parts["reference"] = gr.Textbox(
                label="Reference answer (optional)",
                placeholder="Its log-likelihood is shown for each column",
                elem_id="reference",
                max_length=LIMITS.prompt_characters,
                lines=1,
            )
        with gr.Column(scale=1, min_width=150):
            parts["compare"] = gr.Button(button_words("Compare", model), variant="primary", elem_id="compare-button")
            parts["stop_compare"] = gr.Button("Stop all", elem_id="stop-compare")
    gr.HTML(NOTE)
    names = routable(view.record)
    with gr.Row(elem_id="columns"):
        for index in range(LIMITS.columns):
            with gr.Column(min_width=220):
                parts |= _column(index, names, view, initial)
    return parts


def _column(index: int, names: tuple[str, ...], view: View, initial: Updates) -> dict[str, Any]:
    best = view.selected if view.selected in names else (names[0] if names else None)
    return {
        f"column_router_{index}": gr.Dropdown(
            [*router_menu(), ("No router", NONE)],
            value=DEFAULTS[index],
            label=f"Column {index + 1}",
            elem_id=f"column-router-{index}",
            filterable=False,
        ),
        f"adapter_{index}": gr.Dropdown(
            list(names),
            value=best,
            label="Adapter",
            visible=DEFAULTS[index] == "single",
            elem_id=f"column-adapter-{index}",
        ),
        COLUMN_PARTS[index]: gr.HTML(initial[COLUMN_PARTS[index]], elem_id=f"column-{index}"),
    }
