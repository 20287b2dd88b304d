"""Transfer: the loss of every task under every adapter, and whether likeness of weights foretells it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from explorer.adapters.library import Library
from explorer.analysis.clustering import Clustering
from explorer.analysis.similarity import Similarity
from explorer.evaluation.methods import hash_of
from explorer.evaluation.record import Transfer
from explorer.evaluation.rows import TestRow, batches_of
from explorer.evaluation.scoring import RowScore, score_rows
from explorer.evaluation.store import CellStore
from explorer.models.routed_model import RoutedModel
from explorer.routing.base import Base
from explorer.routing.router import Router
from explorer.routing.single import Single

BATCH_ROWS = 32
RELABELLINGS = 999
ROUNDING = 1e-9
NO_ADAPTER = ""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class AdapterScored:
    """The rows of all tasks were scored under one adapter ("" for none); `done` of `count` adapters are."""

    adapter: str
    done: int
    count: int


@dataclass(frozen=True, eq=False)
class Losses:
    """Mean loss of each task's rows (nats per token): (tasks, adapters), and (tasks,) without any adapter."""

    tasks: tuple[str, ...]
    adapters: tuple[str, ...]
    values: Matrix
    base: Matrix
    rows: tuple[int, ...]


def losses_under_each(
    routed: RoutedModel,
    rows: Mapping[str, Sequence[TestRow]],
    library: Library,
    *,
    store: CellStore | None = None,
    stop: Callable[[], bool] | None = None,
) -> Generator[AdapterScored, None, Losses | None]:
    """Score rows of tasks under each adapter alone, and under none; returns None when stopped.

    Args:
        routed: the model.
        rows: of each task.
        library: whose adapters `routed` holds.
        store: where scores are kept and found again.
        stop: asked before each batch.
    """
    names = (NO_ADAPTER, *routed.names)
    means = np.empty((len(rows), len(names)))
    for place, name in enumerate(names):
        scores = _of_adapter(routed, [row for part in rows.values() for row in part], name, library, store, stop)
        if scores is None:
            return None
        losses, first = np.array([score.loss for score in scores]), 0
        for index, part in enumerate(rows.values()):
            means[index, place] = losses[first : first + len(part)].mean()
            first += len(part)
        yield AdapterScored(name, place + 1, len(names))
    counts = tuple(len(part) for part in rows.values())
    return Losses(tuple(rows), routed.names, means[:, 1:], means[:, 0], counts)


def _of_adapter(
    routed: RoutedModel,
    rows: Sequence[TestRow],
    name: str,
    library: Library,
    store: CellStore | None,
    stop: Callable[[], bool] | None,
) -> list[RowScore] | None:
    """Scores of all rows under one adapter: rows of all tasks share batches, so that lengths are alike."""
    content = library[name].content_hash if name else ""
    parts = repr([(row.ids, row.prompt_length) for row in rows])
    key = hash_of("alone", routed.base.name + routed.base.content_id, str(routed.base.model.dtype), content, parts)[:40]
    known = store.recall(key, len(rows)) if store else None
    if known is not None:
        return known
    router: Router = Single(name) if name else Base()
    found: dict[int, RowScore] = {}
    for batch in batches_of(rows, BATCH_ROWS):
        if stop is not None and stop():
            return None
        scores = score_rows(routed, [rows[index] for index in batch], [router] * len(batch))
        found.update(zip(batch, scores or (), strict=True))
    ordered = [found[index] for index in range(len(rows))]
    if store is not None:
        store.keep(key, name or "no adapter", "all tasks", ordered)
    return ordered


def best_adapters(losses: Losses) -> dict[str, str]:
    """For each task the adapter under which its rows lose least."""
    places = losses.values.argmin(axis=1)
    return {task: losses.adapters[place] for task, place in zip(losses.tasks, places, strict=True)}


def transfer_of(
    losses: Losses, similarity: Similarity, clustering: Clustering, own: Mapping[str, str], seed: int = 0
) -> Transfer:
    """The record of a transfer matrix with its correlation to the likeness of adapters.

    Args:
        losses: of tasks under adapters.
        similarity: of adapters of (at least) these names.
        clustering: of the same.
        own: the adapter trained on each task.
        seed: of the relabellings.
    """
    labels = dict(zip(clustering.names, (int(label) for label in clustering.labels), strict=True))
    places = [losses.adapters.index(own[task]) if task in own else None for task in losses.tasks]
    order = [similarity.names.index(name) for name in losses.adapters]
    likeness = np.asarray(similarity.values, dtype=np.float64)[np.ix_(order, order)]
    rho, p_value = likeness_foretells(losses, likeness, places, seed)
    return Transfer(
        tasks=losses.tasks,
        adapters=losses.adapters,
        loss=tuple(tuple(round(float(value), 4) for value in row) for row in losses.values),
        base_loss=tuple(round(float(value), 4) for value in losses.base),
        rows=losses.rows,
        own=tuple(places),
        clusters=tuple(labels[name] for name in losses.adapters),
        measure=similarity.measure,
        rank_correlation=rho,
        p_value=p_value,
    )


def likeness_foretells(
    losses: Losses, likeness: Matrix, own: Sequence[int | None], seed: int = 0
) -> tuple[float | None, float | None]:
    """Spearman's rho, within a task and averaged over tasks, and the p value of Mantel's test.

    For each task with an adapter of its own: how alike every other adapter is to that one, against how little the
    task loses under it. Ranks are taken within a task, so that tasks of large losses do not speak for all.

    Args:
        losses: of tasks under adapters.
        likeness: (adapters, adapters).
        own: each task's own adapter, or None.
        seed: of the relabellings of the adapters (999), which give the p value.
    """
    pairs = [(task, place) for task, place in enumerate(own) if place is not None]
    count = len(losses.adapters)
    if len(pairs) < 3 or count < 4:
        return None, None
    others = [[other for other in range(count) if other != place] for _, place in pairs]
    gains = [_ranks(-losses.values[task, rest]) for (task, _), rest in zip(pairs, others, strict=True)]

    def rho(order: NDArray[np.int64]) -> float:
        relabelled = likeness[np.ix_(order, order)]
        likes = [_ranks(relabelled[place, rest]) for (_, place), rest in zip(pairs, others, strict=True)]
        return float(np.mean([like @ gain for like, gain in zip(likes, gains, strict=True)]))

    found = rho(np.arange(count))
    generator = np.random.default_rng(seed)
    least = found - ROUNDING  # orders that give the same rho may differ in the last bit, and count
    as_large = sum(rho(generator.permutation(count)) >= least for _ in range(RELABELLINGS))
    return found, (as_large + 1) / (RELABELLINGS + 1)


def _ranks(values: Matrix) -> Matrix:
    """Ranks as a vector of mean 0 and length 1 (0 where all are equal): products of two are Spearman's rho."""
    ranks = rankdata(values)
    ranks = ranks - ranks.mean()
    length = float(np.linalg.norm(ranks))
    return ranks / length if length else ranks
