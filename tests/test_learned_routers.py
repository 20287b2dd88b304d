"""Routers with learned vectors or weights, against plain loops, in every way that a mixture can be computed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from routing_samples import OUT, SITE, WIDTH, Routed, adapters_of, bank_of, inputs

from explorer.adapters.adapter import Adapter
from explorer.adapters.library import Library
from explorer.errors import SettingsError
from explorer.exporting.mix import mix_of
from explorer.routers import Arrow, Base, Single, Uniform
from explorer.routing.centroid import Centroid
from explorer.routing.observation import Observation
from explorer.routing.per_site import PerSite
from explorer.routing.phatgoose import Phatgoose
from explorer.routing.prompt_weights import PromptWeights
from explorer.routing.router import Router
from explorer.routing.site_weights import SiteWeights

SECOND = "layers.0.other"


def two_sites(count: int = 5, missing: tuple[int, ...] = ()) -> list[Adapter]:
    """Mixed ranks at two sites that share their input; those in `missing` have only the first."""
    first, second = adapters_of(count), adapters_of(count, rank=2)
    return [
        replace(one, updates={SITE: one.updates[SITE], **({} if place in missing else {SECOND: two.updates[SITE]})})
        for place, (one, two) in enumerate(zip(first, second, strict=True))
    ]


def vectors_of(names: tuple[str, ...], seed: int = 0) -> PerSite:
    generator = torch.Generator().manual_seed(seed)
    return PerSite(names, {site: torch.randn(len(names), WIDTH, generator=generator) for site in (SITE, SECOND)})


def routers_of(adapters: list[Adapter], known: int) -> list[Router]:
    """One of each kind, that know the first `known` adapters only."""
    names = tuple(adapter.name for adapter in adapters)[:known]
    weights = PerSite(names, {SITE: torch.linspace(-1, 1, known), SECOND: torch.linspace(0.5, 0, known)})
    return [
        Centroid(vectors=vectors_of(names)),
        Phatgoose(vectors=vectors_of(names)),
        Phatgoose(vectors=vectors_of(names, 1), top_k=1),
        SiteWeights(weights=weights),
        PromptWeights(names=names, weights=tuple(weights.rows[SECOND].tolist())),
    ]


def slow_weights(router: Router, adapters: list[Adapter], site: str, hidden: list[float]) -> list[float]:
    """The weights of one token at one site, one adapter at a time."""
    names = [adapter.name for adapter in adapters]
    if isinstance(router, SiteWeights | PromptWeights):
        listed = router.weights.names if isinstance(router, SiteWeights) else router.names
        numbers = router.weights.rows[site].tolist() if isinstance(router, SiteWeights) else router.weights
        given = dict(zip(listed, numbers, strict=True))
        return [given.get(one.name, 0.0) if site in one.updates else 0.0 for one in adapters]
    assert isinstance(router, Centroid | Phatgoose)
    scores = {}
    for name, vector in zip(router.vectors.names, router.vectors.rows[site].tolist(), strict=True):
        if site in adapters[names.index(name)].updates:
            x, v = (norm(hidden), norm(vector)) if isinstance(router, Phatgoose) else (hidden, vector)
            scores[name] = sum(a * b for a, b in zip(x, v, strict=True)) / math.sqrt(len(x))
    kept = sorted(scores, key=lambda name: -scores[name])[: router.top_k]
    total = sum(math.exp(scores[name]) for name in kept)
    return [math.exp(scores[name]) / total if name in kept else 0.0 for name in names]


def norm(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    return [(value - mean) / math.sqrt(variance + 1e-5) for value in values]


@pytest.mark.parametrize("known", [5, 3])
@pytest.mark.parametrize("missing", [(), (0, 4)], ids=["complete", "missing sites"])
def test_weights_equal_those_of_plain_loops(known: int, missing: tuple[int, ...]) -> None:
    adapters = two_sites(missing=missing)
    bank, hidden = bank_of(adapters, SITE, SECOND), inputs()
    for router in routers_of(adapters, known):
        for grad in (True, False):  # compiled loops only where torch records no gradients
            with torch.set_grad_enabled(grad):
                found = router.decide(Observation(bank, hidden)).weights
            expected = [
                [slow_weights(router, adapters, site, token) for site in (SITE, SECOND)] for token in hidden.tolist()
            ]
            np.testing.assert_allclose(found.numpy(), np.array(expected), atol=2e-5)


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("count", [5, 40], ids=["dense", "sparse"])
def test_batches_that_mix_routers_equal_one_adapter_at_a_time(tokens: int, count: int) -> None:
    adapters = two_sites(count, missing=(1,))
    bank = bank_of(adapters, SITE, SECOND)
    routed = Routed(adapters, bank)
    learned = [*routers_of(adapters, count), *routers_of(adapters, 3)]
    batch = [Arrow(), learned[0], Base(), *learned[1:], Single("a1"), learned[0], Uniform()]
    x = torch.stack([inputs(tokens, seed=row) for row in range(len(batch))])
    for routers, rows in ((batch, x), ([learned[1]] * 2, x[:2]), ([learned[3]], x[:1]), ([learned[8]], x[:1])):
        added = routed.run(rows, routers, record=range(len(routers)))
        for row, router in enumerate(routers):
            if not isinstance(router, Centroid | Phatgoose | SiteWeights | PromptWeights):
                continue
            weights, _ = routed.current.recorded(row, (SITE, SECOND))
            for place, site in enumerate((SITE, SECOND)):
                for token in range(tokens):
                    h = rows[row, token]
                    own = slow_weights(router, adapters, site, h.tolist())
                    np.testing.assert_allclose(weights[place, token], own, atol=2e-5)
                    expected = torch.zeros(OUT)
                    for weight, adapter in zip(own, adapters, strict=True):
                        if site in adapter.updates:
                            expected += weight * (adapter.updates[site].dense() @ h)
                    torch.testing.assert_close(added[place][row, token], expected, atol=2e-3, rtol=1e-3)


def test_routers_are_equal_by_content_whatever_the_order_of_names() -> None:
    names = ("a0", "a1", "a2")
    vectors = vectors_of(names)
    turned = PerSite(names[::-1], {site: rows.flip(0) for site, rows in reversed(vectors.rows.items())})
    assert Centroid(vectors=vectors) == Centroid(vectors=turned)
    assert hash(Centroid(vectors=vectors)) == hash(Centroid(vectors=turned))
    assert Centroid(vectors=vectors) != Phatgoose(vectors=vectors)
    assert Centroid(vectors=vectors) != Centroid(vectors=vectors_of(names, 1))
    assert Centroid(vectors=vectors) != Centroid(vectors=vectors, top_k=1)
    assert SiteWeights(weights=PerSite(names, {SITE: torch.ones(3)})) != SiteWeights(
        weights=PerSite(names, {SITE: torch.tensor([1.0, 1.0, 1.1])})
    )
    assert vectors.digest[:16] in repr(vectors)


def test_the_librarys_order_does_not_matter() -> None:
    adapters = two_sites(missing=(2,))
    for router in routers_of(adapters, 4):
        found = [
            router.decide(Observation(bank_of(order, SITE, SECOND), inputs())) for order in (adapters, adapters[::-1])
        ]
        torch.testing.assert_close(found[0].weights, found[1].weights.flip(-1))


def test_an_adapter_that_nothing_was_learned_for_has_no_score() -> None:
    adapters = two_sites()
    decision = Phatgoose(vectors=vectors_of(("a1",))).decide(Observation(bank_of(adapters, SITE, SECOND), inputs()))
    assert decision.scores.isnan().all(dim=0).all(dim=0).tolist() == [True, False, True, True, True]
    assert (decision.weights[..., 1] == 1).all()


def test_where_nobody_who_learned_has_the_site_nothing_is_added() -> None:
    adapters = two_sites(missing=(0,))
    for router in routers_of(adapters, 1):
        decision = router.decide(Observation(bank_of(adapters, SITE, SECOND), inputs()))
        assert (decision.weights[:, 1] == 0).all()


def test_a_name_that_is_not_there_is_told() -> None:
    for router in routers_of(two_sites(), 5):
        with pytest.raises(SettingsError, match=r"^Adapter 'a2': is not one that can be routed here. Choose from: a0"):
            router.check(("a0", "a1"))
        router.check(("a0", "a1", "a2", "a3", "a4", "more"))


def test_labels_say_what_differs() -> None:
    vectors = vectors_of(("a0",))
    assert Centroid(vectors=vectors).label == "Centroid matching"
    assert Centroid(vectors=vectors, top_k=3, temperature=0.5).label == "Centroid matching, top 3, T 0.5"
    assert Phatgoose(vectors=vectors).label == "PHATGOOSE, top 2"
    with pytest.raises(SettingsError, match="Top k"):
        Phatgoose(vectors=vectors, top_k=0)


def test_weights_by_module_can_be_exported() -> None:
    adapters = two_sites(missing=(1,))
    router = routers_of(adapters, 5)[3]
    mix = mix_of(Library(adapters), router)
    for site in (SITE, SECOND):
        own = slow_weights(router, adapters, site, [])
        expected = sum(
            weight * adapter.updates[site].dense()
            for weight, adapter in zip(own, adapters, strict=True)
            if site in adapter.updates
        )
        update = mix.update(site)
        torch.testing.assert_close(update.dense(), expected, atol=1e-5, rtol=1e-5)
