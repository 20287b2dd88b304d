"""Results kept between runs: found again only where they are exactly what is asked for, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapter_files import CONFIG, WEIGHTS, factors, write_adapter, write_config, zip_folder
from planted import in_other_bases, planted
from safetensors.torch import save_file

from explorer import cache
from explorer.adapters import peft_format, stamp
from explorer.adapters.folders import open_folder
from explorer.adapters.library import Library
from explorer.adapters.sources import open_zip
from explorer.analysis import clustering, projection, similarity, survey
from explorer.records.library_record import library_record, to_json
from explorer.ui.holding import Holding

ARRAYS = {"numbers": np.arange(12.0).reshape(3, 4), "words": cache.to_numbers(["ü", 0.1, None])}


def the_file(results: Path) -> Path:
    (path,) = results.iterdir()
    return path


def assert_absent(key: str) -> None:
    assert cache.recall(key) is None


# The store


def test_arrays_come_back_exactly(results: Path) -> None:
    key = cache.key_of("kind", "part", b"part")
    assert_absent(key)
    cache.keep(key, ARRAYS)
    back = cache.recall(key)
    assert back is not None
    np.testing.assert_array_equal(back["numbers"], ARRAYS["numbers"])
    assert cache.from_numbers(back["words"]) == ["ü", 0.1, None]
    assert the_file(results).name == f"{key}.result"


def test_keys_tell_parts_apart() -> None:
    keys = [cache.key_of(*parts) for parts in (("a", "bc"), ("a", "b", "c"), ("a", "bcd"), ("b", "bc"), ("a",))]
    assert len(set(keys)) == len(keys)
    assert cache.key_of("a", "\udcff").startswith("a-")


@pytest.mark.parametrize("place", [0, 31, 32, 40, 200, -1])
def test_a_damaged_file_is_absent_and_is_replaced(results: Path, place: int) -> None:
    cache.keep("key", ARRAYS)
    raw = bytearray(the_file(results).read_bytes())
    raw[place] ^= 1
    the_file(results).write_bytes(raw)
    assert_absent("key")
    cache.keep("key", ARRAYS)
    assert cache.recall("key") is not None


@pytest.mark.parametrize("raw", [b"", b"x" * 32, b"x" * 1_000, b"\x80\x04cos\nsystem\n(S'touch oops'\ntR."])
def test_anything_else_in_its_place_is_absent(results: Path, raw: bytes) -> None:
    cache.keep("key", ARRAYS)
    the_file(results).write_bytes(raw)
    assert_absent("key")


def test_a_result_under_another_name_or_cut_is_absent(results: Path) -> None:
    cache.keep("key", ARRAYS)
    path = the_file(results)
    path.with_name("other.result").write_bytes(path.read_bytes())
    assert_absent("other")
    os.truncate(path, path.stat().st_size - 1)
    assert_absent("key")
    path.unlink()
    path.mkdir()
    assert_absent("key")
    cache.keep("key", ARRAYS)


def test_a_result_too_large_is_not_kept(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LARGEST", 100)
    cache.keep("key", ARRAYS)
    assert_absent("key")


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "results_folder", lambda: tmp_path / "file" / "results")
    cache.keep("key", ARRAYS)
    assert_absent("key")
    assert cache.kept("key", lambda: 3, lambda value: {"x": np.array(value)}, lambda stored: int(stored["x"])) == 3


def test_nothing_half_written_is_left_behind(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    cache.keep("key", ARRAYS)
    assert list(results.iterdir()) == []


def test_what_a_killed_process_left_is_removed(results: Path) -> None:
    results.mkdir(parents=True)
    for name, age in (("old", 7_200), ("new", 0)):
        (results / f".{name}").write_text("half")
        os.utime(results / f".{name}", (time.time() - age,) * 2)
    cache.keep("key", ARRAYS)
    assert sorted(path.name for path in results.iterdir()) == [".new", "key.result"]


@pytest.mark.parametrize("bound", ["MOST_FILES", "MOST_BYTES"])
def test_what_was_used_longest_ago_goes_first(results: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    for age, name in enumerate(("c", "b", "a")):
        cache.keep(name, ARRAYS)
        os.utime(results / f"{name}.result", (time.time() - 100 - age,) * 2)
    assert cache.recall("a") is not None  # the oldest, now the newest
    size = (results / "a.result").stat().st_size
    monkeypatch.setattr(cache, bound, 3 if bound == "MOST_FILES" else 3 * size)
    cache.keep("d", ARRAYS)
    assert sorted(path.stem for path in results.iterdir()) == ["a", "c", "d"]


def test_numbers_that_are_none_are_computed_again(results: Path) -> None:
    made = []

    def compute() -> float:
        made.append(1)
        return float("nan")

    for _ in range(2):
        cache.kept("key", compute, lambda value: {"x": cache.to_numbers(value)}, lambda s: cache.from_numbers(s["x"]))
    assert len(made) == 2


# What is kept of a library


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files just written count as old enough to be remembered."""
    monkeypatch.setattr(stamp, "TICK_NS", -1_000_000_000)


