"""What clusters are called on the page, and in which order adapters stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from explorer.adapters.library import natural_key
from explorer.records.library_record import LibraryRecord


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
    """A name for each cluster: its number and the families most of its members come from.

    Without families the cluster is called after the member that is most similar to the others. Not escaped.
    """
    families = {adapter.name: adapter.family for adapter in record.adapters}
    titles = {}
    for label, names in members(record).items():
        counts = Counter(families.get(name, "") for name in names)
        del counts[""]
        ranked = [family for family, _ in counts.most_common()]
        if ranked:
            described = ", ".join(ranked[:2]) + (" and others" if len(ranked) > 2 else "")
        else:
            described = f"around {_most_typical(record, names)}"
        titles[label] = f"C{label} {described}"
    return titles


def _most_typical(record: LibraryRecord, names: tuple[str, ...]) -> str:
    """The member with the largest summed similarity to its cluster."""
    index = {name: position for position, name in enumerate(record.similarity.names)}
    rows = [index[name] for name in names]
    sums = record.similarity.values[rows][:, rows].sum(axis=1)
    return names[int(sums.argmax())]


def in_cluster_order(record: LibraryRecord, names: Iterable[str]) -> tuple[str, ...]:
    """`names` by cluster, then by name; adapters without a cluster come last."""
    labels = cluster_of(record)
    last = max(labels.values(), default=0) + 1
    return tuple(sorted(names, key=lambda name: (labels.get(name, last), natural_key(name))))
