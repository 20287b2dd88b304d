"""Clusters as JSON in the shape of the paper's code: {"cluster_0": [names], ...}.

Reading also takes the key styles seen in mttl's own files: `c1_2e`, `c3o10`, `ccluster_3o10`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explorer.adapters.wording import shown
from explorer.analysis.clustering import Clustering
from explorer.errors import LibraryError

KEY = re.compile(r"(?:c?cluster_|c)([0-9]{1,6})(?:_[0-9]{1,6}e|o[0-9]{1,6})?")
MAX_BYTES = 16 << 20


def write_clusters(clustering: Clustering, path: Path) -> None:
    """Write the members of each cluster."""
    path.write_text(json.dumps(clustering.members(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_clusters(path: Path, names: Sequence[str]) -> Clustering:
    """Read a partition of `names`.

    Raises:
        LibraryError: the file is no such JSON, or it is not a partition of exactly these adapters.
    """
    where = shown(path.name)
    members = _members(path, where)
    labels: dict[str, int] = {}
    for label, listed in enumerate(members.values()):
        for name in listed:
            if name in labels:
                twice = "two clusters" if labels[name] != label else "one cluster twice"
                raise LibraryError(where, f"puts adapter '{shown(name)}' into {twice}", fix="Keep one of them.")
            labels[name] = label
    unknown = [name for name in labels if name not in set(names)]
    missing = [name for name in names if name not in labels]
    if unknown or missing:
        problem = f"names '{shown(unknown[0])}', which is not" if unknown else f"lacks '{shown(missing[0])}', which is"
        raise LibraryError(where, f"{problem} in this library", fix="Use the clusters of this library.")
    return Clustering(tuple(names), tuple(labels[name] for name in names), len(members), measure="file")


def _members(path: Path, where: str) -> Mapping[str, list[str]]:
    """The lists by key, in the order of the clusters' numbers."""
    numbered: dict[int, str] = {}
    data = _json(path, where)
    for key, listed in data.items():
        match = KEY.fullmatch(key)
        if match is None:
            raise LibraryError(where, f"has a key that is not a cluster: '{shown(key)}'", fix="Use cluster_0, ...")
        if not isinstance(listed, list) or not listed or not all(isinstance(name, str) for name in listed):
            raise LibraryError(f"{where}, {key}", expected="a list of adapter names")
        if numbered.setdefault(int(match[1]), key) != key:
            raise LibraryError(where, f"has two keys for one cluster: {numbered[int(match[1])]} and {key}")
    return {numbered[number]: data[numbered[number]] for number in sorted(numbered)}


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LibraryError(where, f"cannot be read ({error.strerror or type(error).__name__})") from error
    if len(raw) > MAX_BYTES:
        raise LibraryError(where, "is too large for a file of clusters", expected=f"at most {MAX_BYTES >> 20} MB")
    try:
        pairs = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError) as error:
        raise LibraryError(where, "is not JSON, or repeats a key") from error
    if not isinstance(pairs, dict) or not pairs:
        raise LibraryError(where, "holds no clusters", expected='an object like {"cluster_0": ["name", ...], ...}')
    return pairs


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands there twice")
    return result
