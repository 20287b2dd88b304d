"""Transfer: the loss of every task under every adapter, and whether likeness foretells it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from routed_samples import tiny_library
from scipy.stats import rankdata
from scored_samples import TEXTS, task_of

import explorer
from explorer.evaluation.rows import rows_of
from explorer.evaluation.store import CellStore
from explorer.evaluation.transfer import Losses, best_adapters, likeness_foretells, losses_under_each
from explorer.models.base import BaseModel
from explorer.routers import Base, Single


@pytest.fixture
def routed(tiny: Callable[[str], BaseModel]) -> explorer.RoutedModel:
    return explorer.RoutedModel(tiny("llama"), tiny_library())


def transfer_losses(routed: explorer.RoutedModel, store: CellStore | None = None) -> Losses:
    rows = {
        name: rows_of(routed.base, task_of(name, texts), most=2, chat=True, room=0).rows
        for name, texts in (("one", TEXTS[:2]), ("two", TEXTS[2:]))
    }
    work = losses_under_each(routed, rows, tiny_library(), store=store)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def test_the_transfer_matrix_is_the_loss_of_each_task_under_each_adapter(
    routed: explorer.RoutedModel, tmp_path: Path
) -> None:
    losses = transfer_losses(routed, CellStore(tmp_path))
    for task, texts in enumerate((TEXTS[:2], TEXTS[2:4])):
        for place, router in enumerate([Base(), *map(Single, routed.names)]):
            by_hand = np.mean([-routed.log_likelihood(*pair, router).per_token for pair in texts])
            found = losses.base[task] if place == 0 else losses.values[task, place - 1]
            assert found == pytest.approx(by_hand, abs=2e-5)
    kept = transfer_losses(routed, CellStore(tmp_path))
    assert np.array_equal(kept.values, losses.values)
    assert best_adapters(losses) == {
        task: losses.adapters[int(row.argmin())] for task, row in zip(losses.tasks, losses.values, strict=True)
    }


def test_likeness_that_orders_the_losses_is_found_and_chance_is_not() -> None:
    generator = np.random.default_rng(5)
    points = generator.normal(size=(12, 3))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    names = tuple(f"a{number}" for number in range(12))
    losses = Losses(names, names, distance * np.arange(1, 13)[:, None], np.full(12, 9.0), (1,) * 12)
    own = list(range(12))
    assert likeness_foretells(losses, -distance, own) == (pytest.approx(1.0), 0.001)
    rho, p_value = likeness_foretells(losses, generator.normal(size=(12, 12)), own)
    assert rho is not None and p_value is not None
    assert abs(rho) < 0.3 and p_value > 0.05
    from scipy.stats import spearmanr

    likeness = generator.normal(size=(12, 12))
    slow = [
        spearmanr(np.delete(likeness[place], place), -np.delete(losses.values[place], place)).statistic
        for place in range(12)
    ]
    assert likeness_foretells(losses, likeness, own)[0] == pytest.approx(np.mean(slow))
    assert likeness_foretells(losses, likeness, [None] * 10 + [1, 2]) == (None, None)


@pytest.mark.parametrize("seed", range(12))
def test_orders_that_give_the_same_rho_count_in_mantels_test(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = 4
    names = tuple(f"a{number}" for number in range(count))
    losses = Losses(names, names, generator.normal(size=(count, count)), np.zeros(count), (1,) * count)
    likeness = generator.normal(size=(count, count))
    likeness = likeness + likeness.T

    def slow(order: list[int]) -> Fraction:
        """Sum over tasks of rho times 2, exactly: 3 ranks without ties, rho = 1 - sum d^2 / 4."""
        total = Fraction(0)
        for place in range(count):
            rest = [other for other in range(count) if other != place]
            gain = rankdata([-losses.values[place, other] for other in rest])
            like = rankdata([likeness[order[place], order[other]] for other in rest])
            total += 1 - Fraction(int(((gain - like) ** 2).sum()), 4)
        return total

    rho, p_value = likeness_foretells(losses, likeness, list(range(count)), seed)
    found = slow(list(range(count)))
    relabelled = np.random.default_rng(seed)
    as_large = sum(slow(list(relabelled.permutation(count))) >= found for _ in range(999))
    assert rho == pytest.approx(float(found) / count)
    assert p_value == (as_large + 1) / 1000
