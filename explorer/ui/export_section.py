"""The Library tab's Export section: what, at which rank, and the zip once it is made.

The status line may be out of sight down here, so what it says of an export stands below the controls, too.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

ROUTER, CLUSTERS, ARROW = "router", "clusters", "arrow"
#: What can be exported, in words and by its key.
WAYS = (
    ("Mean of each cluster", CLUSTERS),
    ("Router set in Routing", ROUTER),
    ("Folder for PEFT's Arrow", ARROW),
)
NOTE = (
    '<p class="lx-quiet">Means and fixed routers (single, uniform, weighted, linear, TIES) become adapters that PEFT '
    "loads and that give the same logits. The card inside says how much of the update a rank leaves.</p>"
)


def export_section() -> dict[str, Any]:
    """Make the section's parts."""
    with gr.Accordion("Export for PEFT", open=False, elem_id="export"):
        with gr.Row(equal_height=True):
            what = gr.Dropdown(
                list(WAYS),
                value=CLUSTERS,
                label="What",
                elem_id="export-what",
                filterable=False,
                scale=3,
                min_width=200,
            )
            rank = gr.Number(0, precision=0, label="Rank (0: all)", elem_id="export-rank", scale=1, min_width=110)
            with gr.Column(scale=2, min_width=200):
                make = gr.Button("Make the zip", elem_id="export-make")
                download = gr.DownloadButton(
                    "Download", visible=False, variant="primary", size="sm", elem_id="export-download"
                )
        note = gr.HTML(NOTE, elem_id="export-note")
    return {
        "export_what": what,
        "export_rank": rank,
        "export_make": make,
        "export_file": download,
        "export_note": note,
    }
