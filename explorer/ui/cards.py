"""What the page says in words about a library and its adapters: cards, notes and the legend, as escaped HTML."""

from __future__ import annotations

from collections.abc import Iterable

from explorer.adapters.adapter import Status
from explorer.records.library_record import AdapterSummary, LibraryRecord
from explorer.ui.html import count_text, remarks_html, shortened, size_text, text
from explorer.ui.naming import cluster_of, cluster_titles, members
from explorer.ui.palette import mark

#: Long texts from a library's own files are cut here; nobody reads more on a card.
_LONGEST = 600
_SPACES = {"update": "whole updates", "parameters": "factors A and B", "subspace": "input directions"}


def adapter_card_html(summary: AdapterSummary, record: LibraryRecord) -> str:
    """Facts about one adapter, its nearest five as buttons, and its examples."""
    label = cluster_of(record).get(summary.name)
    cluster = cluster_titles(record)[label] if label is not None else "none"
    facts = [
        ("cluster", f"{mark(label).svg} {text(cluster)}"),
        ("task", text(summary.task)),
        ("family", text(summary.family)),
        ("base model", text(summary.base_model or "not named")),
        ("rank", text(", ".join(str(rank) for rank in summary.ranks))),
        ("alpha", text(f"{summary.alpha:g}")),
        ("modules", text(", ".join(summary.targets))),
        ("sites", text(f"{summary.sites:,}")),
        ("parameters", text(f"{summary.parameters:,}")),
        ("size", text(size_text(summary.size_bytes))),
        ("hash", f'<code title="{text(summary.content_hash)}">{text(summary.content_hash[:12])}</code>'),
    ]
    parts = [
        f'<h3 class="lx-card-name">{text(summary.name)}</h3>',
        _verdict(summary),
        _paragraph(summary.description),
        _facts(facts),
        _nearest(summary, record),
        _examples(summary.examples),
    ]
    return f'<section class="lx-card" aria-label="Adapter {text(summary.name)}">{"".join(parts)}</section>'


def library_card_html(record: LibraryRecord) -> str:
    """Title, size, base model, license and clusters of a library."""
    counts = {status: sum(adapter.status == status for adapter in record.adapters) for status in Status}
    refused = sum(verdict.status is Status.REFUSED for verdict in record.verdicts)
    routable = f"{count_text(len(record.adapters), 'adapter')}, {counts[Status.ACCEPTED]:,} can be routed"
    facts = [
        ("adapters", text(routable + (f", {refused:,} refused" if refused else ""))),
        ("clusters", text(f"{record.clustering.n_clusters:,}")),
        ("base model", text(record.base_model or "not named")),
        ("license", text(record.license_name or "not stated")),
        ("source", text(record.source)),
        ("hash", f'<code title="{text(record.content_hash)}">{text(record.content_hash[:12])}</code>'),
    ]
    return (
        f'<section class="lx-card" aria-label="Library"><h3 class="lx-card-name">{text(record.title)}</h3>'
        f"{_paragraph(record.description)}{remarks_html(record.remarks)}{_facts(facts)}</section>"
    )


def legend_html(record: LibraryRecord) -> str:
    """Mark and title of each cluster; a click greys out the adapters of all others."""
    titles = cluster_titles(record)
    entries = [
        f'<button type="button" class="lx-legend-entry" data-cluster="{label}" aria-pressed="false">'
        f"{mark(label).svg}<span>{text(titles[label])}</span><small>{len(names)}</small></button>"
        for label, names in members(record).items()
    ]
    return f'<div class="lx-legend" role="group" aria-label="Clusters">{"".join(entries)}</div>'


def map_note_html(record: LibraryRecord) -> str:
    """One line for under the map: what its distances do and do not say."""
    if record.projection.method == "umap":
        sentence = (
            "UMAP keeps neighbourhoods, not distances: gaps and directions on this map are no evidence. "
            "The nearest adapters and their scores, in the true space, stand in the card."
        )
    elif record.projection.method == "pca":
        sentence = "Too few adapters for UMAP: this is a PCA of the similarities. The scores in the card are exact."
    else:
        sentence = "Too few adapters for a map: they are listed side by side, and their distances mean nothing."
    return f'<p class="lx-quiet">{text(sentence)}</p>'


def empty_html(sentence: str) -> str:
    """A quiet sentence where there is nothing yet."""
    return f'<div class="lx-empty">{text(sentence)}</div>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    """A definition list; the values are HTML already, empty ones are left out."""
    rows = "".join(f"<div><dt>{term}</dt><dd>{value}</dd></div>" for term, value in facts if value)
    return f'<dl class="lx-facts">{rows}</dl>'


def _paragraph(value: str) -> str:
    return f"<p>{text(shortened(value, _LONGEST))}</p>" if value else ""


def _verdict(summary: AdapterSummary) -> str:
    """Why an adapter is not simply accepted; nothing for one that is."""
    sentences = [sentence for sentence in (summary.reason, *summary.warnings) if sentence]
    if summary.status == Status.ACCEPTED and not sentences:
        return ""
    kind = "warn" if summary.status == Status.ACCEPTED else "bad"
    said = " ".join(sentences) or "No reason was given."
    return f'<p class="lx-verdict {kind}"><b>{text(summary.status)}</b> {text(said)}</p>'


def _nearest(summary: AdapterSummary, record: LibraryRecord) -> str:
    """The nearest five with their scores; a click selects one."""
    if not summary.neighbours:
        return ""
    labels = cluster_of(record)
    rows = "".join(
        f'<li><button type="button" class="lx-adapter-link" data-adapter="{text(near.name)}">'
        f"{mark(labels.get(near.name)).svg}<span>{text(near.name)}</span></button>"
        f"<data>{near.score:.3f}</data></li>"
        for near in summary.neighbours[:5]
    )
    space = text(_SPACES.get(record.similarity.measure, record.similarity.measure))
    return f'<h4>Nearest by cosine of {space}</h4><ol class="lx-nearest">{rows}</ol>'


def _examples(examples: tuple[str, ...]) -> str:
    if not examples:
        return ""
    rows = "".join(f"<li>{text(shortened(example, _LONGEST))}</li>" for example in examples[:3])
    return f'<h4>Examples</h4><ul class="lx-examples">{rows}</ul>'
