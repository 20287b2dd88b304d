"""The first line of the page, and what its buttons say while the model is on its way."""

from __future__ import annotations

from explorer.ui.engine import ModelState
from explorer.ui.html import count_text, shortened, text
from explorer.ui.state import View

_WORDS = {"none": "not loaded", "loading": "loading", "ready": "ready", "failed": "not available"}


def header_html(view: View, model: ModelState) -> str:
    """Title, library, base model with its state and its device."""
    record = view.record
    title = f"{shortened(record.title, 48)}, {count_text(len(record.names), 'adapter')}" if record else "none open"
    base = shortened(record.base_model.rpartition("/")[2], 40) if record and record.base_model else "not named"
    state = model.text if model.kind == "ready" else _WORDS[model.kind]
    return (
        '<div class="lx-head"><h1>LoRA library explorer</h1>'
        f'<span class="lx-chip" id="library-chip">library <b>{text(title)}</b></span>'
        f'<span class="lx-chip" id="base-chip">base model <b>{text(base)}</b></span>'
        f'<span class="lx-chip model-{model.kind}" id="model-chip" title="{text(model.text)}">{text(state)}</span>'
        "</div>"
    )


def button_words(words: str, model: ModelState) -> str:
    """`Route`, or `Route (model loading)`: pressing it then waits for the model."""
    return f"{words} (model loading)" if model.kind in ("loading", "none") else words
