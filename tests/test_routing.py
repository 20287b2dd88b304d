"""Routers: against the obvious version, what they promise, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from adapter_files import write_adapter
from oracles import arrow_at, arrow_weights, dense_prototype, lag_choice, spectr_score
from peft.utils.merge_utils import ties
from routed_samples import make_adapter, make_update
from routing_samples import (
    COUNT,
    OTHER,
    SITE,
    adapters_of,
    bank_of,
    every_router,
    inputs,
    seen_by,
)

from explorer.adapters.library import Library
from explorer.adapters.low_rank import LowRank
from explorer.adapters.sources import open_folder
from explorer.errors import ExplorerError, LibraryError, SettingsError
from explorer.routers import (
    ROUTERS,
    Arrow,
    Base,
    CalibratedArrow,
    Lag,
    LinearMerge,
    RandomControl,
    Single,
    SpectR,
    Ties,
    Uniform,
    Weighted,
    describe,
    make_router,
)
from explorer.routing.alignment import aligned, prototypes
from explorer.routing.bank import Bank, Memory, build_banks
from explorer.routing.observation import Observation
from explorer.routing.router import MergeRouter, Router
from explorer.routing.ties import trim

CPU = torch.device("cpu")


@pytest.fixture(params=["compiled loops", "tensor operations"])
def means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways of computing the same."""
    if request.param == "tensor operations":
        monkeypatch.setattr("explorer.routing.loops.compiled", lambda: None)
    with torch.no_grad():
        yield request.param


def weights_of(router: Router, bank: Bank, hidden: torch.Tensor) -> torch.Tensor:
    """(tokens, adapters) at the bank's only site."""
    return router.decide(seen_by(bank, hidden)).weights[:, 0]


# -- updates by their singular vectors


@pytest.mark.parametrize(("d_out", "rank", "d_in"), [(20, 4, 30), (30, 4, 20), (5, 8, 6), (4, 1, 9)])
def test_prototypes_equal_the_dense_svd(d_out: int, rank: int, d_in: int) -> None:
    updates = [make_update(d_out, d_in, rank, seed) for seed in range(20)]
    for vector, update in zip(prototypes(updates), updates, strict=True):
        assert abs(float(vector.double() @ dense_prototype(update))) > 1 - 1e-5
        assert float(vector.norm()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("d_out", "rank", "d_in"), [(20, 4, 30), (30, 4, 20), (5, 8, 6), (4, 1, 9)])
def test_aligning_changes_no_update(d_out: int, rank: int, d_in: int) -> None:
    updates = [make_update(d_out, d_in, rank, seed, size=0.5) for seed in range(5)]
    for one, update in zip(aligned(updates), updates, strict=True):
        torch.testing.assert_close(one.up.T @ one.down, update.dense(), atol=1e-5, rtol=1e-5)
        there = one.down.norm(dim=1) > 0
        torch.testing.assert_close(one.down[there] @ one.down[there].T, torch.eye(int(there.sum())), atol=1e-5, rtol=0)
        exact = torch.linalg.svdvals(update.dense().double())[: int(there.sum())]
        torch.testing.assert_close(one.up[there].double().norm(dim=1), exact, atol=1e-5, rtol=1e-4)


def test_prototypes_of_mixed_shapes_keep_their_order() -> None:
    updates = [make_update(8 + seed % 3, 12, 1 + seed % 4, seed) for seed in range(30)]
    for vector, update in zip(prototypes(updates), updates, strict=True):
        assert abs(float(vector @ update.spectrum().vh[0])) > 1 - 1e-5


def test_prototype_where_the_two_largest_singular_values_are_close() -> None:
    q_in, _ = torch.linalg.qr(torch.randn(30, 2, generator=torch.Generator().manual_seed(1)).double())
    q_out, _ = torch.linalg.qr(torch.randn(20, 2, generator=torch.Generator().manual_seed(2)).double())
    update = LowRank(torch.tensor([[1.0], [0.999]]).double() * q_in.T, q_out, 1.0)
    assert abs(float(prototypes([update])[0].double() @ q_in[:, 0])) > 1 - 1e-5


