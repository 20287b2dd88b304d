"""The Evaluate tab: a user's own file, the table of methods by tasks, its charts, the transfer matrix."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.ui.controls import router_menu
from explorer.ui.engine import ModelState
from explorer.ui.evaluate_file_acts import DEFAULTS
from explorer.ui.header import button_words
from explorer.ui.options import LIMITS
from explorer.ui.pictures import Updates, routable
from explorer.ui.state import View

HELP = (
    '<p class="lx-quiet">A CSV with a header, or JSON lines: <code>prompt</code>, <code>target</code> and, if you '
    "like, <code>task</code> and <code>refs</code> (further good answers). "
    f"At most {LIMITS.file_rows:,} rows and {LIMITS.file_bytes >> 20} MB; it stays on this server until your page is "
    "closed. Routers take their settings, and the chat template, from the Routing tab.</p>"
)
TITLES = {
    "scores_means": "Mean of each method, with one standard error",
    "scores_share": "Routing weight on each task's own adapter or cluster, by layer",
}


def evaluate_tab(view: View, model: ModelState, initial: Updates) -> dict[str, Any]:
    """Make the tab's parts, filled with `initial`."""
    parts = _own_file(view, model, initial)
    parts["scores_head"] = gr.HTML(initial["scores_head"], elem_id="scores-head")
    with gr.Column(elem_id="scores-views", **_props(initial["scores_views"])) as views:
        parts |= _controls(initial)
        parts["scores_table"] = gr.HTML(initial["scores_table"], elem_id="scores-table")
        with gr.Row(elem_classes=["lx-pair"]):
            for name, title in TITLES.items():
                with gr.Column(min_width=300):
                    gr.HTML(f'<h4 class="lx-view-title">{title}</h4>')
                    parts[name] = _plot(initial[name], name.replace("_", "-"))
        with gr.Column(elem_id="transfer-section", **_props(initial["transfer_section"])) as section:
            parts |= _transfer(view, initial)
        parts["scores_details"] = gr.HTML(initial["scores_details"], elem_id="scores-details")
    return {
        **parts,
        "scores_views": views,
        "transfer_section": section,
        "scores_file_name": gr.Textbox(visible="hidden", elem_id="scores-file-name"),
        "scores_file_text": gr.Textbox(visible="hidden", elem_id="scores-file-text"),
    }


def _controls(initial: Updates) -> dict[str, Any]:
    """Whose results, which measure, which tasks; and the downloads."""
    with gr.Row(elem_classes=["lx-controls"], elem_id="scores-controls"):
        parts = {
            name: gr.Radio(label=label, elem_id=name.replace("_", "-"), min_width=200, **_props(initial[name]))
            for name, label in (
                ("scores_shown", "Results"),
                ("scores_measure", "Measure"),
                ("scores_part", "Tasks with a column"),
            )
        }
        with gr.Column(min_width=130, scale=0, elem_id="scores-downloads"):
            parts["scores_csv"] = gr.Button("Table as CSV", size="sm", elem_id="scores-csv")
            parts["scores_json"] = gr.Button("All as JSON", size="sm", elem_id="scores-json")
    return parts


def _transfer(view: View, initial: Updates) -> dict[str, Any]:
    gr.HTML('<h4 class="lx-view-title">Transfer: each task under each adapter</h4>')
    return {
        "transfer_note": gr.HTML(initial["transfer_note"], elem_id="transfer-note"),
        "transfer_as_loss": gr.Checkbox(
            view.evaluation.as_loss,
            label="Show the losses themselves, not their difference to the base model's",
            elem_id="transfer-as-loss",
            container=False,
        ),
        "transfer": _plot(initial["transfer"], "transfer-plot"),
    }


def _own_file(view: View, model: ModelState, initial: Updates) -> dict[str, Any]:
    """Upload, routers, and what came of the file's rows."""
    names = routable(view.record)
    with gr.Accordion("Evaluate a file of your own", open=False, elem_id="own-file"):
        gr.HTML(HELP)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=260):
                upload = gr.File(
                    label="CSV or JSONL",
                    file_types=[".csv", ".tsv", ".jsonl", ".ndjson"],
                    type="filepath",
                    height=120,
                    elem_id="scores-upload",
                )
                report = gr.HTML(initial["scores_file"], elem_id="scores-file")
            with gr.Column(scale=3, min_width=300):
                routers = gr.CheckboxGroup(
                    router_menu(), value=list(DEFAULTS), label="Routers", elem_id="evaluate-routers"
                )
                adapter = gr.Dropdown(
                    list(names),
                    value=view.selected if view.selected in names else next(iter(names), None),
                    label="Single adapter",
                    visible=False,
                    elem_id="evaluate-adapter",
                )
                parts = _settings()
                with gr.Row():
                    start = gr.Button(button_words("Evaluate", model), variant="primary", elem_id="evaluate-button")
                    stop = gr.Button("Stop", elem_id="stop-evaluate")
    return {
        **parts,
        "scores_upload": upload,
        "scores_file": report,
        "evaluate_routers": routers,
        "evaluate_adapter": adapter,
        "evaluate": start,
        "stop_evaluate": stop,
    }


def _settings() -> dict[str, Any]:
    with gr.Row():
        return {
            "evaluate_rows": gr.Number(
                32, label="Rows of each task", precision=0, elem_id="evaluate-rows", min_width=110
            ),
            "evaluate_tokens": gr.Number(
                32,
                label=f"Longest answer (up to {LIMITS.new_tokens})",
                precision=0,
                elem_id="evaluate-tokens",
                min_width=110,
            ),
            "evaluate_answers": gr.Checkbox(
                True,
                label="Write answers",
                info="Off: only the loss, faster.",
                elem_id="evaluate-answers",
                min_width=150,
            ),
        }


def _plot(value: Any, elem_id: str) -> gr.Plot:
    return gr.Plot(value, show_label=False, container=False, elem_id=elem_id)


def _props(update: Any) -> dict[str, Any]:
    """An update as a component's settings."""
    return {key: value for key, value in update.items() if key != "__type__"}
