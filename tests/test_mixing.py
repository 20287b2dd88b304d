"""Every way of mixing gives what the slow loop gives, for every router, whoever else is in the batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from oracles import averaged_factors, mixed_output
from routed_samples import make_update, random_adapter
from routing_samples import (
    AVERAGED,
    COUNT,
    OTHER,
    PER_PROMPT,
    SITE,
    WIDTH,
    Routed,
    adapters_of,
    bank_of,
    every_router,
    inputs,
    seen_by,
)
from torch import nn
from transformers.pytorch_utils import Conv1D

from explorer.adapters.adapter import Adapter
from explorer.errors import BaseModelError, SettingsError
from explorer.routers import Arrow, Base, LinearMerge, Single, SpectR, Ties, Uniform, Weighted
from explorer.routing.bank import Bank
from explorer.routing.dots import chosen_dots
from explorer.routing.factor_mean import stored_factors
from explorer.routing.routed_linear import PassSlot, RoutedLinear, linear_shape
from explorer.routing.router import MergeRouter, Router
from explorer.routing.routing_pass import RoutingPass
from explorer.routing.ways import Plan

CPU = torch.device("cpu")
WAYS = list(itertools.product(["loops", "tensors"], ["dense", "sparse"]))


@pytest.fixture(params=WAYS, ids=lambda pair: " ".join(pair))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Forces one way for all routers that score."""
    means, shape = request.param
    if means == "tensors":
        monkeypatch.setattr("explorer.routing.loops.compiled", lambda: None)
    monkeypatch.setattr("explorer.routing.ways.prefers_sparse", lambda *_: shape == "sparse")
    return shape


def slowly(adapters: list[Adapter], bank: Bank, site: int, router: Router, x: torch.Tensor) -> torch.Tensor:
    """What one row gets at a site, (tokens, d_out) float64, one adapter and one token at a time."""
    if isinstance(router, MergeRouter):
        merged = router.merge(bank, site)
        delta = merged.dense if merged.dense is not None else merged.up.T @ merged.down
        return x.double() @ delta.double().T
    if router in PER_PROMPT:
        plain = type(router)(top_k=router.top_k, temperature=router.temperature)
        seen = seen_by(bank, x)
        mean = plain.score(seen).mean(dim=0, keepdim=True).expand(len(x), -1, -1)
        weights = plain.keep(mean, seen).dense(len(adapters))[:, site]
    else:
        weights = router.decide(seen_by(bank, x)).weights[:, site]
    mix = averaged_factors if router.averages_factors else mixed_output
    return mix(adapters, bank.sites[site], x, weights.tolist())


def check(adapters: list[Adapter], routers: list[Router], rows: int = 1, tokens: int = 5, *sites: str) -> None:
    bank = bank_of(adapters, *(sites or (SITE,)))
    x = inputs(rows * tokens).reshape(rows, tokens, WIDTH)
    batch = [routers[row % len(routers)] for row in range(rows)]
    found = Routed(adapters, bank).run(x, batch)
    for site, added in enumerate(found):
        for row, router in enumerate(batch):
            expected = slowly(adapters, bank, site, router, x[row])
            torch.testing.assert_close(added[row].double(), expected, atol=1e-4, rtol=1e-4, msg=f"{router.label}")


# -- one router at a time


@pytest.mark.parametrize("tokens", [1, 5, 300])
@pytest.mark.parametrize("place", range(COUNT))
def test_every_router_mixes_as_the_slow_loop_does(place: int, tokens: int, way: str) -> None:
    """Mixed ranks, one adapter without the site; 300 tokens are too many for the compiled loops of some."""
    adapters = adapters_of(6, missing=(1,))
    check(adapters, [every_router(tuple(one.name for one in adapters))[place]], 1, tokens)


@pytest.mark.parametrize("place", range(COUNT))
def test_sites_that_share_their_input(place: int, way: str) -> None:
    adapters = [
        random_adapter(f"a{n}", {SITE: (10, WIDTH), OTHER: (10, WIDTH)} if n != 2 else {OTHER: (10, WIDTH)}, seed=n)
        for n in range(5)
    ]
    check(adapters, [every_router(tuple(one.name for one in adapters))[place]], 2, 3, SITE, OTHER)


@pytest.mark.parametrize("router", PER_PROMPT, ids=lambda router: router.label)
def test_one_decision_for_a_prompt(router: Router, way: str) -> None:
    check(adapters_of(6, missing=(1,)), [router], 2, 4)


@pytest.mark.parametrize("missing", [(), (1,)])
@pytest.mark.parametrize("router", AVERAGED, ids=lambda router: router.label)
def test_averaged_factors_equal_the_slow_loop(router: Router, missing: tuple[int, ...], way: str) -> None:
    check(adapters_of(5, missing=missing, rank=3), [router], 2, 4)