def test_the_prototype_of_a_zero_update_is_zero() -> None:
    zero = LowRank(torch.randn(3, 12), torch.zeros(10, 3), 2.0)
    assert not prototypes([zero])[0].any()


def test_a_rank_deficient_update_still_has_its_prototype() -> None:
    one = make_update(10, 12, 1, seed=3)
    padded = LowRank(torch.cat([one.a, one.a, torch.zeros(1, 12)]), torch.cat([one.b, one.b, one.b], dim=1), 1.0)
    assert abs(float(prototypes([padded])[0].double() @ dense_prototype(one))) > 1 - 1e-5
    torch.testing.assert_close(aligned([padded])[0].up.T @ aligned([padded])[0].down, padded.dense())


# -- turns kept between runs


def opened(folder: Path) -> Library:
    for number in range(3):
        write_adapter(folder / f"a{number}", seed=number)
    return open_folder(folder, source="test")


def same_banks(one: Sequence[Bank], two: Sequence[Bank]) -> bool:
    return all(
        torch.equal(mine.down, yours.down) and all(map(torch.equal, mine.up, yours.up))
        for mine, yours in zip(one, two, strict=True)
    )


def test_a_library_in_files_is_turned_once(tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = opened(tmp_path / "library")
    groups = [(site,) for site in library.sites]
    first = build_banks(library.adapters, groups, CPU, torch.float32)
    (file,) = results.glob("turns-*")
    fresh = Mock(side_effect=AssertionError("computed again"))
    with monkeypatch.context() as patch:
        patch.setattr("explorer.routing.known_turns.turns_of", fresh)
        assert same_banks(first, build_banks(library.adapters, groups, CPU, torch.float32))
    file.write_bytes(file.read_bytes()[:-9] + b"something")
    assert same_banks(first, build_banks(library.adapters, groups, CPU, torch.float32)), "a damaged file is no result"
    write_adapter(tmp_path / "library" / "a1", seed=77)
    changed = open_folder(tmp_path / "library", source="test")
    assert not same_banks(first, build_banks(changed.adapters, groups, CPU, torch.float32))


def test_adapters_in_memory_are_not_kept(results: Path) -> None:
    bank_of(adapters_of())
    assert not list(results.glob("*"))


# -- banks


def test_a_bank_stacks_present_adapters_only() -> None:
    adapters = adapters_of(6, missing=(1, 4))
    bank = bank_of(adapters, SITE, OTHER)
    assert bank.present.tolist() == [[True, False, True, True, False, True], [False, True, False, False, True, False]]
    assert bank.owners.tolist() == [0] + [2] * 3 + [3] * 4 + [5] * 2 + [7] * 2 + [10] * 1 + [0]
    assert bank.starts == (0, 10, 13)
    assert not bank.down[-1].any()
    assert not bank.directions[1].any()
    assert not bank.complete
    for site, name in enumerate((SITE, OTHER)):
        for index, adapter in enumerate(adapters):
            if name in adapter.updates:
                down, up = bank.update(site, index)
                torch.testing.assert_close(up.T @ down, adapter.updates[name].dense(), atol=1e-5, rtol=1e-5)


def test_rows_take_the_models_dtype_and_prototypes_stay_float32() -> None:
    bank = bank_of(adapters_of(), dtype=torch.bfloat16)
    assert {bank.down.dtype, *(up.dtype for up in bank.up)} == {torch.bfloat16}
    assert bank.directions.dtype == torch.float32


def test_banks_follow_the_groups_and_report_progress() -> None:
    seen: list[tuple[int, int]] = []
    banks = build_banks(
        adapters_of(6, missing=(1,)), [(OTHER,), (SITE,)], CPU, torch.float32, lambda *n: seen.append(n)
    )
    assert [bank.sites for bank in banks] == [(OTHER,), (SITE,)]
    assert seen == [(1, 2), (2, 2)]


def test_twins_are_found_whatever_the_sign() -> None:
    one = adapters_of(3)
    update = one[0].updates[SITE]
    mirrored = make_adapter("mirrored", {SITE: LowRank(-update.a, update.b, update.scale)})
    assert not bank_of(one).twins
    assert bank_of([*one, mirrored]).twins
    assert not bank_of(adapters_of(6, missing=(1, 4))).twins, "two that lack a site are no twins"


# -- every router keeps the contract


@pytest.mark.parametrize("missing", [(), (1, 4)])
@pytest.mark.parametrize("place", range(COUNT))
def test_contract(place: int, missing: tuple[int, ...], means: str) -> None:
    bank = bank_of(adapters_of(6, missing=missing))
    router = every_router(bank.names)[place]
    router.check(bank.names)
    decision = router.decide(seen_by(bank, inputs()))
    assert decision.weights.shape == decision.scores.shape == (7, 1, 6)
    assert decision.weights.dtype == decision.scores.dtype == torch.float32
    assert torch.isfinite(decision.weights).all()
    assert torch.equal(torch.isnan(decision.scores), (~bank.present).expand(7, 1, 6))
    assert not decision.weights[:, ~bank.present].any()
    if router.key != "weighted":
        assert (decision.weights >= 0).all()
        assert (decision.weights.sum(-1) <= 1 + 1e-6).all()
    if router.key not in ("weighted", "uniform", "base", "single"):
        torch.testing.assert_close(decision.weights.sum(-1), torch.ones(7, 1))
    assert not (router.uses_adapters is False and decision.weights.any())
    assert router.label and router.title and router.key in ROUTERS
    assert hash(router) == hash(every_router(bank.names)[place])
    again = router.decide(seen_by(bank, inputs()[2:5]))  # a token's weights do not depend on the others
    torch.testing.assert_close(again.weights, decision.weights[2:5])


@pytest.mark.parametrize("place", range(COUNT))
def test_no_adapter_at_a_site_gives_no_weight_there(place: int, means: str) -> None:
    adapters = adapters_of(4, missing=(0, 1))
    bank = bank_of(adapters, SITE, OTHER)
    for site in range(2):
        decision = every_router(bank.names)[place].decide(seen_by(bank, inputs()))
        assert not decision.weights[:, site][:, ~bank.present[site]].any()


@pytest.mark.parametrize("place", range(COUNT))
def test_the_basis_of_the_factors_does_not_matter(place: int) -> None:
    adapters, changed = adapters_of(5), []
    for seed, adapter in enumerate(adapters):
        update = adapter.updates[SITE]
        mix = torch.randn(update.rank, update.rank, generator=torch.Generator().manual_seed(seed)).double()
        a, b = (mix @ update.a.double()).float(), (update.b.double() @ torch.linalg.inv(mix)).float()
        changed.append(make_adapter(adapter.name, {SITE: LowRank(a, b, update.scale)}))
    one, two = bank_of(adapters), bank_of(changed)
    router = every_router(one.names)[place]
    tolerance = 2e-2 if router.key == "ties" else 1e-4  # an entry at the edge of the trim may fall either way
    torch.testing.assert_close(
        weights_of(router, one, inputs()), weights_of(router, two, inputs()), atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("place", range(COUNT))
def test_the_order_of_the_library_does_not_matter(place: int, means: str) -> None:
    adapters = adapters_of(6, missing=(2,))
    one, two = bank_of(adapters), bank_of(adapters[::-1])
    router = every_router(one.names)[place]
    mirrored = weights_of(router, two, inputs()).flip(-1)
    torch.testing.assert_close(weights_of(router, one, inputs()), mirrored, atol=1e-5, rtol=0)


@pytest.mark.parametrize("place", range(COUNT))
def test_the_sign_of_a_singular_vector_does_not_matter(place: int) -> None:
    bank = bank_of(adapters_of())
    flipped = replace(
        bank, down=-bank.down, directions=-bank.directions, up=tuple(-up for up in bank.up), memory=Memory()
    )
    router = every_router(bank.names)[place]
    assert torch.equal(weights_of(router, bank, inputs()), weights_of(router, flipped, inputs()))


def test_fixed_weights() -> None:
    bank = bank_of(adapters_of(4))
    hidden = inputs(2)
    assert weights_of(Base(), bank, hidden).tolist() == [[0, 0, 0, 0]] * 2
    assert weights_of(Single("a2"), bank, hidden).tolist() == [[0, 0, 1, 0]] * 2
    assert weights_of(Uniform(), bank, hidden).tolist() == [[0.25] * 4] * 2
    given = Weighted({"a3": 2.0, "a0": -0.5}).decide(seen_by(bank, hidden))
    assert given.weights.tolist() == given.scores.tolist() == [[[-0.5, 0, 0, 2.0]]] * 2


# -- Arrow and its kin


@pytest.mark.parametrize("missing", [(), (0, 3)])
@pytest.mark.parametrize(("top_k", "temperature"), [(1, 1.0), (3, 1.0), (4, 0.25), (50, 2.0)])
def test_arrow_equals_an_independent_loop(top_k: int, temperature: float, missing: tuple[int, ...], means: str) -> None:
    adapters = adapters_of(7, missing=missing)
    hidden = inputs(20)
    found = weights_of(Arrow(top_k=top_k, temperature=temperature), bank_of(adapters), hidden)
    expected = arrow_at(adapters, SITE, hidden, top_k, temperature)
    np.testing.assert_allclose(found.numpy(), np.array(expected), atol=1e-4)


@pytest.mark.parametrize("missing", [(), (0, 3)])
def test_spectr_equals_an_independent_loop(missing: tuple[int, ...], means: str) -> None:
    adapters, hidden = adapters_of(7, missing=missing), inputs(20)
    decision = SpectR(top_k=3, temperature=0.5).decide(seen_by(bank_of(adapters), hidden))
    for token, h in enumerate(hidden):
        scores = [spectr_score(one.updates[SITE], h) if SITE in one.updates else None for one in adapters]
        known = [math.nan if score is None else score for score in scores]
        np.testing.assert_allclose(decision.scores[token, 0].numpy(), known, atol=1e-4)
        np.testing.assert_allclose(decision.weights[token, 0].numpy(), arrow_weights(scores, 3, 0.5), atol=1e-4)


@pytest.mark.parametrize("missing", [(), (0, 3)])
@pytest.mark.parametrize("short_list", [1, 3, 20])
def test_lag_equals_an_independent_loop(short_list: int, missing: tuple[int, ...]) -> None:
    adapters, hidden = adapters_of(7, missing=missing), inputs(20)
    weights = weights_of(Lag(top_k=short_list), bank_of(adapters), hidden)
    chosen = [lag_choice(adapters, SITE, h, short_list) for h in hidden]
    assert weights.argmax(dim=-1).tolist() == chosen
    assert weights.sum(-1).tolist() == [1.0] * 20


def test_identities_between_routers() -> None:
    bank, hidden = bank_of(adapters_of(6, missing=(2,))), inputs(40)
    assert torch.equal(weights_of(Lag(top_k=1), bank, hidden), weights_of(Arrow(top_k=1), bank, hidden))
    assert torch.equal(weights_of(Lag(top_k=6), bank, hidden), weights_of(SpectR(top_k=1), bank, hidden))
    lone = bank_of(adapters_of(6, rank=1))
    torch.testing.assert_close(weights_of(SpectR(), lone, hidden), weights_of(Arrow(), lone, hidden))


def test_calibrated_arrow_divides_by_what_any_text_scores() -> None:
    bank, hidden = bank_of(adapters_of(6)), inputs(20)
    seen = Observation(bank, hidden, neutral=torch.tensor([[1.0, 2.0, 0.5, 4.0, 1.0, 1.0]]))
    found = CalibratedArrow(top_k=2, temperature=0.5).decide(seen)
    for token, scores in enumerate(seen.along[:, 0].double().tolist()):
        divided = [score / mean for score, mean in zip(scores, [1.0, 2.0, 0.5, 4.0, 1.0, 1.0], strict=True)]
        np.testing.assert_allclose(found.weights[token, 0].numpy(), arrow_weights(divided, 2, 0.5), atol=1e-5)


def test_calibrated_arrow_wants_its_neutral_prompts() -> None:
    with pytest.raises(
        ExplorerError, match=r"^Calibrated Arrow: has no neutral prompts to go by here\. Use it through"
    ):
        CalibratedArrow().decide(Observation(bank_of(adapters_of()), inputs()))


def test_the_random_control_depends_on_its_seed_and_on_names_alone() -> None:
    adapters, hidden = adapters_of(6), inputs(30)
    one = weights_of(RandomControl(seed=1), bank_of(adapters), hidden)
    assert torch.equal(one, weights_of(RandomControl(seed=1), bank_of(adapters), hidden))
    assert not torch.equal(one, weights_of(RandomControl(seed=2), bank_of(adapters), hidden))
    others = [make_adapter(adapter.name, {SITE: make_update(10, 12, 2, 77)}) for adapter in adapters]
    assert torch.equal(one, weights_of(RandomControl(seed=1), bank_of(others), hidden)), "the updates have no part"


def test_unit_norm_makes_the_length_of_the_input_meaningless() -> None:
    bank = bank_of(adapters_of())
    router = Arrow(unit_norm=True, temperature=0.1)
    small, large = (router.decide(seen_by(bank, inputs(size=size))) for size in (0.1, 50.0))
    torch.testing.assert_close(small.weights, large.weights, atol=1e-5, rtol=0)
    assert (small.scores <= 1 + 1e-6).all()
    plain = [weights_of(Arrow(), bank, inputs(size=size)) for size in (0.1, 3.0)]
    assert not torch.allclose(*plain)


def test_equal_scores_go_to_the_first_adapter(means: str) -> None:
    axis = torch.zeros(1, 12)
    axis[0, 4] = 1.0  # a prototype of zeros and a one leaves no rounding in the scores
    bank = bank_of([make_adapter(f"a{number}", {SITE: LowRank(axis, axis[:, :10].T, 1.0)}) for number in range(5)])
    for router in (Arrow(top_k=2), SpectR(top_k=2)):
        assert weights_of(router, bank, inputs(3)).tolist() == [[0.5, 0.5, 0, 0, 0]] * 3
    assert weights_of(Lag(top_k=3), bank, inputs(3)).tolist() == [[1.0, 0, 0, 0, 0]] * 3


def test_a_zero_update_scores_zero_and_changes_nothing() -> None:
    zero = make_adapter("zero", {SITE: LowRank(torch.randn(2, 12), torch.zeros(10, 2), 1.0)})
    bank = bank_of([*adapters_of(2), zero])
    for router in (Arrow(top_k=2), SpectR(top_k=2), CalibratedArrow(top_k=2)):
        decision = router.decide(seen_by(bank, inputs()))
        assert not decision.scores[:, 0, 2].any()
        assert not decision.weights[:, 0, 2].any()


def test_arrow_over_all_at_a_high_temperature_is_uniform() -> None:
    bank = bank_of(adapters_of(5))
    hot = weights_of(Arrow(top_k=5, temperature=1e6), bank, inputs())
    torch.testing.assert_close(hot, weights_of(Uniform(), bank, inputs()), atol=1e-4, rtol=0)


def test_the_oracle_itself_on_a_case_done_by_hand() -> None:
    third = [math.exp(-1) / (1 + math.exp(-1)), 0.0, 1 / (1 + math.exp(-1)), 0.0]
    assert arrow_weights([1.0, None, 2.0, 0.5], top_k=2, temperature=1.0) == pytest.approx(third)


# -- merges


@pytest.mark.parametrize("density", [0.1, 0.37, 0.999])
def test_ties_equals_pefts(density: float) -> None:
    adapters = adapters_of(5)
    merged = Ties(density=density).merge(bank_of(adapters), 0)
    updates = [adapter.updates[SITE].dense() for adapter in adapters]
    expected = ties(updates, torch.ones(5), density, "total")
    torch.testing.assert_close(merged.dense, expected, atol=1e-5, rtol=1e-4)


def test_the_shares_of_a_ties_merge_add_up_to_it() -> None:
    adapters = adapters_of(5, missing=(3,))
    merged = Ties(density=0.4).merge(bank_of(adapters), 0)
    assert float(merged.shares.sum()) == pytest.approx(1, abs=1e-6)
    assert float(merged.shares[3]) == 0.0
    alone = Ties(density=1.0).merge(bank_of(adapters[:1]), 0)
    torch.testing.assert_close(alone.dense, adapters[0].updates[SITE].dense(), atol=1e-5, rtol=1e-5)
    assert alone.shares.tolist() == [1.0]


def test_a_ties_merge_that_would_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.routing.ties.MOST_BYTES", 1 << 10)
    with pytest.raises(LibraryError) as caught:
        Ties().merge(bank_of(adapters_of(5)), 0)
    assert caught.value.sentence == (
        "TIES merge, module layers.0.proj: is too large for so many adapters, expected at most 0 MB written out, "
        "found 0 MB. Merge a part of the library."
    )


def test_trimming_keeps_the_largest_entries() -> None:
    update = torch.tensor([[1.0, -5.0, 2.0], [0.5, 3.0, -4.0]])
    assert trim(update, 0.5).tolist() == [[0, -5.0, 0], [0, 3.0, -4.0]]
    assert trim(update, 0.001).tolist() == [[0, -5.0, 0], [0, 0, 0]]


@pytest.mark.parametrize("rank", [1, 2, 5, 100])
def test_a_cut_linear_merge_is_the_nearest_of_its_rank(rank: int) -> None:
    adapters = adapters_of(5, missing=(1,))
    merged = LinearMerge(rank=rank, weights={"a0": 1.0, "a3": -0.5, "a4": 2.0}).merge(bank_of(adapters), 0)
    whole = sum(w * adapters[n].updates[SITE].dense().double() for n, w in ((0, 1.0), (3, -0.5), (4, 2.0)))
    u, s, vh = torch.linalg.svd(whole, full_matrices=False)
    nearest = (u[:, :rank] * s[:rank]) @ vh[:rank]
    torch.testing.assert_close((merged.up.T @ merged.down).double(), nearest, atol=1e-5, rtol=1e-4)
    assert merged.energy == pytest.approx(float(s[:rank].square().sum()), rel=1e-4)
    assert merged.full_energy == pytest.approx(float(s.square().sum()), rel=1e-4)


def test_merges_are_computed_once() -> None:
    bank = bank_of(adapters_of())
    router = Ties()
    assert isinstance(router, MergeRouter)
    assert router.merged(bank) is Ties().merged(bank)
    assert router.merged(bank) is not Ties(density=0.5).merged(bank)


# -- the menu


def test_make_router_and_describe() -> None:
    assert make_router("arrow", top_k=3) == Arrow(top_k=3)
    about = describe("arrow")
    assert (about.title, about.paper) == ("Arrow", "https://arxiv.org/abs/2405.11157")
    names = ["top_k", "temperature", "unit_norm", "per_prompt", "average_factors"]
    assert [entry.name for entry in about.settings] == names
    assert [entry.default for entry in about.settings] == [4, 1.0, False, False, False]
    assert describe("calibrated").needs == "ten neutral prompts, which come along"
    assert describe("single").settings[0].kind == "adapter"


@pytest.mark.parametrize(
    ("router", "label"),
    [
        (Base(), "Base model"),
        (Single("math"), "Only math"),
        (Uniform(), "Uniform"),
        (Arrow(), "Arrow, top 4, T 1"),
        (Arrow(top_k=2, temperature=0.25, unit_norm=True), "Arrow, top 2, T 0.25, unit-norm input"),
        (Arrow(per_prompt=True, average_factors=True), "Arrow, top 4, T 1, per prompt, factors averaged"),
        (CalibratedArrow(), "Calibrated Arrow, top 4, T 0.25"),
        (SpectR(top_k=1, per_prompt=True), "SpectR, top 1, T 1, per prompt"),
        (Lag(), "LAG, the best of Arrow's top 20"),
        (RandomControl(seed=3), "Random prototypes, top 4, T 1, seed 3"),
        (Uniform(average_factors=True), "Uniform, factors averaged"),
        (LinearMerge(), "Linear merge: the mean"),
        (LinearMerge(rank=8, weights={"a": 0.5}), "Linear merge: a 0.5, rank 8"),
        (Ties(density=0.1), "TIES merge, density 0.1"),
        (Weighted({"a": 0.5, "b": -1}), "Weighted: b -1, a 0.5"),
        (Weighted({name: 1.0 for name in "abcdef"}), "Weighted: a 1, b 1, c 1, d 1 and 2 more"),
    ],
)
def test_labels(router: Router, label: str) -> None:
    assert router.label == label


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_router("nearest"),
            "Router 'nearest': is not known. Choose from: arrow, calibrated, spectr, lag, single, uniform, weighted, "
            "linear, ties, random, base.",
        ),
        (
            lambda: make_router("arrow", k=3),
            "Router arrow: has no setting 'k'. It has: top_k, temperature, unit_norm, per_prompt, average_factors.",
        ),
        (lambda: Ties(density=0), "Density: expected a number from 0.001 to 1, found 0."),
        (lambda: LinearMerge(rank=-1), "Rank: expected a whole number from 0 to 4096, found -1."),
        (
            lambda: LinearMerge(weights={"a": math.nan}),
            "Weight of 'a': expected a number from -1000 to 1000, found nan.",
        ),
        (lambda: Lag(top_k=0), "Short list: expected a whole number from 1 to 10000, found 0."),
        (lambda: RandomControl(seed=-1), "Seed: expected a whole number from 0 to 999999, found -1."),
        (lambda: make_router("base", k=3), "Router base: has no setting 'k'. It has: none."),
        (lambda: make_router("single"), "Router single: needs 'name'. The one adapter to use."),
        (lambda: Arrow(top_k=0), "Top k: expected a whole number from 1 to 10000, found 0."),
        (lambda: Arrow(top_k=2.5), "Top k: expected a whole number from 1 to 10000, found 2.5."),
        (lambda: Arrow(top_k=True), "Top k: expected a whole number from 1 to 10000, found True."),
        (lambda: Arrow(temperature=0), "Temperature T: expected a number from 1e-06 to 1e+06, found 0."),
        (lambda: Arrow(temperature=math.nan), "Temperature T: expected a number from 1e-06 to 1e+06, found nan."),
        (lambda: Arrow(unit_norm="yes"), "Unit-norm input: expected true or false, found 'yes'."),
        (lambda: Single(""), "Adapter: expected the name of an adapter, found ''."),
        (lambda: Weighted({}), "Weights: expected a number for at least one adapter, found {}."),
        (lambda: Weighted({"a": math.inf}), "Weight of 'a': expected a number from -1000 to 1000, found inf."),
        (lambda: Weighted({"a": True}), "Weight of 'a': expected a number from -1000 to 1000, found True."),
        (
            lambda: Single("x").check(("a", "b")),
            "Adapter 'x': is not one that can be routed here. Choose from: a, b.",
        ),
        (
            lambda: Weighted({"a": 1.0, "x": 1.0}).check(("a", "b")),
            "Adapter 'x': is not one that can be routed here. Choose from: a, b.",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(make, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make()
    assert caught.value.sentence == message


def test_weights_are_copied_and_equal_routers_are_equal() -> None:
    given = {"a": 1.0}
    router = Weighted(given)
    given["a"] = 5.0
    assert router == Weighted({"a": 1.0})
    assert hash(router) == hash(Weighted({"a": 1.0}))
    assert router != Weighted({"a": 2.0})
