"""Made-up records and traces for the tests of figures and HTML: plain numbers, no adapter and no model behind them."""

from __future__ import annotations

import numpy as np

from explorer.adapters.adapter import Status, Verdict
from explorer.analysis.clustering import Clustering
from explorer.analysis.neighbours import Neighbour
from explorer.analysis.projection import Projection
from explorer.analysis.similarity import Similarity
from explorer.records.library_record import AdapterSummary, LibraryRecord
from explorer.routing.trace import RoutingTrace

FAMILIES = ("sentiment", "topic", "inference", "translation", "arithmetic", "formats")
MODULES = ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj")


def make_record(
    names: tuple[str, ...] | None = None, *, count: int = 24, clusters: int = 6, map_only: tuple[str, ...] = ()
) -> LibraryRecord:
    """A library of `count` adapters in `clusters` clear clusters."""
    rng = np.random.default_rng(3)
    names = names or tuple(f"{FAMILIES[i % clusters % len(FAMILIES)]}-task-{i:02d}" for i in range(count))
    labels = tuple(i % clusters for i in range(len(names)))
    centers = rng.normal(size=(clusters, 8)) * 2
    points = np.array([centers[label] for label in labels]) + rng.normal(size=(len(names), 8)) * 0.7
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosine = unit @ unit.T
    adapters = []
    for index, name in enumerate(names):
        order = [other for other in np.argsort(-cosine[index]) if other != index][:5]
        status = Status.MAP_ONLY if name in map_only else Status.ACCEPTED
        adapters.append(
            AdapterSummary(
                name=name,
                status=str(status),
                reason="Uses DoRA, which routing does not support." if name in map_only else "",
                warnings=(),
                base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
                ranks=(4,),
                alpha=8.0,
                targets=("q_proj", "v_proj", "up_proj", "down_proj"),
                sites=120,
                parameters=460_800,
                size_bytes=1_843_200,
                content_hash=f"{index:064x}",
                task=f"task {index}",
                family=FAMILIES[labels[index] % len(FAMILIES)],
                description="Says whether a review is good or bad.",
                examples=("Review: I liked it.\nAnswer: positive",),
                neighbours=tuple(Neighbour(names[other], float(cosine[index, other])) for other in order),
                spectrum=tuple(float(value) for value in np.sort(rng.gamma(2.0, 0.2, 4))[::-1]),
                layer_norms=tuple((str(layer), float(rng.gamma(3, 0.1))) for layer in range(30)),
            )
        )
    silhouettes = {k: float(0.5 - 0.03 * abs(k - clusters)) for k in range(2, min(len(names), 13))}
    return LibraryRecord(
        title="Private adapters of SmolLM2",
        description="One adapter for each task.",
        license_name="Apache-2.0",
        source="sample",
        base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
        content_hash="ab" * 32,
        adapters=tuple(adapters),
        verdicts=tuple(Verdict(one.name, Status(one.status), one.reason) for one in adapters),
        similarity=Similarity(names, cosine, "update", (1.0,) * len(names), ()),
        clustering=Clustering(
            names=names,
            labels=labels,
            n_clusters=clusters,
            silhouettes=silhouettes,
            suggested=clusters,
            seed=42,
            measure="update",
        ),
        projection=Projection(names, points[:, :2].astype(np.float64), "umap"),
    )


def make_trace(record: LibraryRecord, *, layers: int = 30, kept: int = 4, generated: int = 0) -> RoutingTrace:
    """A trace of a short prompt inside a chat template, with `kept` adapters active everywhere."""
    words = [
        "<|im_start|>",
        "user",
        "\n",
        "Is",
        " this",
        " review",
        " good",
        " or",
        " bad",
        "?",
        " \n\n",
        "I",
        " <b>",
        "<|im_end|>",
    ]
    typed = [False] * 3 + [True] * 10 + [False]
    words += [" Pos", "itive", ".", "\n", " It", " is", " great"][:generated]
    typed += [True] * generated
    names = tuple(one.name for one in record.adapters if one.can_be_routed)
    sites = tuple(f"model.layers.{layer}.{module}" for layer in range(layers) for module in MODULES)
    rng = np.random.default_rng(5)
    scores = rng.gamma(2.0, 1.5, (len(sites), len(words), len(names))) + rng.gamma(2, 0.5, (1, 1, len(names)))
    order = np.argsort(-scores, axis=-1)
    keep = np.zeros(scores.shape, bool)
    np.put_along_axis(keep, order[..., :kept], True, axis=-1)
    powers = np.where(keep, np.exp(scores - scores.max(-1, keepdims=True)), 0.0)
    return RoutingTrace(
        sites=sites,
        tokens=tuple(words),
        token_ids=tuple(range(len(words))),
        names=names,
        weights=(powers / powers.sum(-1, keepdims=True)).astype(np.float32),
        scores=scores.astype(np.float32),
        prompt_length=14,
        typed=tuple(typed),
        router="Arrow, top 4, temperature 1",
    )