def test_factors_of_different_ranks_have_no_mean() -> None:
    adapters = adapters_of(3)
    with pytest.raises(SettingsError) as caught:
        stored_factors(adapters, bank_of(adapters))
    assert caught.value.sentence == (
        "Average factors: expected equal ranks, found rank 1 of a0 and rank 2 of a1 in layers.0.proj. "
        "Mix the outputs instead."
    )


def test_averaging_the_factors_of_one_adapter_is_that_adapter(way: str) -> None:
    adapters = adapters_of(1, rank=3)
    bank, x = bank_of(adapters), inputs(4)[None]
    alone = Routed(adapters, bank).run(x, [Single("a0")])[0]
    for router in AVERAGED:
        torch.testing.assert_close(Routed(adapters, bank).run(x, [router])[0], alone, atol=1e-5, rtol=1e-5)


# -- many rows, many routers


@pytest.mark.parametrize("rows", range(1, 9))
def test_batches_of_one_to_eight_rows(rows: int, way: str) -> None:
    adapters = adapters_of(7, missing=(3,))
    names = tuple(one.name for one in adapters)
    check(adapters, [Arrow(top_k=2), *every_router(names), *PER_PROMPT][: rows + 1][::-1], rows, 3)


def test_all_routers_in_one_batch(way: str) -> None:
    adapters = adapters_of(9, rank=2, missing=(3,))
    names = tuple(one.name for one in adapters)
    routers = [*every_router(names), *PER_PROMPT, *AVERAGED]
    check(adapters, routers, len(routers), 2)


def test_rows_of_one_router_need_not_lie_together(way: str) -> None:
    check(adapters_of(6), [Arrow(top_k=2), Base(), Single("a1"), SpectR()], 8, 3)


@pytest.mark.parametrize("count", [1, 2, 40, 130])
def test_libraries_of_any_size_in_the_way_that_they_go_by_themselves(count: int) -> None:
    adapters = adapters_of(count, rank=2)
    names = tuple(one.name for one in adapters)
    for tokens in (1, 3, 70):
        check(adapters, [Arrow(), Uniform(), Single(names[-1]), SpectR()], 4, tokens)


def test_half_precision_is_as_good_as_its_numbers(way: str) -> None:
    adapters = adapters_of(6, missing=(1,))
    names = tuple(one.name for one in adapters)
    bank, exact = bank_of(adapters, dtype=torch.bfloat16), bank_of(adapters)
    x = inputs(12).reshape(3, 4, WIDTH).bfloat16()
    for router in every_router(names):
        if router.key == "ties":
            continue  # what rounding does to an entry at the edge of the trim has no bound
        found = Routed(adapters, bank).run(x, [router] * 3)[0].float()
        expected = Routed(adapters, exact, bases=[nn.Linear(WIDTH, 10)]).run(x.float(), [router] * 3)[0]
        error = (found - expected).norm() / expected.norm().clamp_min(1e-6)
        assert error < 0.05, router.label


# -- what is recorded, and what is left alone


def test_recorded_decisions_are_those_of_the_row(way: str) -> None:
    adapters = adapters_of(5, missing=(2,))
    bank = bank_of(adapters)
    routed = Routed(adapters, bank)
    x = inputs(24).reshape(6, 4, WIDTH)
    routers = [Base(), Arrow(), Uniform(), SpectR(top_k=2), Ties(), Arrow(per_prompt=True)]
    routed.run(x, routers, record=[0, 1, 3, 4, 5])
    for row in (0, 1, 3, 4):
        weights, scores = routed.current.recorded(row, [SITE])
        expected = routers[row].decide(seen_by(bank, x[row]))
        np.testing.assert_allclose(weights[0], expected.weights[:, 0].numpy(), atol=1e-6)
        np.testing.assert_allclose(scores[0], expected.scores[:, 0].numpy(), atol=1e-5)
    one_for_all = routed.current.recorded(5, [SITE])[0][0]
    np.testing.assert_array_equal(one_for_all, np.broadcast_to(one_for_all[0], one_for_all.shape))
    with pytest.raises(BaseModelError, match="is not used when this model reads text"):
        routed.current.recorded(2, [SITE])


