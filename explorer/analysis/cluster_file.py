"""Clusters as JSON in the shape of the paper's code: {"cluster_0": [names], ...}.

Reading also takes the key styles seen in mttl's own files: `c1_2e`, `c3o10`, `ccluster_3o10`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from explorer.analysis.clustering import Clustering
from explorer.errors import LibraryError

KEY = re.compile(r"(?:c?cluster_|c)(\d{1,6})(?:_\d+e|o\d+)?")
MAX_BYTES = 16 << 20


def write_clusters(clustering: Clustering, path: Path) -> None:
    """Write the members of each cluster."""
    path.write_text(json.dumps(clustering.members(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_clusters(path: Path, names: Sequence[str]) -> Clustering:
    """Read a partition of `names`.

    Raises:
        LibraryError: the file is no such JSON, or it is not a partition of exactly these adapters.
    """
    members = _members(path)
    labels: dict[str, int] = {}
    for label, listed in enumerate(members.values()):
        for name in listed:
            if name in labels:
                raise LibraryError(path.name, f"puts adapter {name!r} into two clusters")
            labels[name] = label
    unknown = [name for name in labels if name not in names]
    missing = [name for name in names if name not in labels]
    if unknown or missing:
        problem = f"names {unknown[0]!r}, which is not" if unknown else f"lacks {missing[0]!r}, which is"
        raise LibraryError(path.name, f"{problem} in this library", fix="Use the clusters of this library.")
    return Clustering(tuple(names), tuple(labels[name] for name in names), len(members), measure="file")


def _members(path: Path) -> Mapping[str, list[str]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LibraryError(path.name, "is too large for a file of clusters")
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise LibraryError(path.name, "cannot be read as JSON") from error
    if not isinstance(data, dict) or not data:
        raise LibraryError(path.name, expected="an object of clusters", found=type(data).__name__)
    for key, listed in data.items():
        if not KEY.fullmatch(key):
            raise LibraryError(path.name, f"has a key that is not a cluster: {key[:60]!r}", fix="Use cluster_0, ...")
        if not isinstance(listed, list) or not listed or not all(isinstance(name, str) for name in listed):
            raise LibraryError(f"{path.name}, {key}", expected="a list of adapter names")
    return {key: data[key] for key in sorted(data, key=lambda key: int(KEY.fullmatch(key)[1]))}  # type: ignore[index]