def library_of(folder: Path, count: int = 6) -> Path:
    for seed in range(count):
        write_adapter(folder / f"a{seed}", seed=seed % 4)
    return folder


def forbid(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    def never(*_: object) -> None:
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(module, name, never)


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, survey, "_survey")
    forbid(monkeypatch, similarity, "parameter_products")
    forbid(monkeypatch, similarity, "subspace_overlaps")
    forbid(monkeypatch, clustering, "_labels")
    forbid(monkeypatch, projection, "_umap")


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("measure", similarity.MEASURES)
def test_a_second_analysis_computes_nothing(tmp_path: Path, measure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = library_of(tmp_path / "library")
    first = to_json(library_record(open_folder(folder), measure))
    forbid_work(monkeypatch)
    assert to_json(library_record(open_folder(folder), measure)) == first
    if measure == "update":
        assert to_json(Holding(open_folder(folder), trusted=False).record()) == first


@pytest.mark.usefixtures("results")
def test_other_settings_are_other_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = open_folder(library_of(tmp_path / "library"))
    alike = similarity.similarity(library)
    layer = similarity.similarity(library, sites=lambda site: "q_proj" in site)
    assert not np.array_equal(alike.values, layer.values)
    assert not np.array_equal(
        similarity.similarity(library, "parameters", 0.0).values, similarity.similarity(library, "parameters").values
    )
    turned = similarity.similarity(library.adapters[::-1])
    np.testing.assert_allclose(turned.values, alike.values[::-1, ::-1], atol=1e-6)
    assert not np.array_equal(projection.project(alike, 1).xy, projection.project(alike, 2).xy)
    assert cluster_count(alike, 4) == 4
    forbid_work(monkeypatch)
    assert projection.project(alike, 2).seed == 2
    assert cluster_count(alike, 2) == 2
    assert cluster_count(alike, 3) == 3


def cluster_count(alike: similarity.Similarity, count: int) -> int:
    return clustering.cluster(alike, count).n_clusters


@pytest.mark.usefixtures("results")
def test_adapters_in_memory_are_told_by_their_numbers_not_by_their_hash() -> None:
    adapters = planted(2, 3)
    others = in_other_bases(planted(2, 3, seed=7))
    assert [one.content_hash for one in adapters] == [one.content_hash for one in others]
    assert not np.allclose(similarity.similarity(adapters).values, similarity.similarity(others).values)


def test_a_result_that_does_not_fit_is_replaced(tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = library_of(tmp_path / "library")
    first = to_json(library_record(open_folder(folder)))
    odd = {"products": np.eye(3), "shapes": cache.to_numbers([[[1.0]]]), "xy": np.full((6, 2), np.nan)}
    odd["tried"] = cache.to_numbers([3, [[2, [0, 1]]], []])
    kept = [path for path in results.iterdir() if not path.name.startswith("files-")]
    assert sorted(path.name.split("-")[0] for path in kept) == ["clusters", "map", "survey"]
    for path in kept:
        cache.keep(path.stem, odd)
    assert to_json(library_record(open_folder(folder))) == first
    forbid_work(monkeypatch)
    assert to_json(library_record(open_folder(folder))) == first


# Hashes of files


@pytest.mark.usefixtures("results", "settled")
def test_files_are_not_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = library_of(tmp_path / "library")
    first = open_folder(folder)
    forbid(monkeypatch, peft_format, "hash_of_sound")
    second = open_folder(folder)
    assert hashes(second) == hashes(first)
    assert [adapter.verdict for adapter in second] == [adapter.verdict for adapter in first]


def hashes(library: Library) -> dict[str, str]:
    return {adapter.name: adapter.content_hash for adapter in library}


@pytest.mark.usefixtures("results", "settled")
@pytest.mark.parametrize("what", ["weights", "configuration"])
def test_a_changed_file_is_read_again(tmp_path: Path, what: str) -> None:
    folder = library_of(tmp_path / "library")
    before = hashes(open_folder(folder))
    if what == "weights":
        path = folder / "a1" / WEIGHTS
        status = path.stat()
        save_file(factors(seed=99), path, metadata={"format": "pt"})
        assert path.stat().st_size == status.st_size
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        write_config(folder / "a1", (folder / "a1" / CONFIG).read_text().replace('"lora_alpha": 8', '"lora_alpha": 9'))
    after = hashes(open_folder(folder))
    assert {name for name in before if before[name] != after[name]} == {"a1"}


@pytest.mark.usefixtures("results", "settled")
def test_a_file_that_became_unsound_is_refused(tmp_path: Path) -> None:
    folder = library_of(tmp_path / "library")
    open_folder(folder)
    tensors = factors()
    next(iter(tensors.values()))[0, 0] = torch.nan
    save_file(tensors, folder / "a1" / WEIGHTS, metadata={"format": "pt"})
    assert [verdict.name for verdict in open_folder(folder).verdicts if "NaN" in verdict.reason] == ["a1"]


@pytest.mark.usefixtures("results")
def test_a_file_changed_a_moment_ago_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = library_of(tmp_path / "library")
    open_folder(folder)
    forbid(monkeypatch, peft_format, "hash_of_sound")
    with pytest.raises(AssertionError):
        open_folder(folder)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", ["cut", "other arrays", "no files"])
def test_damaged_memories_are_replaced(
    tmp_path: Path, results: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = library_of(tmp_path / "library")
    first = hashes(open_folder(folder))
    path = the_file(results)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "other arrays":
        cache.keep(path.stem, {"tokens": np.zeros((2, 32), np.uint8), "hashes": np.zeros((3, 32), np.uint8)})
    else:
        cache.keep(path.stem, {"tokens": np.zeros((0, 32), np.uint8), "hashes": np.zeros((0, 32), np.uint8)})
    assert hashes(open_folder(folder)) == first
    forbid(monkeypatch, peft_format, "hash_of_sound")
    assert hashes(open_folder(folder)) == first


@pytest.mark.usefixtures("settled")
def test_a_zip_leaves_no_memory_of_its_files(tmp_path: Path, results: Path) -> None:
    archive = zip_folder(library_of(tmp_path / "library"), tmp_path / "mine.zip")
    with open_zip(archive) as library:
        library_record(library)
    assert not [path for path in results.iterdir() if path.name.startswith("files-")]


def test_another_process_finds_the_map_without_umap(tmp_path: Path, results: Path) -> None:
    folder = library_of(tmp_path / "library")
    record = to_json(library_record(open_folder(folder)))
    code = (
        "import sys, explorer; from explorer.records.library_record import library_record, to_json\n"
        "record = to_json(library_record(explorer.open_library(sys.argv[1])))\n"
        "assert 'umap' not in sys.modules\n"
        "open(sys.argv[2], 'w', encoding='utf-8').write(record)"
    )
    environment = {**os.environ, "EXPLORER_CACHE": str(results.parent)}
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "record.json")]
    subprocess.run(command, env=environment, check=True, cwd=Path(__file__).parents[1])
    assert (tmp_path / "record.json").read_text(encoding="utf-8") == record