def test_a_recorded_step_is_not_overwritten_by_the_next(way: str) -> None:
    adapters = adapters_of(5)
    bank, slot = bank_of(adapters), PassSlot()
    module, plan = RoutedLinear(nn.Linear(WIDTH, 10), bank, 0, slot), Plan([Arrow(top_k=2)], 1, CPU)
    kept = []
    for seed in (1, 2):
        current = RoutingPass(1, 1, record=[0])
        slot.begin(current, plan)
        with torch.no_grad():
            module(inputs(1, seed=seed)[None])
        slot.end()
        kept.append(current)
    for seed, current in zip((1, 2), kept, strict=True):
        expected = Arrow(top_k=2).decide(seen_by(bank, inputs(1, seed=seed)))
        np.testing.assert_allclose(current.recorded(0, [SITE])[0][0], expected.weights[:, 0].numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_a_row_without_adapters_is_the_base_row_exactly(kind: str, way: str) -> None:
    base = nn.Linear(WIDTH, 10) if kind == "linear" else Conv1D(10, WIDTH)
    adapters = adapters_of(5)
    slot = PassSlot()
    module = RoutedLinear(base, bank_of(adapters), 0, slot)
    x = inputs(24).reshape(4, 6, WIDTH)
    slot.begin(RoutingPass(4, 6), Plan([Arrow(top_k=2), Base(), Single("a1"), Arrow(top_k=2)], 6, CPU))
    with torch.no_grad():
        found, plain = module(x), base(x)
        slot.end()
        assert torch.equal(found[1], plain[1])
        assert not torch.equal(found[0], plain[0])
        assert torch.equal(module(x), plain)


def test_rows_flattened_by_the_model_are_found_again(way: str) -> None:
    adapters = adapters_of(5)
    slot = PassSlot()
    module = RoutedLinear(nn.Linear(WIDTH, 10), bank_of(adapters), 0, slot)
    x = inputs(8).reshape(2, 4, WIDTH)
    slot.begin(RoutingPass(2, 4), Plan([Single("a1"), Arrow()], 4, CPU))
    with torch.no_grad():
        torch.testing.assert_close(module(x.reshape(8, WIDTH)).reshape(2, 4, 10), module(x))


def test_a_module_that_gets_another_input_than_its_fellows_has_a_mixture_of_its_own(way: str) -> None:
    adapters = [random_adapter(f"a{n}", {SITE: (10, WIDTH), OTHER: (10, WIDTH)}, seed=n) for n in range(4)]
    bank = bank_of(adapters, SITE, OTHER)
    routed = Routed(adapters, bank)
    one, two = inputs(3)[None], inputs(3, seed=8)[None]
    alone = [Routed(adapters, bank).run(x, [Arrow(top_k=2)])[site] for site, x in enumerate((one, two))]
    routed.slot.begin(RoutingPass(1, 3), Plan([Arrow(top_k=2)], 3, CPU))
    with torch.no_grad():
        found = [module(x) - module.base(x) for module, x in zip(routed.modules, (one, two), strict=True)]
    for mine, expected in zip(found, alone, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


def test_a_module_that_sees_only_some_tokens_is_refused() -> None:
    slot = PassSlot()
    slot.begin(RoutingPass(1, 7), Plan([Arrow()], 7, CPU))
    with pytest.raises(BaseModelError, match=r"layers\.0\.proj: does not see every token once.*expected 7 .* found 3"):
        RoutedLinear(nn.Linear(WIDTH, 10), bank_of(adapters_of(5)), 0, slot)(inputs(3))


def test_nothing_large_stays_behind_after_a_pass() -> None:
    adapters = adapters_of(40, rank=4)
    bank = bank_of(adapters)
    routed = Routed(adapters, bank)
    plan = Plan([Arrow(), Uniform(), Weighted({"a0": 1.0})], 500, CPU)
    routed.slot.begin(RoutingPass(3, 500), plan)
    with torch.no_grad():
        routed.modules[0](inputs(1500).reshape(3, 500, WIDTH))
    routed.slot.end()
    tensors = [
        value
        for way in plan.ways(bank)
        for value in vars(way).values()
        if isinstance(value, torch.Tensor) and value is not bank.down
    ]
    assert sum(tensor.numel() for tensor in tensors) < 2000


class Packed(nn.Module):
    """A quantised layer as libraries make them: packed integers, and features in words."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = float(linear.weight.detach().abs().max()) / 127
        self.register_buffer("weight", (linear.weight.detach() / self.scale).round().to(torch.int8).flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.weight.float() * self.scale).view(self.out_features, self.in_features).T


def test_a_quantised_layer_is_taken_as_it_is(way: str) -> None:
    adapters = adapters_of(5)
    bank, x = bank_of(adapters), inputs(6).reshape(2, 3, WIDTH)
    packed = Packed(nn.Linear(WIDTH, 10))
    assert linear_shape(packed) == (10, WIDTH)
    routers = [Arrow(), LinearMerge(rank=3)]
    found = Routed(adapters, bank, bases=[packed]).run(x, routers)[0]
    expected = Routed(adapters, bank).run(x, routers)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_linear_shape() -> None:
    assert linear_shape(nn.Linear(3, 5)) == (5, 3)
    assert linear_shape(Conv1D(5, 3)) == (5, 3)
    assert linear_shape(nn.Embedding(3, 5)) is None


@pytest.mark.parametrize("tokens", [1, 2, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chosen_dots(tokens: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.routing.dots.GATHERED", 400)  # so that rows are gathered in several parts
    rows = make_update(9, 20, 9, seed=1).a.to(dtype)
    hidden = torch.randn(tokens, 20, generator=torch.Generator().manual_seed(2)).to(dtype)
    chosen = torch.randint(0, 9, (tokens, 5), generator=torch.Generator().manual_seed(3))
    expected = torch.stack([rows[chosen[t]].float() @ hidden[t].float() for t in range(tokens)])
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(chosen_dots(hidden, rows, chosen).float(), expected, atol=tolerance, rtol=tolerance)
