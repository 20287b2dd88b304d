"""The page's shell: what stands above the tabs, on every tab the same."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from explorer.ui.engine import ModelState
from explorer.ui.header import button_words, header_html
from explorer.ui.options import LIMITS
from explorer.ui.pictures import Updates
from explorer.ui.state import View

EXAMPLES = (
    "What is 312 plus 459?",
    "Put into the past tense: She writes a letter.",
    "Write in Pig Latin: good morning",
    "Is this review good or bad? The soup was cold and the waiter rude.",
    "Ask a question about this: Plants turn sunlight into sugar.",
    "Sort these words: pear, apple, fig, cherry",
)

#: Puts the address of the view into the address bar and, where the browser lets it, on the clipboard. Where there is
#: no address, the status line says why and stays.
COPY = """
async (query, status) => {
  if (!query) return [status];
  const url = location.origin + location.pathname + query;
  history.replaceState(null, "", url);
  let words = "The link stands in the address bar and was copied.";
  try { await navigator.clipboard.writeText(url); } catch { words = "The link stands in the address bar."; }
  const sign = '<span class="lx-sign" aria-hidden="true">✓</span>';
  return [`<div class="lx-status ok" role="status">${sign}<span>${words}</span></div>`];
}
"""


def shell(view: View, model: ModelState, initial: Updates, first_words: str) -> dict[str, Any]:
    """Header, prompt, buttons, examples, status line and strip."""
    with gr.Row(elem_id="head-row"):
        header = gr.HTML(header_html(view, model), elem_id="header")
        copy = gr.Button("Copy link", size="sm", elem_id="copy-link", scale=0, min_width=90)
    with gr.Row(elem_id="prompt-row"):
        prompt = gr.Textbox(
            value=view.routed.prompt if view.routed is not None else "",
            label="Prompt",
            placeholder="Type a prompt; Ctrl+Enter routes it",
            lines=2,
            max_lines=8,
            max_length=LIMITS.prompt_characters,
            elem_id="prompt",
            scale=8,
            min_width=260,
        )
        with gr.Column(scale=2, min_width=200, elem_id="run-column"), gr.Row(elem_id="run-row"):
            route = gr.Button(button_words("Route", model), variant="primary", elem_id="route-button", min_width=70)
            generate = gr.Button(button_words("Generate", model), elem_id="generate-button", min_width=70)
            stop = gr.Button("Stop", elem_id="stop-button", min_width=60)
    _examples(prompt)
    status = gr.HTML(first_words, elem_id="status")
    strip = gr.HTML(initial["strip"], elem_id="strip")
    return {
        "header": header,
        "copy": copy,
        "prompt": prompt,
        "route": route,
        "generate": generate,
        "stop": stop,
        "status": status,
        "strip": strip,
        "address": gr.Textbox(visible="hidden", elem_id="address"),
        "link": gr.Textbox(visible="hidden", elem_id="link"),
        "timer": gr.Timer(1.0, active=True),
    }


def _examples(prompt: gr.Textbox) -> None:
    """Six prompts to start from; they are put in by the browser alone."""
    with gr.Row(elem_id="examples-row"):
        for example in EXAMPLES:
            button = gr.Button(example, size="sm", elem_classes=["lx-example"], min_width=60, scale=0)
            button.click(None, None, prompt, js=f"() => {json.dumps(example)}", show_progress="hidden")
