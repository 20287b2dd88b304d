"""What stands above the tabs: the header, the prompt with its buttons, the status line."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from explorer.records.library_record import LibraryRecord
from explorer.ui.answers import status_html
from explorer.ui.html import count_text, text

#: Short prompts of our own, one for each kind of task that the sample library knows.
EXAMPLES = (
    "What is 364 plus 257?",
    "Complete the sentence with the past tense of the verb.\nToday I swim. Yesterday I",
    "Translate English into Pig Latin.\n(English) The small dog sleeps.\n (Pig Latin)",
    "Negate the sentence.\nthe farmers have sold the horses",
    "This is a set of concepts: boat fisherman lake morning\nThis is a sentence that uses the concepts:",
    "Write a correct answer to the given question based on the associated fact.\n"
    "Fact: Bees carry pollen from flower to flower. \nQuestion: What carries pollen between flowers?",
)
ANALYTICS_OFF = {"api_visibility": "private"}


@dataclass(frozen=True, eq=False)
class Shell:
    """The components above the tabs."""

    header: gr.HTML
    prompt: gr.Textbox
    chat: gr.Checkbox
    route: gr.Button
    generate: gr.Button
    stop: gr.Button
    status: gr.HTML
    link: gr.Button


def build_shell(prompt: str, record: LibraryRecord | None, words: str) -> Shell:
    """Lay the shell out; `words` is the first status line."""
    with gr.Row(equal_height=True, elem_classes="lx-head"):
        header = gr.HTML(header_html(record, "not loaded"), elem_id="header", padding=False)
        link = gr.Button("Copy link", size="sm", scale=0, min_width=96, elem_id="copy-link")
    with gr.Row(equal_height=False, elem_classes="lx-prompt-row"):
        box = gr.Textbox(
            prompt, label="Prompt", lines=2, max_lines=8, scale=8, min_width=280, elem_id="prompt", autofocus=False
        )
        with gr.Column(scale=3, min_width=260, elem_classes="lx-actions"):
            with gr.Row():
                route = gr.Button("Route", variant="primary", min_width=70, elem_id="route-button")
                generate = gr.Button("Generate", min_width=80, elem_id="generate-button")
                stop = gr.Button("Stop", variant="stop", min_width=60, elem_id="stop-button")
            chat = gr.Checkbox(True, label="Chat template", container=False, elem_id="chat")
    gr.Examples(
        [[example] for example in EXAMPLES],
        inputs=[box],
        label="Examples",
        example_labels=[_label(example) for example in EXAMPLES],
        api_visibility="private",
    )
    status = gr.HTML(status_html("ok", words), elem_id="status", padding=False)
    return Shell(header, box, chat, route, generate, stop, status, link)


def header_html(record: LibraryRecord | None, model: str) -> str:
    """Title, library, base model and where it stands."""
    chips = []
    if record is not None:
        chips.append(f"<span><b>{text(record.title)}</b>, {count_text(len(record.adapters), 'adapter')}</span>")
        short = record.base_model.rpartition("/")[2] or "none named"
        chips.append(f'<span title="{text(record.base_model)}">base {text(short)} · {text(model)}</span>')
    else:
        chips.append("<span>no library open</span>")
    return f'<div class="lx-header"><h1>LoRA library explorer</h1>{"".join(chips)}</div>'


def _label(example: str) -> str:
    line = example.splitlines()[0]
    return line if len(line) <= 44 else line[:41].rstrip() + "..."
