"""The strip of tokens: each with the colour, the shape and the short name of the adapter that weighs most for it."""

from __future__ import annotations

from explorer.records.library_record import LibraryRecord
from explorer.routing.trace import RoutingTrace
from explorer.ui.html import count_text, short_name, text, visible
from explorer.ui.naming import cluster_of
from explorer.ui.palette import Mark, mark
from explorer.ui.traces_view import select_sites, top_adapter_per_token

EMPTY_STRIP = '<div class="lx-token-empty">No text was routed yet. Type a prompt and press Route.</div>'
_LIST_LABEL = "Tokens of the text, each with the adapter that weighs most; arrow keys move"


def strip_html(
    trace: RoutingTrace,
    record: LibraryRecord,
    selected: int | None = None,
    *,
    layer: int | None = None,
    module: str | None = None,
    show_template: bool = False,
) -> str:
    """The tokens of `trace` as a listbox; all text in it is escaped.

    Args:
        trace: what was routed.
        record: the library, for the colours.
        selected: index of the selected token.
        layer: count only the sites of this layer (None: all).
        module: count only these modules (None: all).
        show_template: show the tokens that the chat template added, dimmed; otherwise say how many are hidden.
    """
    top = top_adapter_per_token(trace, module, layer)
    sites = select_sites(trace, layer, module)
    labels = cluster_of(record)
    shown = [index for index in range(len(trace.tokens)) if show_template or trace.typed[index]]
    if not shown:
        shown = list(range(len(trace.tokens)))
    if not shown:
        return EMPTY_STRIP
    # One token can always be reached with the Tab key; the arrow keys do the rest.
    focusable = selected if selected in shown else shown[0]
    options = []
    for index in shown:
        best = int(top[index])
        name = trace.names[best] if best >= 0 else ""
        weight = float(trace.weights[sites, index, best].mean()) if best >= 0 else 0.0
        options.append(
            _option(trace, index, name, weight, mark(labels.get(name)), index == selected, index == focusable)
        )
    listbox = f'<div class="lx-token-list" role="listbox" aria-label="{_LIST_LABEL}">{"".join(options)}</div>'
    return f'<div class="lx-token-strip">{listbox}{_note(trace, len(shown))}</div>'


def _option(
    trace: RoutingTrace, index: int, name: str, weight: float, look: Mark, selected: bool, focusable: bool
) -> str:
    """One token. Its structure never varies, so that the page can update it in place and keep the focus on it."""
    generated = index >= trace.prompt_length
    kind = "generated" if generated else "typed" if trace.typed[index] else "template"
    token = text(visible(trace.tokens[index]))
    adapter = text(name) if name else "no adapter stands out"
    described = f"{token}, {kind}, {adapter}" + (f", mean weight {weight:.2f}" if name else "")
    short = text(short_name(name, 12)) if name else "–"
    colour = look.colour if name else "transparent"
    return (
        f'<span class="lx-token {kind}" role="option" id="token-{index}" data-token="{index}" '
        f'aria-selected="{"true" if selected else "false"}" tabindex="{0 if focusable else -1}" '
        f'aria-label="{described}" title="{described}" style="--mark:{colour}">'
        f'<span class="lx-token-text">{token}</span>'
        f'<span class="lx-token-top">{look.svg if name else ""}<span>{short}</span></span></span>'
    )


def _note(trace: RoutingTrace, shown: int) -> str:
    """What the strip leaves out and how generated tokens look."""
    hidden = len(trace.tokens) - shown
    generated = len(trace.tokens) - trace.prompt_length
    parts = []
    if hidden:
        parts.append(f"{count_text(hidden, 'token')} of the chat template hidden")
    if generated > 0:
        parts.append(f"{count_text(generated, 'generated token')}, in a dashed frame")
    return f'<div class="lx-token-note">{text("; ".join(parts))}</div>'
