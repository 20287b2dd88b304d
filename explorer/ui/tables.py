"""The table of all adapters: the accessible twin of the map."""

from __future__ import annotations

import pandas as pd

from explorer.records.library_record import LibraryRecord
from explorer.ui.html import size_text
from explorer.ui.naming import cluster_of, cluster_titles, in_cluster_order

COLUMNS = ("name", "cluster", "family", "task", "rank", "alpha", "modules", "size", "nearest", "verdict")


def adapters_table(record: LibraryRecord) -> pd.DataFrame:
    """One row for each adapter of the library, by cluster and name; all values are plain text, not HTML."""
    labels, titles = cluster_of(record), cluster_titles(record)
    summaries = {adapter.name: adapter for adapter in record.adapters}
    rows = []
    for name in in_cluster_order(record, summaries):
        adapter = summaries[name]
        nearest = adapter.neighbours[:1]
        rows.append(
            (
                name,
                titles.get(labels.get(name, -1), ""),
                adapter.family,
                adapter.task,
                ", ".join(str(rank) for rank in adapter.ranks),
                f"{adapter.alpha:g}",
                ", ".join(adapter.targets),
                size_text(adapter.size_bytes),
                f"{nearest[0].name} {nearest[0].score:.2f}" if nearest else "",
                adapter.status,
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
