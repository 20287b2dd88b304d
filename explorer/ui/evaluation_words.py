"""What the Evaluate tab says in words: whose results, how made, what the matrix tells, a file's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.adapters.wording import clean_line
from explorer.evaluation.record import FILE, EvaluationRecord, Transfer
from explorer.ui.cards import empty_html
from explorer.ui.evaluation_view import EvaluationView, UserFile
from explorer.ui.html import count_text, remarks_html, shortened, text

MOST_REMARKS = 20
MOST_SETTINGS = 30
MOST_BROKEN, MOST_IGNORED = 50, 8
#: A rho is called so from these sizes on.
STRENGTHS = ((0.6, "strong"), (0.3, "moderate"), (0.0, "weak"))
SIGNIFICANT = 0.05

_SPACES = {"update": "whole updates", "parameters": "factors A and B"}
_STATES = {"running": ", still running", "done": "", "stopped": ", stopped before its end", "failed": ", broken off"}
_NONE = (
    "No evaluation lies in this library. The command evaluate LIBRARY --tasks DIR --output FOLDER makes an "
    f"{FILE}: put it into the library's folder. Or evaluate a file of your own, above."
)


def heading_html(view: EvaluationView, content_hash: str) -> str:
    """Whose results are shown; a warning where they were not made with the library that is open."""
    record = view.record
    if record is None:
        problem = remarks_html([view.problem]) if view.problem else ""
        return problem + empty_html(_NONE)
    size = f"{count_text(len(record.methods), 'method')}, {count_text(len(record.tasks), 'task')}"
    if view.shows_own and view.own is not None:
        name, what = f"Your file {shortened(view.own.name, 60)}", f"{size}{_STATES[view.own.state]}"
    else:
        name, what = "Stored evaluation of this library", size
    hashes = {method.library_hash for method in record.methods} - {""}
    stale = content_hash and hashes and content_hash not in hashes
    words = "The adapters that are open now are not those that were evaluated: the numbers may not hold for them."
    return (
        f'<div class="lx-scores-head"><b>{text(name)}</b> <span class="lx-quiet">{text(what)}</span></div>'
        f"{remarks_html([words]) if stale else ''}"
    )


def details_html(record: EvaluationRecord | None) -> str:
    """Base model, settings and versions in a quiet line, and what a reader has to know below it."""
    if record is None:
        return ""
    settings = [f"{clean_line(str(name), 40).replace('_', ' ')} {value}" for name, value in _plain(record.settings)]
    versions = [f"{name} {version}" for name, version in list(record.versions.items())[:MOST_SETTINGS]]
    said = [f"Base model {record.base_model}", *settings, *versions]
    remarks = "".join(f"<li>{text(remark)}</li>" for remark in record.remarks[:MOST_REMARKS])
    more = len(record.remarks) - MOST_REMARKS
    rest = f"<li>and {more:,} more in the JSON</li>" if more > 0 else ""
    listed = f'<ul class="lx-quiet lx-remarks">{remarks}{rest}</ul>' if remarks else ""
    return f'<p class="lx-quiet">{text("; ".join(said))}.</p>{listed}'


def _plain(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings that are a word or a number."""
    said = {True: "yes", False: "no"}
    found = []
    for name, value in list(settings.items())[:MOST_SETTINGS]:
        if isinstance(value, bool):
            found.append((name, said[value]))
        elif isinstance(value, str) or (isinstance(value, int | float) and abs(value) < 1e15):
            found.append((name, clean_line(str(value), 60)))
    return found


def transfer_html(transfer: Transfer | None) -> str:
    """What the matrix shows, and whether likeness of weights foretells it."""
    if transfer is None:
        return ""
    words = (
        "Each row a task, each column an adapter alone; outlined: the task's own adapter. "
        "Columns stand by cluster, and rows as their own adapters do; tasks without one come last."
    )
    return f'<p>{text(correlation_text(transfer))}</p><p class="lx-quiet">{text(words)}</p>'


def correlation_text(transfer: Transfer) -> str:
    """The rank correlation between likeness and transfer, and what it says."""
    rho, p = transfer.rank_correlation, transfer.p_value
    if rho is None:
        return "Too few adapters with a task of their own to say whether likeness of weights foretells transfer."
    space = _SPACES.get(transfer.measure, transfer.measure)
    numbers = f"Spearman's rho = {rho:.2f}" + ("" if p is None else f", p {_p_text(p)} (Mantel's test)")
    strength = next(word for least, word in STRENGTHS if abs(rho) >= least)
    if p is not None and p <= SIGNIFICANT and rho > 0:
        said = (
            f"Likeness of weights foretells transfer here ({strength}): the more alike two adapters are by {space}, "
            "the more loss one saves on the other's task"
        )
    elif p is None:
        said = f"Likeness of adapters by {space} against the loss that one saves on the other's task"
    else:
        said = f"No sign that likeness of weights (by {space}) foretells transfer here"
    return f"{said}: {numbers}."


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def file_html(file: UserFile | None) -> str:
    """What of a user's file can be evaluated, and the rows that cannot, with the reason."""
    if file is None:
        return ""
    usable = f"{count_text(file.rows, 'row')} of {count_text(len(file.tasks), 'task')} can be evaluated"
    broken = f"; {count_text(len(file.broken), 'row')} cannot" if file.broken else ""
    rows = "".join(
        f"<tr><td>{one.row:,}</td><td>{text(shortened(one.reason, 300))}</td></tr>" for one in file.broken[:MOST_BROKEN]
    )
    more = len(file.broken) - MOST_BROKEN
    rest = f'<p class="lx-quiet">and {more:,} more</p>' if more > 0 else ""
    table = (
        '<div class="lx-report-rows" tabindex="0" role="region" aria-label="Rows left out"><table>'
        f"<thead><tr><th>row</th><th>left out because</th></tr></thead><tbody>{rows}</tbody></table></div>{rest}"
    )
    return (
        f'<section class="lx-report" aria-label="Your file"><p><b>{text(shortened(file.name, 60))}</b>: '
        f"{text(usable + broken)}. {text(_left_aside(file))}</p>{table if file.broken else ''}</section>"
    )


def _left_aside(file: UserFile) -> str:
    """Rows that are not for testing, and columns that mean nothing."""
    said = []
    if file.kept_back:
        said.append(f"{count_text(file.kept_back, 'row')} for training or validation will not be evaluated.")
    if file.ignored:
        names = ", ".join(shortened(name, 40) for name in file.ignored[:MOST_IGNORED])
        said.append(f"Columns that are not read: {names}{' and more' if len(file.ignored) > MOST_IGNORED else ''}.")
    return " ".join(said)
