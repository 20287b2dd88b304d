"""Everything that is shown of a library: one summary per adapter, similarities, clusters, map.

A record is plain data. The page draws from it alone, so a stored one shows the same as a fresh one, with no model and
no weights at hand.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from explorer.adapters.adapter import Adapter, Status, Verdict
from explorer.adapters.library import Library
from explorer.analysis.clustering import DEFAULT_SEED, Clustering, cluster
from explorer.analysis.neighbours import Neighbour, neighbours
from explorer.analysis.projection import Projection, project
from explorer.analysis.similarity import Similarity, of_products, similarity
from explorer.analysis.spectra import UpdateShape
from explorer.analysis.survey import Survey, survey

FORMAT = 1
DIGITS = 6
TEXTS = ("title", "description", "license_name", "source", "base_model", "content_hash")


@dataclass(frozen=True)
class AdapterSummary:
    """One adapter as the page shows it (see :class:`explorer.adapters.adapter.Adapter` for the fields' meaning).

    `targets` are the last parts of the modules' names, `parameters` counts A and B, `spectrum` is the mean over the
    sites of the singular values, `layer_norms` the Frobenius norm of the update layer by layer, and `effective_rank`
    the mean over the sites of how many directions share its energy.
    """

    name: str
    status: str
    reason: str
    warnings: tuple[str, ...]
    base_model: str
    ranks: tuple[int, ...]
    alpha: float
    targets: tuple[str, ...]
    sites: int
    parameters: int
    size_bytes: int
    content_hash: str
    task: str
    family: str
    description: str
    examples: tuple[str, ...]
    neighbours: tuple[Neighbour, ...]
    spectrum: tuple[float, ...]
    layer_norms: tuple[tuple[str, float], ...]
    effective_rank: float = 0.0

    @property
    def can_be_routed(self) -> bool:
        """Whether routers may use it."""
        return self.status == Status.ACCEPTED


@dataclass(frozen=True, eq=False)
class LibraryRecord:
    """A library with its analysis; `adapters` are in the order of `similarity.names`, `remarks` are sentences."""

    title: str
    description: str
    license_name: str
    source: str
    base_model: str
    content_hash: str
    adapters: tuple[AdapterSummary, ...]
    verdicts: tuple[Verdict, ...]
    similarity: Similarity
    clustering: Clustering
    projection: Projection
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        listed = tuple(adapter.name for adapter in self.adapters)
        if not listed == self.similarity.names == self.clustering.names == self.projection.names:
            raise ValueError("a library record whose parts name different adapters")

    @property
    def names(self) -> tuple[str, ...]:
        """All adapters shown, in order."""
        return self.similarity.names

    def summary(self, name: str) -> AdapterSummary:
        """The summary of the adapter called `name` (KeyError if there is none)."""
        for summary in self.adapters:
            if summary.name == name:
                return summary
        raise KeyError(name)

    def label(self, name: str) -> int:
        """The cluster that holds the adapter called `name`."""
        return self.clustering.labels[self.names.index(name)]


def library_record(
    library: Library,
    measure: str = "update",
    sparsity: float = 0.5,
    n_clusters: int | None = None,
    seed: int = DEFAULT_SEED,
) -> LibraryRecord:
    """Analyse a library (see :func:`similarity`, :func:`cluster` and :func:`project` for the arguments).

    Without a number of clusters it is the one that the library's notes name, else the suggested one.
    """
    wanted = library.clusters if n_clusters is None else n_clusters
    return analysed(library, survey(library.adapters), measure, sparsity, wanted, seed)


def analysed(
    library: Library,
    found: Survey,
    measure: str = "update",
    sparsity: float = 0.5,
    n_clusters: int | None = None,
    seed: int = DEFAULT_SEED,
) -> LibraryRecord:
    """As `library_record`, with the library already surveyed (which does not depend on the measure)."""
    if measure == "update":
        alike = of_products(library.adapters, found.products)
    else:
        alike = similarity(library, measure, sparsity)
    return LibraryRecord(
        title=library.title,
        description=library.description,
        license_name=library.license_name,
        source=library.source,
        base_model=library.base_model,
        content_hash=library.content_hash,
        adapters=tuple(_summary(adapter, alike, shape) for adapter, shape in zip(library, found.shapes, strict=True)),
        verdicts=library.verdicts,
        similarity=alike,
        clustering=cluster(alike, n_clusters, seed),
        projection=project(alike, seed),
        remarks=library.remarks,
    )


def with_clusters(record: LibraryRecord, n_clusters: int | None, seed: int = DEFAULT_SEED) -> LibraryRecord:
    """The same library partitioned anew."""
    return replace(record, clustering=cluster(record.similarity, n_clusters, seed))


def cluster_title(record: LibraryRecord, label: int) -> str:
    """A cluster's name for a reader: the family that at least half of it belongs to, where there is one."""
    own = [adapter for adapter, other in zip(record.adapters, record.clustering.labels, strict=True) if other == label]
    families = Counter(adapter.family for adapter in own if adapter.family)
    if not families:
        return f"cluster {label}"
    family, count = families.most_common(1)[0]
    if 2 * count < len(own):
        return f"{label} mixed"
    return f"{label} {family}" + ("" if count == len(own) else f" ({count} of {len(own)})")


def _summary(adapter: Adapter, alike: Similarity, shape: UpdateShape) -> AdapterSummary:
    return AdapterSummary(
        name=adapter.name,
        status=str(adapter.verdict.status),
        reason=adapter.verdict.reason,
        warnings=adapter.verdict.warnings,
        base_model=adapter.base_model,
        ranks=adapter.ranks,
        alpha=adapter.alpha,
        targets=tuple(dict.fromkeys(site.rpartition(".")[2] for site in adapter.updates)),
        sites=len(adapter.updates),
        parameters=adapter.parameters,
        size_bytes=adapter.size_bytes,
        content_hash=adapter.content_hash,
        task=adapter.notes.task,
        family=adapter.notes.family,
        description=adapter.notes.description,
        examples=adapter.notes.examples,
        neighbours=neighbours(alike, adapter.name),
        spectrum=shape.spectrum,
        layer_norms=shape.layers,
        effective_rank=shape.effective_rank,
    )


def to_json(record: LibraryRecord) -> str:
    """The record as JSON text: numbers to six digits, one line for each adapter and each row of a matrix."""
    data = {
        "format": FORMAT,
        **{key: getattr(record, key) for key in TEXTS},
        "remarks": record.remarks,
        "adapters": [asdict(adapter) for adapter in record.adapters],
        "verdicts": [asdict(verdict) for verdict in record.verdicts],
        "values": record.similarity.values.tolist(),
        "similarity": {key: value for key, value in vars(record.similarity).items() if key != "values"},
        "clustering": asdict(record.clustering),
        "xy": record.projection.xy.tolist(),
        "projection": {key: value for key, value in vars(record.projection).items() if key != "xy"},
    }
    entries = (f"{_line(key)}: {_lines(value)}" for key, value in _rounded(data).items())
    return "{\n" + ",\n".join(entries) + "\n}"


def from_json(text: str) -> LibraryRecord:
    """The record written by `to_json`.

    Raises:
        ValueError: any other text, or one whose parts do not fit together.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError("a library record of another format")
        alike, found, laid = data["similarity"], data["clustering"], data["projection"]
        return LibraryRecord(
            **{key: data[key] for key in TEXTS},
            adapters=tuple(_adapter(entry) for entry in data["adapters"]),
            verdicts=tuple(_verdict(entry) for entry in data["verdicts"]),
            similarity=Similarity(**_tuples(alike), values=np.array(data["values"], dtype=np.float64)),
            clustering=Clustering(
                **{**_tuples(found), "silhouettes": {int(k): value for k, value in found["silhouettes"].items()}}
            ),
            projection=Projection(**_tuples(laid), xy=np.array(data["xy"], dtype=np.float64)),
            remarks=tuple(data.get("remarks", ())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a library record") from error


def _adapter(entry: dict[str, Any]) -> AdapterSummary:
    plain = _tuples(entry)
    plain["neighbours"] = tuple(Neighbour(**other) for other in entry["neighbours"])
    plain["layer_norms"] = tuple((label, value) for label, value in entry["layer_norms"])
    return AdapterSummary(**plain)


def _verdict(entry: dict[str, Any]) -> Verdict:
    return Verdict(**{**_tuples(entry), "status": Status(entry["status"])})


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _rounded(value: Any) -> Any:
    """Every float to six significant digits; everything else as it is."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(own) for key, own in value.items()}
    return [_rounded(own) for own in value] if isinstance(value, list | tuple) else value


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return _line(value)
    return "[\n" + ",\n".join(f" {_line(item)}" for item in value) + "\n]"
