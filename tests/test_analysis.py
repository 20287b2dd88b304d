"""MBC against dense and scikit-learn computations, and what must not matter to it."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles_analysis import dense, dense_cosines, mean_subspace_overlap, papers_labels, papers_similarity
from planted import SITES, adapter_of, in_other_bases, planted, random_update, unrelated
from sklearn.metrics import adjusted_rand_score

import explorer
from explorer.adapters.adapter import Adapter
from explorer.adapters.low_rank import LowRank
from explorer.analysis.blocks import block_sums
from explorer.analysis.clustering import cluster
from explorer.analysis.projection import project
from explorer.analysis.similarity import MEASURES, similarity
from explorer.analysis.sites import kind_label, layer_label
from explorer.analysis.spectra import UpdateShape
from explorer.analysis.survey import survey
from explorer.errors import LibraryError, SettingsError

Q0 = "model.layers.0.self_attn.q_proj"
MIXED = (4, 1, 8, 16, 4, 2)


def changed(adapter: Adapter, a: float = 1.0, b: float = 1.0, scale: float = 1.0) -> Adapter:
    """The adapter with its factors and scale multiplied."""
    return replace(
        adapter,
        updates={site: LowRank(u.a * a, u.b * b, u.scale * scale) for site, u in adapter.updates.items()},
    )


# The measure `update`


def test_update_equals_the_cosine_of_the_full_matrices() -> None:
    adapters = unrelated(MIXED)
    adapters[1].updates.pop(Q0)  # type: ignore[attr-defined]
    adapters[2] = changed(adapters[2], scale=-0.25)
    adapters.append(changed(adapters[0], scale=3.0))
    found = similarity(adapters)
    # float32 products of vectors with 2304 entries
    np.testing.assert_allclose(found.values, dense_cosines(adapters), atol=2e-6)
    assert found.names == ("a0", "a1", "a2", "a3", "a4", "a5", "a0")
    assert found.coverage == (1.0, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert found.notes == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_factors_may_be_stored_in_any_precision(dtype: torch.dtype) -> None:
    adapters = [
        replace(
            adapter,
            updates={site: LowRank(u.a.to(dtype), u.b.to(dtype), u.scale) for site, u in adapter.updates.items()},
        )
        for adapter in unrelated((4, 8, 2))
    ]
    np.testing.assert_allclose(similarity(adapters).values, dense_cosines(adapters), atol=2e-6)


def test_update_does_not_depend_on_the_basis_of_the_factors() -> None:
    adapters = unrelated(MIXED)
    # the error of inverting a random M in float32
    np.testing.assert_allclose(similarity(in_other_bases(adapters)).values, similarity(adapters).values, atol=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_the_library_only_permutes(measure: str) -> None:
    adapters = planted(3, 2)
    order = [3, 1, 5, 0, 2, 4]
    straight = similarity(adapters, measure).values
    shuffled = similarity([adapters[index] for index in order], measure).values
    np.testing.assert_allclose(shuffled, straight[np.ix_(order, order)], atol=1e-6)


@pytest.mark.parametrize("measure", ["update", "subspace"])
@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_no_size_of_an_update_is_too_large_or_too_small(measure: str, factor: float) -> None:
    adapters = planted(2, 2)
    resized = [changed(adapters[0], a=factor), changed(adapters[1], b=factor), *adapters[2:]]
    np.testing.assert_allclose(similarity(resized, measure).values, similarity(adapters, measure).values, atol=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_an_update_of_zero_is_like_itself_only(measure: str) -> None:
    adapters = planted(2, 3)
    adapters[1] = changed(adapters[1], a=0.0 if measure == "parameters" else 1.0, b=0.0)
    found = similarity(adapters, measure)
    assert np.isfinite(found.values).all()
    assert found.values[1].tolist() == [0, 1, 0, 0, 0, 0]
    words = {
        "update": "a1 is like no other: it changes nothing here, its update is zero.",
        "subspace": "a1 is like no other: it changes nothing here, its update is zero.",
        "parameters": "a1 is like no other: nothing of it is left in the components that are compared.",
    }
    assert found.notes == (words[measure],)
    assert np.isfinite(project(found).xy).all()
    cluster(found)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_library_of_zeros_is_no_trouble(measure: str) -> None:
    adapters = [changed(adapter, a=0.0, b=0.0) for adapter in planted(2, 3)]
    found = similarity(adapters, measure)
    assert found.values.tolist() == np.eye(6).tolist()
    assert np.isfinite(project(found).xy).all()
    assert set(cluster(found).labels) == set(range(cluster(found).n_clusters))


def test_adapters_of_another_base_model_have_nothing_in_common_with_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    other = adapter_of("other", {Q0: random_update((20, 40), 4, generator)})
    mates = planted(1, 2)
    found = similarity([mates[0], other, mates[1]])
    assert found.values[1].tolist() == [0, 1, 0]
    assert found.values[0, 2] == pytest.approx(dense_cosines(mates)[0, 1], abs=1e-6)


def test_block_sums_do_not_depend_on_the_strips() -> None:
    ranks = [1, 2, 3, 3, 3, 5, 2]
    half = np.random.default_rng(0).normal(size=(19, 19))
    matrix = half + half.T
    ends = np.cumsum([0, *ranks])
    exact = [[matrix[ends[i] : ends[i + 1], ends[j] : ends[j + 1]].sum() for j in range(7)] for i in range(7)]
    for most in (1, 3, 6, 7, 100):
        sums = block_sums(ranks, lambda rows: matrix[rows, rows.start :], most)
        np.testing.assert_allclose(sums, exact, atol=1e-12)


def test_update_finds_planted_clusters_from_any_basis_and_parameters_from_a_shared_one() -> None:
    shared = planted(5, 5)
    mixed = in_other_bases(shared)
    truth = [index % 5 for index in range(25)]

    def rand(adapters: list[Adapter], measure: str, n_clusters: int | None = 5) -> float:
        return adjusted_rand_score(truth, cluster(similarity(adapters, measure), n_clusters).labels)

    assert rand(shared, "update") == rand(mixed, "update") == 1.0
    assert rand(shared, "update", None) == rand(mixed, "update", None) == 1.0
    assert rand(shared, "parameters") == 1.0
    assert rand(mixed, "parameters") < 0.5
    assert rand(shared, "subspace") == rand(mixed, "subspace") == 1.0


# The measure `parameters`


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_parameters_equals_plain_scikit_learn(sparsity: float) -> None:
    adapters = planted(4, 4, noise=1.0) + [replace(a, name=f"x{a.name}") for a in unrelated((4,) * 6)]
    found = similarity(adapters, "parameters", sparsity)
    expected = papers_similarity(adapters, sparsity)
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    for count in (2, 5, 8, 10):
        assert adjusted_rand_score(papers_labels(expected, count), cluster(found, count).labels) == 1.0
    assert found.sparsity == sparsity


def test_parameters_keeps_at_most_64_components() -> None:
    sites = {"layers.0.q": (24, 40)}
    adapters = unrelated((2,) * 70, sites)
    np.testing.assert_allclose(similarity(adapters, "parameters").values, papers_similarity(adapters, 0.5), atol=1e-4)


def test_parameters_survives_large_numbers() -> None:
    adapters = planted(2, 3)
    large = [changed(adapter, a=1e30, b=1e30) for adapter in adapters]
    np.testing.assert_allclose(
        similarity(large, "parameters").values, similarity(adapters, "parameters").values, atol=1e-4
    )


@pytest.mark.parametrize("difference", ["rank", "sites"])
def test_parameters_says_who_does_not_fit(difference: str) -> None:
    adapters = unrelated((4, 4, 8) if difference == "rank" else (4, 4, 4))
    if difference == "sites":
        adapters[2].updates.pop(Q0)  # type: ignore[attr-defined]
    with pytest.raises(LibraryError) as caught:
        similarity(adapters, "parameters")
    assert caught.value.sentence == (
        "Adapter 'a2': has other modules or ranks than 'a0', so their parameters cannot be compared. "
        "Use the measure 'update'."
    )


# The measure `subspace`, and choices


def test_subspace_equals_dense_svds() -> None:
    adapters = unrelated((4, 2, 8, 12))
    found = similarity(adapters, "subspace").values
    exact = [[mean_subspace_overlap(one, two) for two in adapters] for one in adapters]
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_subspace_counts_the_directions_that_an_update_has_not_its_rows() -> None:
    adapters = unrelated((4, 4))
    doubled = {
        site: LowRank(torch.cat([u.a, u.a]), torch.cat([u.b, u.b], dim=1), u.scale)
        for site, u in adapters[0].updates.items()
    }
    found = similarity([adapter_of("doubled", doubled), *adapters], "subspace").values
    assert found[0, 1] == pytest.approx(1.0, abs=1e-5)
    assert found[0, 2] == pytest.approx(found[1, 2], abs=1e-5)


def test_subspace_is_blind_to_strength() -> None:
    one = unrelated((4,))[0]
    strengths = torch.tensor([1.0, 10.0, 0.1, 3.0])
    stretched = adapter_of(
        "stretched",
        {site: LowRank(u.a * strengths[:, None], u.b.flip(0), u.scale) for site, u in one.updates.items()},
    )
    assert similarity([one, stretched], "subspace").values[0, 1] == pytest.approx(1.0, abs=1e-5)


def test_some_sites_only() -> None:
    adapters = unrelated((4, 2, 8))
    adapters[1].updates.pop(Q0)  # type: ignore[attr-defined]
    found = similarity(adapters, sites=lambda site: layer_label(site) == "layer 0")
    only = [replace(a, updates={s: u for s, u in a.updates.items() if "layers.0." in s}) for a in adapters]
    np.testing.assert_allclose(found.values, dense_cosines(only), atol=2e-6)
    assert found.coverage == (1.0, 0.5, 1.0)
    with pytest.raises(LibraryError, match="has no adapter with a module to compare"):
        similarity(adapters, sites=lambda site: False)


def test_names_of_sites() -> None:
    assert layer_label("model.layers.3.self_attn.q_proj") == "layer 3"
    assert layer_label("transformer.h.11.mlp.c_fc") == "layer 11"
    assert layer_label("lm_head") == "lm_head"
    assert layer_label("layers2.q4.proj") == "layers2.q4.proj"
    assert kind_label("model.layers.3.self_attn.q_proj") == "q_proj"


def test_settings_out_of_bounds() -> None:
    adapters = unrelated((2, 2))
    with pytest.raises(SettingsError) as caught:
        similarity(adapters, "looks")
    assert caught.value.sentence == "Measure 'looks': is unknown. Choose from: update, parameters, subspace."
    for sparsity in (-0.1, 1.0, float("nan")):
        with pytest.raises(SettingsError, match="sparsity: expected 0 up to, but not, 1"):
            similarity(adapters, "parameters", sparsity)
    with pytest.raises(LibraryError):
        similarity([])


# What an update looks like inside


def update_shape(adapter: Adapter) -> UpdateShape:
    return survey([adapter]).shapes[0]


def test_spectrum_and_sizes_equal_the_dense_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    updates = {
        site: random_update(shape, rank, generator)
        for (site, shape), rank in zip(SITES.items(), (4, 4, 8, 2), strict=True)
    }
    adapter = adapter_of("mixed", updates)
    shape = update_shape(adapter)
    values = np.zeros((4, 8))
    for row, site in zip(values, SITES, strict=True):
        exact = np.linalg.svd(dense(adapter, site), compute_uv=False)[: updates[site].rank]
        row[: len(exact)] = exact
    np.testing.assert_allclose(shape.spectrum, values.mean(axis=0), rtol=1e-6, atol=1e-9)
    shares = np.square(values) / np.square(values).sum(axis=1, keepdims=True)
    entropies = [-sum(p * np.log(p) for p in row if p > 0) for row in shares]
    assert shape.effective_rank == pytest.approx(np.exp(entropies).mean(), rel=1e-6)
    sizes = np.sqrt(np.square(values).sum(axis=1).reshape(2, 2).sum(axis=1))
    assert [label for label, _ in shape.layers] == ["layer 0", "layer 1"]
    np.testing.assert_allclose([size for _, size in shape.layers], sizes, rtol=1e-6)


def test_spectrum_of_updates_without_full_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    one = random_update((12, 16), 1, generator)
    repeated = LowRank(one.a.repeat(4, 1), one.b.repeat(1, 4), one.scale)
    shape = update_shape(adapter_of("thin", {"lm_head": repeated}))
    assert shape.spectrum[0] == pytest.approx(16 * one.norm() / 4, rel=1e-5)
    assert max(shape.spectrum[1:]) < 1e-5 * shape.spectrum[0]
    assert shape.effective_rank == pytest.approx(1.0, abs=1e-6)
    assert [label for label, _ in shape.layers] == ["lm_head"]
    nothing = update_shape(changed(adapter_of("none", {"lm_head": one}), b=0.0))
    assert (nothing.spectrum, nothing.effective_rank, nothing.layers) == ((0.0,), 0.0, (("lm_head", 0.0),))


def test_spectrum_wider_than_the_matrix() -> None:
    update = random_update((3, 5), 8, torch.Generator().manual_seed(0))
    adapter = adapter_of("wide", {"layers.0.q": update})
    exact = np.linalg.svd(dense(adapter, "layers.0.q"), compute_uv=False)
    np.testing.assert_allclose(update_shape(adapter).spectrum[:3], exact, rtol=1e-6)
    assert max(update_shape(adapter).spectrum[3:]) < 1e-5 * exact[0]


# The sample library


@pytest.mark.slow
def test_parameters_on_the_sample_library_equals_plain_scikit_learn() -> None:
    with explorer.open_library(os.environ.get("EXPLORER_TEST_LIBRARY", "sample")) as library:
        adapters = list(library)
    expected = papers_similarity(adapters, 0.5)
    found = similarity(adapters, "parameters", 0.5)
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    for count in range(2, min(len(adapters), 12)):
        assert adjusted_rand_score(papers_labels(expected, count), cluster(found, count).labels) == 1.0
