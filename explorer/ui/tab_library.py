"""The Library tab: map beside card, clusters with their silhouette, similarity, table, and another library's intake."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.adapters.sources import sample_names
from explorer.analysis.similarity import MEASURES
from explorer.ui.export_section import export_section
from explorer.ui.options import LIMITS
from explorer.ui.pictures import Updates
from explorer.ui.state import View


def library_tab(view: View, initial: Updates, *, allow_local: bool) -> dict[str, Any]:
    """Make the tab's parts, filled with `initial`."""
    parts = _intake(allow_local)
    with gr.Row(elem_classes=["lx-pair"]):
        with gr.Column(scale=3, min_width=320):
            parts["map"] = _plot(initial["map"], "map-plot")
            parts["legend"] = gr.HTML(initial["legend"], elem_id="legend")
            parts["sized"] = gr.Checkbox(
                view.sized, label="Point area = weight for this prompt", elem_id="sized", container=False
            )
            parts["map_note"] = gr.HTML(initial["map_note"])
        with gr.Column(scale=2, min_width=300):
            parts["card"] = gr.HTML(initial["card"], elem_id="adapter-card")
            with gr.Row():
                with gr.Column(min_width=200):
                    parts["spectrum"] = _plot(initial["spectrum"], "spectrum-plot")
                with gr.Column(min_width=200):
                    parts["layer_norms"] = _plot(initial["layer_norms"], "layer-plot")
    parts["glance"] = gr.HTML(initial["glance"], elem_id="glance")
    with gr.Row(elem_classes=["lx-pair"]):
        with gr.Column(scale=3, min_width=320):
            parts |= _cluster_controls(view, initial)
            parts["silhouette"] = _plot(initial["silhouette"], "silhouette-plot")
        with gr.Column(scale=2, min_width=300):
            parts["library_card"] = gr.HTML(initial["library_card"], elem_id="library-card")
    parts |= export_section()
    parts["heat"] = _plot(initial["heat"], "similarity-plot")
    parts["table"] = gr.Dataframe(
        initial["table"],
        label="All adapters",
        elem_id="adapters-table",
        interactive=False,
        max_height=340,
        show_search="search",
    )
    return parts


def _plot(value: Any, elem_id: str) -> gr.Plot:
    return gr.Plot(value, show_label=False, container=False, elem_id=elem_id)


def _cluster_controls(view: View, initial: Updates) -> dict[str, Any]:
    count = {key: value for key, value in initial["clusters"].items() if key != "__type__"}
    with gr.Row():
        measure = gr.Dropdown(
            list(MEASURES), value=view.measure, label="Similarity measure", elem_id="measure", min_width=140
        )
        sparsity = gr.Slider(
            0.0, 0.95, view.sparsity, step=0.05, label="Sparsity", visible=False, elem_id="sparsity", min_width=140
        )
        clusters = gr.Slider(
            1, step=1, label="Clusters K", elem_id="clusters", min_width=160, **{"maximum": 10, **count}
        )
        suggest = gr.Button("Suggested K", size="sm", scale=0, min_width=110, elem_id="suggest-k")
    return {"measure": measure, "sparsity": sparsity, "clusters": clusters, "suggest": suggest}


def _intake(allow_local: bool) -> dict[str, Any]:
    """Ways to another library; each ends in a report before anything is replaced."""
    with gr.Accordion("Open another library", open=False, elem_id="intake") as intake:
        with gr.Row():
            with gr.Column(min_width=260):
                upload = gr.File(label="Zip of PEFT adapter folders", elem_id="zip-upload", height=140, type="filepath")
            with gr.Column(min_width=260):
                places = "a folder of this machine or a Hub repository" if allow_local else "a Hub repository"
                source = gr.Textbox(
                    label="Sample, " + places,
                    placeholder="sample" + (", path/to/folder" if allow_local else "") + " or owner/name",
                    info=f"Samples: {', '.join(sample_names()) or 'none'}. A zip may be up to {LIMITS.upload.upper()}.",
                    elem_id="source",
                    max_length=4_096,
                )
                read = gr.Button("Read and report", elem_id="read-source")
        report = gr.HTML("", elem_id="report")
        with gr.Row(visible=False, elem_id="decide") as decide:
            accept = gr.Button("Open this library", variant="primary", elem_id="open-candidate")
            keep = gr.Button("Keep the current one", elem_id="keep-current")
    return {
        "intake": intake,
        "zip": upload,
        "source": source,
        "read": read,
        "report": report,
        "decide": decide,
        "accept": accept,
        "keep": keep,
    }
