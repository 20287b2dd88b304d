"""What the page says while it works: the status line, the report on a library, and the columns of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from explorer.adapters.adapter import Status, Verdict
from explorer.ui.html import count_text, remarks_html, text

StatusKind = Literal["ok", "busy", "error", "stale"]
ColumnState = Literal["empty", "waiting", "running", "done", "stopped", "failed"]

_STATUS_SIGNS = {"ok": "✓", "busy": "…", "error": "!", "stale": "↻"}
_STATE_WORDS = {
    "empty": "No answer yet",
    "waiting": "Waiting",
    "running": "Writing …",
    "done": "Done",
    "stopped": "Stopped",
    "failed": "Failed",
}
_VERDICT_CLASSES = {Status.ACCEPTED: "good", Status.MAP_ONLY: "warn", Status.REFUSED: "bad"}


def status_html(kind: StatusKind, words: str) -> str:
    """The status line; an error is announced at once by a screen reader, the rest when it has time."""
    role = "alert" if kind == "error" else "status"
    return (
        f'<div class="lx-status {kind}" role="{role}">'
        f'<span class="lx-sign" aria-hidden="true">{_STATUS_SIGNS[kind]}</span><span>{text(words)}</span></div>'
    )


def report_html(verdicts: Sequence[Verdict], title: str, source: str, remarks: Sequence[str] = ()) -> str:
    """The verdict on each adapter that was found, with the reason; the refused ones first. Remarks stand above."""
    counts = Counter(verdict.status for verdict in verdicts)
    summary = ", ".join(f"{counts[status]:,} {status.value}" for status in Status if counts[status])
    order = (Status.REFUSED, Status.MAP_ONLY, Status.ACCEPTED)
    rows = "".join(_report_row(verdict) for verdict in sorted(verdicts, key=lambda one: order.index(one.status)))
    return (
        f'<section class="lx-report" aria-label="Report"><h3 class="lx-card-name">{text(title)}</h3>'
        f'<p class="lx-quiet">{text(source)}: {text(summary or "no adapter was found")}</p>{remarks_html(remarks)}'
        '<div class="lx-report-rows" tabindex="0" role="region" aria-label="Verdicts"><table>'
        "<thead><tr><th>adapter</th><th>verdict</th><th>reason</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _report_row(verdict: Verdict) -> str:
    reason = " ".join(sentence for sentence in (verdict.reason, *verdict.warnings) if sentence)
    return (
        f'<tr><td>{text(verdict.name)}</td><td><span class="lx-verdict {_VERDICT_CLASSES[verdict.status]}">'
        f"{text(verdict.status.value)}</span></td><td>{text(reason)}</td></tr>"
    )


def compare_column_html(
    label: str,
    answer: str,
    state: ColumnState,
    *,
    tokens: int | None = None,
    seconds: float | None = None,
    log_likelihood: float | None = None,
    departs_at: int | None = None,
    problem: str = "",
) -> str:
    """One column of answers.

    Args:
        label: the router in words.
        answer: the text so far; line ends are kept.
        state: what the column is doing.
        tokens: how many were generated.
        seconds: in which time.
        log_likelihood: of the reference answer under this router, in nats.
        departs_at: the first token (counted from 0) at which this answer departs from the first column's.
        problem: one sentence, for a column that failed.
    """
    stats = []
    if tokens is not None:
        stats.append(count_text(tokens, "token"))
        if seconds:
            stats.append(f"{tokens / seconds:.1f} tokens/s")
    if log_likelihood is not None:
        stats.append(f"reference {log_likelihood:.2f} nats")
    if departs_at is not None:
        stats.append(f"departs from the first column at token {departs_at + 1}")
    body = text(problem if state == "failed" and problem else answer)
    caret = '<span class="lx-caret" aria-hidden="true"></span>' if state == "running" else ""
    return (
        f'<section class="lx-answer {state}" aria-label="Answer of {text(label)}" '
        f'aria-busy="{"true" if state in ("waiting", "running") else "false"}">'
        f'<header><b>{text(label)}</b><span class="lx-state">{_STATE_WORDS[state]}</span></header>'
        f'<div class="lx-answer-text">{body}{caret}</div><footer>{text(" · ".join(stats))}</footer></section>'
    )
