"""What clusters are called on the page, and in which order adapters stand."""

from __future__ import annotations

from collections.abc import Iterable

from explorer.adapters.natural_order import natural_key
from explorer.records.library_record import LibraryRecord, cluster_title


def cluster_of(record: LibraryRecord) -> dict[str, int]:
    """The cluster label of each clustered adapter."""
    return dict(zip(record.clustering.names, record.clustering.labels, strict=True))


def members(record: LibraryRecord) -> dict[int, tuple[str, ...]]:
    """The adapters of each cluster by label, both in order."""
    by_label: dict[int, list[str]] = {}
    for name, label in cluster_of(record).items():
        by_label.setdefault(label, []).append(name)
    return {label: tuple(sorted(by_label[label], key=natural_key)) for label in sorted(by_label)}


def cluster_titles(record: LibraryRecord) -> dict[int, str]:
    """A name for each cluster by label. Not escaped."""
    return {label: cluster_title(record, label) for label in members(record)}


def in_cluster_order(record: LibraryRecord, names: Iterable[str]) -> tuple[str, ...]:
    """`names` by cluster, then by name; adapters without a cluster come last."""
    labels = cluster_of(record)
    last = max(labels.values(), default=0) + 1
    return tuple(sorted(names, key=lambda name: (labels.get(name, last), natural_key(name))))
