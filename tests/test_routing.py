"""Routers, site banks and the routed linear module: against the obvious version, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles import arrow_at, arrow_weights, dense_prototype, mixed_output
from routed_samples import make_adapter, make_update, random_adapter
from torch import nn
from transformers.pytorch_utils import Conv1D

from explorer.adapters.adapter import Adapter
from explorer.adapters.low_rank import LowRank
from explorer.errors import BaseModelError, SettingsError
from explorer.routers import ROUTERS, Arrow, Base, Single, Uniform, Weighted, describe, make_router
from explorer.routing.bank import build_banks
from explorer.routing.prototypes import prototypes
from explorer.routing.routed_linear import PassSlot, RoutedLinear, linear_shape, mixed_update
from explorer.routing.router import Router, SiteBank
from explorer.routing.routing_pass import RoutingPass

CPU = torch.device("cpu")
SITE, OTHER = "layers.0.proj", "layers.1.proj"


def adapters_of(count: int = 6, *, missing: tuple[int, ...] = ()) -> list[Adapter]:
    """Mixed ranks at SITE (10 out, 12 in); those in `missing` have only OTHER."""
    return [
        random_adapter(f"a{number}", {OTHER if number in missing else SITE: (10, 12)}, rank=1 + number % 4, seed=number)
        for number in range(count)
    ]


def bank_of(adapters: list[Adapter], site: str = SITE) -> SiteBank:
    return build_banks(adapters, CPU, torch.float32)[site]


def inputs(tokens: int = 7, size: float = 3.0, seed: int = 5) -> torch.Tensor:
    return size * torch.randn(tokens, 12, generator=torch.Generator().manual_seed(seed))


def every_router(names: tuple[str, ...]) -> list[Router]:
    """One router of each registered kind at least."""
    settings = {"single": {"name": names[0]}, "weighted": {"weights": {names[0]: 0.5, names[-1]: -2.0}}}
    return [make_router(key, **settings.get(key, {})) for key in ROUTERS] + [
        Arrow(top_k=1),
        Arrow(top_k=100, temperature=0.1),
        Arrow(unit_norm=True, temperature=0.05),
    ]


# -- prototypes and banks


@pytest.mark.parametrize(("d_out", "rank", "d_in"), [(20, 4, 30), (30, 4, 20), (5, 8, 6), (4, 1, 9)])
def test_prototypes_equal_the_dense_svd(d_out: int, rank: int, d_in: int) -> None:
    updates = [make_update(d_out, d_in, rank, seed) for seed in range(20)]
    for vector, update in zip(prototypes(updates), updates, strict=True):
        assert abs(float(vector.double() @ dense_prototype(update))) > 1 - 1e-5
        assert float(vector.norm()) == pytest.approx(1, abs=1e-6)


def test_prototypes_of_mixed_shapes_keep_their_order_and_report_progress() -> None:
    updates = [make_update(8 + seed % 3, 12, 1 + seed % 4, seed) for seed in range(30)]
    seen: list[int] = []
    for vector, update in zip(prototypes(updates, seen.append), updates, strict=True):
        assert abs(float(vector @ update.spectrum().vh[0])) > 1 - 1e-5
    assert seen == sorted(seen)
    assert seen[-1] == 30


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


def test_banks_stack_present_adapters_only() -> None:
    adapters = adapters_of(6, missing=(1, 4))
    banks = build_banks(adapters, CPU, torch.float32)
    assert list(banks) == [SITE, OTHER]
    bank = banks[SITE]
    assert bank.present.tolist() == [True, False, True, True, False, True]
    assert bank.owners.tolist() == [0] + [2] * 3 + [3] * 4 + [5] * 2
    assert not bank.prototypes[1].any()
    assert not bank.complete
    mine = bank.owners == 3
    torch.testing.assert_close(bank.b[:, mine] @ bank.a[mine], adapters[3].updates[SITE].dense())


def test_factors_take_the_models_dtype_and_prototypes_stay_float32() -> None:
    bank = build_banks(adapters_of(), CPU, torch.bfloat16)[SITE]
    assert (bank.a.dtype, bank.b.dtype, bank.prototypes.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)


# -- every router keeps the contract


@pytest.mark.parametrize("missing", [(), (1, 4)])
@pytest.mark.parametrize("place", range(len(ROUTERS) + 3))
def test_contract(place: int, missing: tuple[int, ...]) -> None:
    adapters = adapters_of(6, missing=missing)
    bank = bank_of(adapters)
    router = every_router(bank.names)[place]
    router.check(bank.names)
    hidden = inputs().reshape(1, 7, 12)
    decision = router.decide(bank, hidden)
    assert decision.weights.shape == decision.scores.shape == (1, 7, 6)
    assert decision.weights.dtype == decision.scores.dtype == torch.float32
    assert torch.isfinite(decision.weights).all()
    assert torch.equal(torch.isnan(decision.scores), (~bank.present).expand(1, 7, 6))
    assert not decision.weights[..., ~bank.present].any()
    if router.key != "weighted":
        assert (decision.weights >= 0).all()
        assert (decision.weights.sum(-1) <= 1 + 1e-6).all()
    if router.key == "arrow":
        torch.testing.assert_close(decision.weights.sum(-1), torch.ones(1, 7))
    assert not (router.uses_adapters is False and decision.weights.any())
    assert router.label and router.title and router.key in ROUTERS
    again = router.decide(bank, hidden[:, 2:5])  # a token's weights do not depend on the others
    torch.testing.assert_close(again.weights, decision.weights[:, 2:5])


def test_fixed_weights() -> None:
    bank = bank_of(adapters_of(4))
    hidden = inputs(2)
    assert Base().decide(bank, hidden).weights.tolist() == [[0, 0, 0, 0]] * 2
    assert Single("a2").decide(bank, hidden).weights.tolist() == [[0, 0, 1, 0]] * 2
    assert Uniform().decide(bank, hidden).weights.tolist() == [[0.25] * 4] * 2
    given = Weighted({"a3": 2.0, "a0": -0.5}).decide(bank, hidden)
    assert given.weights.tolist() == given.scores.tolist() == [[-0.5, 0, 0, 2.0]] * 2


# -- Arrow


@pytest.mark.parametrize("missing", [(), (0, 3)])
@pytest.mark.parametrize(("top_k", "temperature"), [(1, 1.0), (3, 1.0), (4, 0.25), (50, 2.0)])
def test_arrow_equals_an_independent_loop(top_k: int, temperature: float, missing: tuple[int, ...]) -> None:
    adapters = adapters_of(7, missing=missing)
    hidden = inputs(20)
    found = Arrow(top_k=top_k, temperature=temperature).decide(bank_of(adapters), hidden).weights
    expected = arrow_at(adapters, SITE, hidden, top_k, temperature)
    np.testing.assert_allclose(found.numpy(), np.array(expected), atol=1e-4)


def test_unit_norm_makes_the_length_of_the_input_meaningless() -> None:
    bank = bank_of(adapters_of())
    router = Arrow(unit_norm=True, temperature=0.1)
    small, large = router.decide(bank, inputs(size=0.1)), router.decide(bank, inputs(size=50.0))
    torch.testing.assert_close(small.weights, large.weights, atol=1e-5, rtol=0)
    assert (small.scores <= 1 + 1e-6).all()
    assert not torch.allclose(Arrow().decide(bank, inputs(size=0.1)).weights, Arrow().decide(bank, inputs()).weights)


def test_equal_scores_go_to_the_first_adapter() -> None:
    axis = torch.zeros(1, 12)
    axis[0, 4] = 1.0  # a prototype of zeros and a one leaves no rounding in the scores
    bank = bank_of([make_adapter(f"a{number}", {SITE: LowRank(axis, axis[:, :10].T, 1.0)}) for number in range(5)])
    weights = Arrow(top_k=2).decide(bank, inputs(3)).weights
    assert weights.tolist() == [[0.5, 0.5, 0, 0, 0]] * 3


def test_no_adapter_at_the_site_gives_no_weight() -> None:
    bank = bank_of(adapters_of(3))
    nobody = SiteBank(
        SITE,
        bank.names,
        torch.zeros(3, dtype=torch.bool),
        torch.zeros(3, 12),
        bank.a[:0],
        bank.b[:, :0],
        bank.owners[:0],
    )
    decision = Arrow(top_k=2).decide(nobody, inputs(2))
    assert not decision.weights.any()
    assert torch.isnan(decision.scores).all()
    assert not mixed_update(nobody, decision.weights, inputs(2)).any()


def test_a_zero_update_scores_zero_and_changes_nothing() -> None:
    zero = make_adapter("zero", {SITE: LowRank(torch.randn(2, 12), torch.zeros(10, 2), 1.0)})
    bank = bank_of([*adapters_of(2), zero])
    decision = Arrow(top_k=2).decide(bank, inputs())
    assert not decision.scores[:, 2].any()
    assert not decision.weights[:, 2].any()


def test_arrow_over_all_at_a_high_temperature_is_uniform() -> None:
    bank = bank_of(adapters_of(5))
    hot = Arrow(top_k=5, temperature=1e6).decide(bank, inputs()).weights
    torch.testing.assert_close(hot, Uniform().decide(bank, inputs()).weights, atol=1e-4, rtol=0)


def test_the_sign_of_a_prototype_does_not_matter() -> None:
    bank = bank_of(adapters_of())
    flipped = SiteBank(bank.site, bank.names, bank.present, -bank.prototypes, bank.a, bank.b, bank.owners)
    assert torch.equal(Arrow().decide(bank, inputs()).weights, Arrow().decide(flipped, inputs()).weights)


def test_the_basis_of_the_factors_does_not_matter() -> None:
    adapters = adapters_of(5)
    changed = []
    for seed, adapter in enumerate(adapters):
        update = adapter.updates[SITE]
        mix = torch.randn(update.rank, update.rank, generator=torch.Generator().manual_seed(seed)).double()
        a, b = (mix @ update.a.double()).float(), (update.b.double() @ torch.linalg.inv(mix)).float()
        changed.append(make_adapter(adapter.name, {SITE: LowRank(a, b, update.scale)}))
    one, two = bank_of(adapters), bank_of(changed)
    weights, same = Arrow(top_k=3).decide(one, inputs()).weights, Arrow(top_k=3).decide(two, inputs()).weights
    torch.testing.assert_close(weights, same, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        mixed_update(one, weights, inputs()), mixed_update(two, same, inputs()), atol=1e-4, rtol=1e-3
    )


def test_the_order_of_the_library_does_not_matter() -> None:
    adapters = adapters_of(6, missing=(2,))
    one, two = bank_of(adapters), bank_of(adapters[::-1])
    weights, mirrored = Arrow(top_k=3).decide(one, inputs()).weights, Arrow(top_k=3).decide(two, inputs()).weights
    torch.testing.assert_close(weights, mirrored.flip(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        mixed_update(one, weights, inputs()), mixed_update(two, mirrored, inputs()), atol=1e-5, rtol=1e-4
    )


def test_the_oracle_itself_on_a_case_done_by_hand() -> None:
    third = [math.exp(-1) / (1 + math.exp(-1)), 0.0, 1 / (1 + math.exp(-1)), 0.0]
    assert arrow_weights([1.0, None, 2.0, 0.5], top_k=2, temperature=1.0) == pytest.approx(third)


# -- the routed linear module


@pytest.mark.parametrize("count", [5, 40])  # 40 adapters have enough rows to pick the used ones first
@pytest.mark.parametrize("place", range(len(ROUTERS) + 3))
def test_mixture_equals_the_sum_of_the_adapters_outputs(place: int, count: int) -> None:
    adapters = adapters_of(count, missing=(1,))
    bank, hidden = bank_of(adapters), inputs()
    weights = every_router(bank.names)[place].decide(bank, hidden).weights
    expected = mixed_output(adapters, SITE, hidden, weights.tolist())
    torch.testing.assert_close(mixed_update(bank, weights, hidden).double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_each_row_has_its_own_router(kind: str) -> None:
    base = nn.Linear(12, 10) if kind == "linear" else Conv1D(10, 12)
    bank, slot = bank_of(adapters_of(5)), PassSlot()
    routed = RoutedLinear(base, bank, slot)
    x = inputs(24).reshape(4, 6, 12)
    routers = [Arrow(top_k=2), Base(), Single("a1"), Arrow(top_k=2)]
    slot.current = RoutingPass(routers, 6, record=[0, 1], device=CPU)
    with torch.no_grad():
        found, plain = routed(x), base(x)
        for row, router in enumerate(routers):
            slot.current = RoutingPass([router], 6, record=[], device=CPU)
            torch.testing.assert_close(found[row : row + 1], routed(x[row : row + 1]), atol=1e-5, rtol=1e-5)
        assert torch.equal(found[1], plain[1])
        slot.current = None
        assert torch.equal(routed(x), plain)


def test_rows_flattened_by_the_model_are_found_again() -> None:
    bank, slot = bank_of(adapters_of(5)), PassSlot()
    routed = RoutedLinear(nn.Linear(12, 10), bank, slot)
    x = inputs(8).reshape(2, 4, 12)
    slot.current = RoutingPass([Single("a1"), Base()], 4, record=[], device=CPU)
    with torch.no_grad():
        torch.testing.assert_close(routed(x.reshape(8, 12)).reshape(2, 4, 10), routed(x))


def test_a_module_that_sees_only_some_tokens_is_refused() -> None:
    bank, slot = bank_of(adapters_of(5)), PassSlot()
    slot.current = RoutingPass([Arrow()], 7, record=[], device=CPU)
    with pytest.raises(BaseModelError, match=r"layers\.0\.proj: does not see every token once.*expected 7 .* found 3"):
        RoutedLinear(nn.Linear(12, 10), bank, slot)(inputs(3))


def test_recorded_decisions_are_those_of_the_row() -> None:
    bank, slot = bank_of(adapters_of(5)), PassSlot()
    routed = RoutedLinear(nn.Linear(12, 10), bank, slot)
    x = inputs(12).reshape(3, 4, 12)
    slot.current = current = RoutingPass([Base(), Arrow(), Uniform()], 4, record=[0, 1], device=CPU)
    with torch.no_grad():
        routed(x)
    weights, scores = current.recorded(1, [SITE])
    expected = Arrow().decide(bank, x[1])
    np.testing.assert_array_equal(weights[0], expected.weights.numpy())
    np.testing.assert_array_equal(scores[0], expected.scores.numpy())
    assert not current.recorded(0, [SITE])[0].any()
    with pytest.raises(BaseModelError, match="is not used when this model reads text"):
        current.recorded(2, [SITE])


def test_linear_shape() -> None:
    assert linear_shape(nn.Linear(3, 5)) == (5, 3)
    assert linear_shape(Conv1D(5, 3)) == (5, 3)
    assert linear_shape(nn.Embedding(3, 5)) is None


# -- the menu


def test_make_router_and_describe() -> None:
    assert make_router("arrow", top_k=3) == Arrow(top_k=3)
    about = describe("arrow")
    assert (about.title, about.paper) == ("Arrow", "https://arxiv.org/abs/2405.11157")
    assert [entry.name for entry in about.settings] == ["top_k", "temperature", "unit_norm"]
    assert [entry.default for entry in about.settings] == [4, 1.0, False]
    assert describe("single").settings[0].kind == "adapter"


@pytest.mark.parametrize(
    ("router", "label"),
    [
        (Base(), "Base model"),
        (Single("math"), "Only math"),
        (Uniform(), "Uniform"),
        (Arrow(), "Arrow, top 4, T 1"),
        (Arrow(top_k=2, temperature=0.25, unit_norm=True), "Arrow, top 2, T 0.25, unit-norm input"),
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
            lambda: make_router("lag"),
            "Router 'lag': is not known. Choose from: arrow, base, single, uniform, weighted.",
        ),
        (lambda: make_router("arrow", k=3), "Router arrow: has no setting 'k'. It has: top_k, temperature, unit_norm."),
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
