"""Clusters, maps and neighbours: the paper's k-means, degenerate libraries, and clusters as a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from oracles_analysis import papers_labels
from planted import of_rows, planted, unrelated
from sklearn.metrics import adjusted_rand_score, silhouette_score

from explorer.analysis.cluster_file import read_clusters, write_clusters
from explorer.analysis.clustering import Clustering, cluster, stability
from explorer.analysis.neighbours import neighbours
from explorer.analysis.projection import project
from explorer.analysis.similarity import Similarity, similarity
from explorer.errors import ExplorerError, LibraryError, SettingsError

# Clustering


def test_clusters_are_numbered_by_first_appearance() -> None:
    found = cluster(of_rows(np.eye(3)[[2, 0, 2, 1, 0, 1]]), 3)
    assert found.labels == (0, 1, 0, 2, 1, 2)
    assert found.members() == {"cluster_0": ("a0", "a2"), "cluster_1": ("a1", "a4"), "cluster_2": ("a3", "a5")}


def test_silhouettes_are_those_of_the_rows_and_the_best_is_suggested() -> None:
    alike = similarity(planted(4, 4, noise=0.8))
    found = cluster(alike)
    assert list(found.silhouettes) == list(range(2, 16))
    for count in (2, 4, 9):
        expected = silhouette_score(alike.values, papers_labels(alike.values, count))
        assert found.silhouettes[count] == pytest.approx(expected)
    assert found.suggested == found.n_clusters == 4
    assert cluster(alike, 3).suggested == 4


def test_the_partition_is_that_of_plain_k_means() -> None:
    alike = similarity(planted(3, 6, noise=2.0))
    for count in (2, 5, 10):
        assert adjusted_rand_score(papers_labels(alike.values, count), cluster(alike, count).labels) == 1.0


@pytest.mark.parametrize(("count", "clusters", "suggested"), [(1, 1, None), (2, 1, None), (3, 2, 2)])
def test_very_small_libraries(count: int, clusters: int, suggested: int | None) -> None:
    alike = similarity(unrelated((4,) * count))
    for asked in (None, 10):
        found = cluster(alike, asked)
        assert (found.n_clusters, found.suggested) == (clusters, suggested)
    assert cluster(alike, 1).labels == (0,) * count


def test_identical_adapters_make_no_more_clusters_than_there_are_kinds() -> None:
    assert cluster(of_rows(np.ones((5, 3))), 4).labels == (0,) * 5
    found = cluster(of_rows(np.eye(3)[[0, 1, 0, 1, 2, 0]]), 5)
    assert (found.labels, found.n_clusters) == ((0, 1, 0, 1, 2, 0), 3)
    nearly = of_rows(np.ones((6, 3)) + 1e-7 * np.random.default_rng(0).normal(size=(6, 3)))
    assert cluster(nearly, 5).n_clusters >= 1


def test_the_same_seed_gives_the_same_clusters() -> None:
    alike = similarity(unrelated((4,) * 12))
    assert cluster(alike, 4, seed=7) == cluster(alike, 4, seed=7)
    assert cluster(alike, 4, seed=7).seed == 7


def test_clusters_asked_for_must_make_sense() -> None:
    alike = similarity(unrelated((4,) * 4))
    with pytest.raises(SettingsError) as caught:
        cluster(alike, 0)
    assert caught.value.sentence == "Number of clusters: expected at least 1, found 0."
    with pytest.raises(SettingsError, match="seed: expected 0 to 4294967295, found -1"):
        cluster(alike, 2, seed=-1)


def test_stability() -> None:
    assert stability(similarity(planted(4, 5)), 4) == 1.0
    assert stability(similarity(unrelated((4,) * 20)), 7) < 0.9
    assert stability(similarity(unrelated((4, 4))), 2) == 1.0


# Map and neighbours


def test_the_map_is_repeatable_and_keeps_planted_clusters_together() -> None:
    alike = similarity(planted(4, 8))
    drawn = project(alike)
    assert drawn.method == "umap"
    assert drawn.names == alike.names
    np.testing.assert_array_equal(drawn.xy, project(alike).xy)
    assert not np.array_equal(drawn.xy, project(alike, seed=1).xy)
    assert project(alike, seed=1).seed == 1
    assert silhouette_score(drawn.xy, [index % 4 for index in range(32)]) > 0.5


@pytest.mark.parametrize(("count", "method"), [(1, "list"), (2, "pca"), (3, "pca"), (4, "umap"), (5, "umap")])
def test_the_map_of_a_small_library(count: int, method: str) -> None:
    drawn = project(similarity(unrelated((4,) * count)))
    assert drawn.method == method
    assert drawn.xy.shape == (count, 2)
    assert np.abs(drawn.xy).max(initial=0) <= 1 + 1e-9
    assert count == 1 or np.ptp(drawn.xy, axis=0).max() == pytest.approx(2)


@pytest.mark.parametrize("count", [2, 4, 12, 16, 30])
@pytest.mark.parametrize("rows", ["identical", "orthogonal", "two far groups"])
def test_the_map_of_degenerate_libraries_is_finite_and_repeatable(rows: str, count: int) -> None:
    made = {
        "identical": np.ones((count, 3)),
        "orthogonal": np.eye(count),
        "two far groups": np.eye(2)[np.arange(count) % 2],
    }
    alike = of_rows(made[rows])
    drawn = project(alike)
    assert np.isfinite(drawn.xy).all()
    np.testing.assert_array_equal(drawn.xy, project(alike).xy)


def test_two_that_differ_by_rounding_only_lie_on_one_place() -> None:
    values = np.array([[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]])
    drawn = project(Similarity(("one", "two"), values, "update", (1.0, 1.0)))
    np.testing.assert_allclose(drawn.xy, 0, atol=1e-6)


def test_neighbours_are_the_largest_cosines_without_oneself() -> None:
    alike = of_rows([[1, 0], [1, 1], [0, 1], [1, 0.1], [1, 0.1]])
    found = neighbours(alike, "a0", 3)
    assert [near.name for near in found] == ["a3", "a4", "a1"]
    assert found[2].score == pytest.approx(0.5**0.5)
    assert len(neighbours(alike, "a0", 99)) == 4
    assert neighbours(alike, "a0", 0) == ()
    with pytest.raises(LibraryError, match="Adapter 'b': is not among those that were compared"):
        neighbours(alike, "b")


# Clusters as a file


def test_clusters_come_back_from_their_file(tmp_path: Path) -> None:
    found = cluster(similarity(planted(3, 3)), 3)
    target = tmp_path / "clusters.json"
    write_clusters(found, target)
    assert json.loads(target.read_text()) == {key: list(names) for key, names in found.members().items()}
    read = read_clusters(target, found.names)
    assert (read.labels, read.n_clusters, read.measure) == (found.labels, 3, "file")
    assert read.members() == found.members()


@pytest.mark.parametrize("style", ["cluster_{}", "c{}_2e", "c{}o10", "ccluster_{}o10", "ccluster_{}"])
def test_keys_of_the_papers_code_are_read_in_the_order_of_their_numbers(style: str, tmp_path: Path) -> None:
    target = tmp_path / "clusters.json"
    target.write_text(json.dumps({style.format(10): ["b"], style.format(2): ["a", "c"]}))
    assert read_clusters(target, ("a", "b", "c")).labels == (0, 1, 0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "file.json: is not JSON, or repeats a key."),
        ("[" * 100_000, "file.json: is not JSON, or repeats a key."),
        ("\ufeff{}", 'file.json: holds no clusters, expected an object like {"cluster_0": ["name", ...], ...}.'),
        ('["a", "b"]', 'file.json: holds no clusters, expected an object like {"cluster_0": ["name", ...], ...}.'),
        ('{"cluster_0": ["a"], "cluster_0": ["b"]}', "file.json: is not JSON, or repeats a key."),
        ('{"group": ["a", "b"]}', "file.json: has a key that is not a cluster: 'group'. Use cluster_0, ..."),
        ('{"cluster_0": "ab"}', "file.json, cluster_0: expected a list of adapter names."),
        ('{"cluster_0": []}', "file.json, cluster_0: expected a list of adapter names."),
        ('{"cluster_0": ["a", 1]}', "file.json, cluster_0: expected a list of adapter names."),
        (
            '{"cluster_1": ["a"], "c1_2e": ["b"]}',
            "file.json: has two keys for one cluster: cluster_1 and c1_2e.",
        ),
        (
            '{"cluster_0": ["a"], "cluster_1": ["a", "b"]}',
            "file.json: puts adapter 'a' into two clusters. Keep one of them.",
        ),
        (
            '{"cluster_0": ["a", "a", "b"]}',
            "file.json: puts adapter 'a' into one cluster twice. Keep one of them.",
        ),
        (
            '{"cluster_0": ["a", "b", "\\u202ez\\n"]}',
            "file.json: names '\\u202ez\\n', which is not in this library. Use the clusters of this library.",
        ),
        (
            '{"cluster_0": ["a"]}',
            "file.json: lacks 'b', which is in this library. Use the clusters of this library.",
        ),
    ],
)
def test_a_bad_file_of_clusters_gets_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    target.write_text(text, encoding="utf-8")
    with pytest.raises(ExplorerError) as caught:
        read_clusters(target, ("a", "b"))
    assert caught.value.sentence == sentence


def test_a_file_of_clusters_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ExplorerError) as caught:
        read_clusters(tmp_path / "none.json", ("a",))
    assert caught.value.sentence == "none.json: cannot be read (No such file or directory)."
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ExplorerError, match=r"binary\.json: is not JSON"):
        read_clusters(binary, ("a",))


# Invariants of the results


def test_results_whose_parts_do_not_fit_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="one row, one column"):
        Similarity(("a",), np.eye(2), "update", (1.0,))
    with pytest.raises(ValueError, match="no empty cluster"):
        Clustering(("a", "b"), (0, 2), 2)
