"""Adapters in files: nothing is read before it is asked for, a changed file is noticed, the numbers stay the same."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapter_files import CONFIG, PREFIX, Q_PROJ, V_PROJ, WEIGHTS, config_of, factors, write_adapter, write_config
from safetensors.torch import load_file, save_file

from explorer.adapters import stored_updates, weights_file
from explorer.adapters.adapter import Adapter, Status, Verdict
from explorer.adapters.folders import open_folder
from explorer.adapters.library import Library
from explorer.adapters.low_rank import Form
from explorer.adapters.peft_format import read_adapter
from explorer.adapters.sources import open_zip
from explorer.analysis import site_by_site
from explorer.analysis.clustering import cluster
from explorer.analysis.similarity import MEASURES, similarity
from explorer.analysis.survey import survey
from explorer.errors import LibraryError
from explorer.records.library_record import library_record
from explorer.ui.holding import Holding

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
MANY = {f"model.layers.{layer}.{kind}_proj": (4, 32, 24) for layer in range(12) for kind in "qv"}


def opened(folder: Path) -> Adapter:
    adapter = read_adapter(folder, "one")
    assert isinstance(adapter, Adapter), adapter
    return adapter


def library_of(folder: Path, count: int = 12, **options: Any) -> Library:
    for seed in range(count):
        write_adapter(folder / f"a{seed}", MANY, seed=seed % 8, **options)
    return open_folder(folder)


def in_memory(library: Library) -> list[Adapter]:
    return [replace(adapter, updates=dict(adapter.updates)) for adapter in library]


def test_shapes_and_counts_are_known_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        write_adapter(tmp_path / f"a{seed}", {Q_PROJ: (4, 16, 24), V_PROJ: (8, 16, 8)}, seed=seed)

    def no_reading(*_: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(stored_updates, "read_tensor", no_reading)
    library = open_folder(tmp_path)
    adapter = library.adapters[0]
    assert list(adapter.updates) == list(library.sites) == [Q_PROJ, V_PROJ]
    assert len(adapter.updates) == 2
    assert Q_PROJ in adapter.updates
    assert "lm_head" not in adapter.updates
    assert adapter.forms == {Q_PROJ: Form((24, 16), 4, 2.0), V_PROJ: Form((8, 16), 8, 1.0)}
    assert adapter.ranks == (4, 8)
    assert adapter.parameters == 4 * 40 + 8 * 24
    assert list(adapter.only(lambda site: site == V_PROJ).forms) == [V_PROJ]
    assert Holding(library, trusted=False).routing_nbytes == 4 * 3 * adapter.parameters
    with pytest.raises(KeyError):
        adapter.updates["lm_head"]
    with pytest.raises(AssertionError):
        adapter.updates[Q_PROJ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_read_is_what_was_stored(tmp_path: Path, dtype: torch.dtype) -> None:
    adapter, stored = opened(write_adapter(tmp_path, MANY, dtype=dtype)), load_file(tmp_path / WEIGHTS)
    for site, update in adapter.updates.items():
        assert update.a.dtype is update.b.dtype is dtype
        assert torch.equal(update.a, stored[f"{PREFIX}{site}.lora_A.weight"])
        assert torch.equal(update.b, stored[f"{PREFIX}{site}.lora_B.weight"])
        assert update.form == adapter.forms[site]


def test_factors_of_different_precision_need_not_lie_at_even_places(tmp_path: Path) -> None:
    write_config(tmp_path, config_of(rank=1))
    a, b = torch.randn(1, 3).half(), torch.randn(5, 1)
    save_file(
        {"q.lora_A.weight": a, "q.lora_B.weight": b, "z.lora_A.weight": a + 1, "z.lora_B.weight": b.double()},
        tmp_path / WEIGHTS,
    )
    updates = opened(tmp_path).updates
    assert torch.equal(updates["q"].a, a)
    assert torch.equal(updates["q"].b, b)
    assert torch.equal(updates["z"].a, a + 1)
    assert torch.equal(updates["z"].b, b.double())


def rewrite(path: Path) -> None:
    status = path.stat()
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as tools do that unpack over an older version


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def other_file(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".copy"))
    os.replace(path.with_suffix(".copy"), path)


def link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [rewrite, cut, other_file, link, pipe])
def test_a_file_that_changed_is_one_sentence(tmp_path: Path, change: Callable[[Path], None]) -> None:
    library = library_of(tmp_path, 3)
    change(tmp_path / "a1" / WEIGHTS)
    with pytest.raises(LibraryError) as caught:
        similarity(library)
    assert caught.value.sentence == (
        "Adapter 'a1': its file has changed since the library was opened. Open the library again."
    )
    assert library["a0"].updates["model.layers.0.q_proj"].rank == 4


@pytest.mark.parametrize("measure", MEASURES)
def test_a_file_that_vanished_is_one_sentence(tmp_path: Path, measure: str) -> None:
    library = library_of(tmp_path, 3)
    shutil.rmtree(tmp_path / "a2")
    with pytest.raises(LibraryError) as caught:
        similarity(library, measure)
    assert caught.value.sentence == (
        "Adapter 'a2': its file is no longer there since the library was opened. Open the library again."
    )


def test_a_file_cut_while_it_is_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = opened(write_adapter(tmp_path))
    monkeypatch.setattr(stored_updates.Stamp, "of", lambda _: adapter.updates._stamp)  # type: ignore[attr-defined]
    os.truncate(tmp_path / WEIGHTS, (tmp_path / WEIGHTS).stat().st_size - 8)
    with pytest.raises(LibraryError, match="Adapter 'one': its file has changed since the library was opened"):
        list(adapter.updates.values())


def test_a_closed_zip_is_one_sentence(tmp_path: Path) -> None:
    write_adapter(tmp_path / "source" / "a")
    library = open_zip(Path(shutil.make_archive(str(tmp_path / "mine"), "zip", tmp_path / "source")))
    survey(library.adapters)
    library.close()
    with pytest.raises(LibraryError, match="is no longer there since the library was opened"):
        survey(library.adapters)


# The same numbers as from memory, with a few tensors at a time


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_files_give_the_numbers_that_memory_gives(tmp_path: Path, measure: str, dtype: torch.dtype) -> None:
    library = library_of(tmp_path, dtype=dtype)
    one, two = similarity(library, measure), similarity(in_memory(library), measure)
    np.testing.assert_array_equal(one.values, two.values)
    assert (one.names, one.coverage, one.notes) == (two.names, two.coverage, two.notes)
    assert cluster(one) == cluster(two)
    first_layer = similarity(library, measure, sites=lambda site: ".0." in site).values
    np.testing.assert_array_equal(
        first_layer, similarity(in_memory(library), measure, sites=lambda s: ".0." in s).values
    )


def test_shapes_of_updates_are_those_that_memory_gives(tmp_path: Path) -> None:
    library = library_of(tmp_path)
    assert survey(library.adapters).shapes == survey(in_memory(library)).shapes


def test_adapters_in_files_and_in_memory_compare(tmp_path: Path) -> None:
    library = library_of(tmp_path)
    mixed = [*library.adapters[:6], *in_memory(library)[6:]]
    np.testing.assert_array_equal(similarity(mixed).values, similarity(library).values)


class Living:
    """Counts the tensors that are in memory, through weak references."""

    def __init__(self) -> None:
        self.now = self.most = self.read = 0

    def tensor(self, *arguments: Any) -> torch.Tensor:
        made = weights_file.read_tensor(*arguments)
        self.read += 1
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(made, self.gone)
        return made

    def gone(self) -> None:
        self.now -= 1


@pytest.mark.parametrize("what", [*MEASURES, "record"])
def test_a_few_sites_are_in_memory_at_a_time(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library, living = library_of(tmp_path), Living()
    monkeypatch.setattr(stored_updates, "read_tensor", living.tensor)
    monkeypatch.setattr(site_by_site.os, "cpu_count", lambda: 2)
    if what == "record":
        library_record(library)
    else:
        similarity(library, what)
    tensors_of_a_site = 2 * len(library)
    assert living.most <= 2 * tensors_of_a_site  # of 24 sites
    assert living.now == 0
    passes = 2 if what == "parameters" else 1
    assert living.read == passes * len(MANY) * tensors_of_a_site


def test_one_large_site_is_worked_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_by_site.os, "cpu_count", lambda: 8)
    running, most = 0, 0

    def work(_: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        running -= 1
        return most

    assert list(site_by_site.side_by_side(range(20), work, site_by_site.MOST_NUMBERS)) == [1] * 20


def test_an_error_at_one_site_ends_the_work() -> None:
    done = []

    def work(item: int) -> int:
        done.append(item)
        if item == 3:
            raise LibraryError("site 3", "is odd")
        return item

    with pytest.raises(LibraryError, match="site 3"):
        list(site_by_site.side_by_side(range(1_000), work, 1))
    assert len(done) < 100


# One pass at opening, for the hash and the numbers


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_hash_is_that_of_the_whole_file_and_the_configuration(
    tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_file, "CHUNK", 64)
    write_adapter(tmp_path, MANY, dtype=dtype)
    config = json.loads((tmp_path / CONFIG).read_text())
    expected = hashlib.sha256((tmp_path / WEIGHTS).read_bytes() + json.dumps(config, sort_keys=True).encode())
    assert opened(tmp_path).content_hash == expected.hexdigest()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_no_odd_number_is_passed_over(tmp_path: Path, dtype: torch.dtype, place: str, value: float) -> None:
    tensors = factors(MANY, dtype=dtype)
    name = sorted(tensors)[0 if place == "first" else -1]
    tensors[name].view(-1)[0 if place == "first" else -1] = value
    write_config(tmp_path, config_of())
    save_file(tensors, tmp_path / WEIGHTS)
    verdict = read_adapter(tmp_path, "one")
    assert isinstance(verdict, Verdict)
    assert verdict.reason == f"{WEIGHTS}, tensor {name}: holds NaN or infinite values."


@pytest.mark.parametrize(("size", "status"), [(600.0, Status.ACCEPTED), (6_000.0, Status.REFUSED)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_large_numbers_count_together(tmp_path: Path, size: float, status: Status, dtype: torch.dtype) -> None:
    tensors = factors({"q": (8, 4_096, 16)}, dtype=dtype)
    tensors[f"{PREFIX}q.lora_A.weight"][:] = size
    tensors[f"{PREFIX}q.lora_A.weight"][0, 0] = 60_000.0  # alone within bounds, but a reason to look closely
    write_config(tmp_path, config_of(rank=8))
    save_file(tensors, tmp_path / WEIGHTS)
    result = read_adapter(tmp_path, "one")
    assert (result if isinstance(result, Verdict) else result.verdict).status is status


def test_odd_numbers_outside_of_the_factors_do_not_matter(tmp_path: Path) -> None:
    extra = {"base_model.model.lm_head.weight": torch.full((4, 4), math.nan)}
    adapter = opened(write_adapter(tmp_path, tensors_extra=extra))
    assert adapter.verdict.status is Status.MAP_ONLY
    assert adapter.updates[Q_PROJ].rank == 4


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapter(tmp_path)

    def slow(path: Path, *arguments: Any) -> Any:
        digest = weights_file.hash_of_sound(path, *arguments)
        rewrite(path)
        return digest

    monkeypatch.setattr("explorer.adapters.peft_format.hash_of_sound", slow)
    verdict = read_adapter(tmp_path, "one")
    assert isinstance(verdict, Verdict)
    assert verdict.reason == f"{WEIGHTS}: changed while it was read. Open the library again."
