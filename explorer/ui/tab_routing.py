"""The Routing tab: router and settings, the answer, overview beside detail, entropy beside shares."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.ui.controls import DEFAULT_ROUTER, router_controls, router_note
from explorer.ui.options import LIMITS
from explorer.ui.pictures import ALL, Updates, routable
from explorer.ui.state import View

TITLES = {
    "overview": "Mean weight of each adapter in each layer",
    "detail": "The selected token: raw scores, and the weights of those kept",
    "entropy": "How many adapters share the work",
    "share": "Share of all weight, by cluster and by adapter",
}


def routing_tab(view: View, initial: Updates) -> dict[str, Any]:
    """Make the tab's parts, filled with `initial`."""
    names = routable(view.record)
    best = view.selected if view.selected in names else (names[0] if names else None)
    with gr.Row(elem_classes=["lx-controls"]):
        parts = router_controls(names, best)
        parts["chat"] = gr.Checkbox(
            True if view.routed is None else view.routed.chat,
            label="Chat template",
            info="Off: the plain text.",
            elem_id="chat",
            min_width=130,
        )
    parts["router_note"] = gr.HTML(router_note(DEFAULT_ROUTER), elem_id="router-note")
    with gr.Row(elem_classes=["lx-pair"]):
        with gr.Column(scale=3, min_width=300):
            parts["answer"] = gr.HTML(initial["answer"], elem_id="answer")
        with gr.Column(scale=2, min_width=300):
            parts |= sampling_controls("generate")
    with gr.Row(elem_classes=["lx-controls"]):
        parts |= _looking(view, initial)
    parts["routed_note"] = gr.HTML(initial["routed_note"])
    with gr.Column(elem_id="routing-views") as views:
        _views(parts, initial)
    parts["views"] = views
    return parts


def sampling_controls(prefix: str) -> dict[str, Any]:
    """How much to generate, and how."""
    with gr.Row():
        return {
            f"{prefix}_tokens": gr.Number(
                48, label=f"Tokens (up to {LIMITS.new_tokens})", precision=0, elem_id=f"{prefix}-tokens", min_width=90
            ),
            f"{prefix}_temperature": gr.Number(
                0.0, label="Sampling (0: greedy)", elem_id=f"{prefix}-temperature", min_width=90, step=0.1
            ),
            f"{prefix}_seed": gr.Number(0, label="Seed", precision=0, elem_id=f"{prefix}-seed", min_width=90),
        }


def _looking(view: View, initial: Updates) -> dict[str, Any]:
    """What the views look at."""
    layer, module, tokens = (_props(initial.get(name)) for name in ("layer", "module", "range"))
    return {
        "layer": gr.Dropdown(label="Layer", elem_id="layer", min_width=90, **{"choices": [ALL], "value": ALL, **layer}),
        "module": gr.Dropdown(
            label="Module", elem_id="module", min_width=120, **{"choices": [ALL], "value": ALL, **module}
        ),
        "range": gr.Textbox(label="Tokens to look at", elem_id="token-range", min_width=120, max_lines=1, **tokens),
        "template": gr.Checkbox(
            view.show_template, label="Show the template's tokens", elem_id="show-template", min_width=170
        ),
    }


def _props(update: Any) -> dict[str, Any]:
    """An update as a component's settings."""
    return {key: value for key, value in update.items() if key != "__type__"} if isinstance(update, dict) else {}


def _views(parts: dict[str, Any], initial: Updates) -> None:
    """Overview above entropy; beside them the detail of one token above the shares of all."""
    with gr.Row(elem_classes=["lx-pair"]):
        for scale, names in ((3, ("overview", "entropy")), (2, ("detail", "share"))):
            with gr.Column(scale=scale, min_width=300):
                for name in names:
                    gr.HTML(f'<h4 class="lx-view-title">{TITLES[name]}</h4>')
                    parts[name] = gr.Plot(initial[name], show_label=False, container=False, elem_id=f"{name}-plot")
