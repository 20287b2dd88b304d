"""Folders, zips and repositories as libraries: names, verdicts, notes, and folders that go away again."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_files import (
    Q_PROJ,
    SITES,
    WEIGHTS,
    adapter_members,
    config_of,
    write_adapter,
    write_config,
    write_zip,
    zip_folder,
)

from explorer.adapters import sources
from explorer.adapters.adapter import AdapterNotes
from explorer.adapters.library import Library
from explorer.adapters.natural_order import natural_key
from explorer.adapters.safe_zip import ZipLimits
from explorer.adapters.sources import open_library, open_zip
from explorer.errors import LibraryError

PICKLE = "is a pickle, which can run code when it is opened, and is never read."
BY_PEFT = "Where you trust it, load it with PEFT and save it with safe_serialization=True."
BY_CODE = "Where you trust it, load it with the code that wrote it and save its A and B as a PEFT adapter."


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders are made in here, so that a test can see whether they go away."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def failure(source: Any, **options: Any) -> str:
    with pytest.raises(LibraryError) as caught:
        open_library(source, **options)
    return str(caught.value)


def statuses(library: Library) -> dict[str, str]:
    return {verdict.name: str(verdict.status) for verdict in library.verdicts}


# --- layouts


def test_a_folder_of_adapters_in_natural_order(tmp_path: Path) -> None:
    for name in ("task10", "task2", "Ünïcode name", "task1"):
        write_adapter(tmp_path / "lib" / name, seed=len(name))
    library = open_library(tmp_path / "lib")
    assert library.names == ("task1", "task2", "task10", "Ünïcode name")
    assert library["task2"].path == tmp_path / "lib" / "task2"
    assert (library.title, library.source, library.base_model) == ("lib", "lib", "tiny/model")
    assert len(library.verdicts) == 4


def test_a_folder_that_is_one_adapter(tmp_path: Path) -> None:
    assert open_library(str(write_adapter(tmp_path / "add3"))).names == ("add3",)


def test_nested_folders_take_their_path_only_where_they_must(tmp_path: Path) -> None:
    for place in ("a/x", "b/x", "b/c/y", "b/c/d/z"):
        write_adapter(tmp_path / "lib" / place)
    assert open_library(tmp_path / "lib").names == ("a/x", "z", "y", "b/x")


def reasons(library: Library) -> dict[str, str]:
    return {verdict.name: verdict.reason for verdict in library.verdicts if verdict.reason}


def test_checkpoints_inside_an_adapter_are_refused_in_words(tmp_path: Path) -> None:
    for place in ("one", "one/checkpoint-20", "one/checkpoint-100", "one/old/inner", "two"):
        write_adapter(tmp_path / "lib" / place, seed=len(place))
    library = open_library(tmp_path / "lib")
    assert library.names == ("one", "two")
    inside = "It lies inside the adapter one and was not read. Open its folder by itself, or put it beside."
    assert reasons(library) == dict.fromkeys(("one/checkpoint-20", "one/checkpoint-100", "one/old/inner"), inside)
    assert [verdict.name for verdict in library.verdicts][2:4] == ["one/checkpoint-20", "one/checkpoint-100"]


def test_checkpoints_inside_the_folder_that_was_opened_are_adapters(tmp_path: Path) -> None:
    for place in ("one", "one/checkpoint-20"):
        write_adapter(tmp_path / place, seed=len(place))
    assert open_library(tmp_path / "one").names == ("one", "checkpoint-20")


def test_adapters_too_deep_down_are_refused_in_words(tmp_path: Path) -> None:
    write_adapter(tmp_path / "lib/one")
    write_adapter(tmp_path / "lib/a/b/c/four", seed=1)
    write_adapter(tmp_path / "lib/a/b/c/d/five", seed=2)
    library = open_library(tmp_path / "lib")
    assert library.names == ("four", "one")
    deep = "It lies more than 4 folders below the library's root and was not read. Move it up."
    assert reasons(library) == {"a/b/c/d/five": deep}


def test_a_tree_deeper_than_a_path_can_be_is_looked_through(tmp_path: Path) -> None:
    write_adapter(tmp_path / "lib/one")
    place = os.open(tmp_path / "lib", os.O_RDONLY)
    try:
        for _ in range(1100):
            os.mkdir("deep", dir_fd=place)
            inner = os.open("deep", os.O_RDONLY, dir_fd=place)
            os.close(place)
            place = inner
        assert open_library(tmp_path / "lib").names == ("one",)
    finally:
        os.close(place)
        subprocess.run(["rm", "-rf", str(tmp_path / "lib")], check=True)  # too deep for pytest's own way


@pytest.mark.parametrize(
    ("stray", "reason"),
    [
        (
            "stray.safetensors",
            "adapter_model.safetensors: is missing, found stray.safetensors. Rename it to adapter_model.safetensors.",
        ),
        ("adapter_config.json", "adapter_model.safetensors: is missing. Save the adapter with PEFT's save_pretrained."),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_stray_file_at_the_root_sinks_nothing(tmp_path: Path, stray: str, reason: str, zipped: bool) -> None:
    for seed, name in enumerate(("one", "two")):
        write_adapter(tmp_path / "lib" / name, seed=seed)
    (tmp_path / "lib" / stray).write_bytes(b"{}")
    source = zip_folder(tmp_path / "lib", tmp_path / "lib.zip") if zipped else tmp_path / "lib"
    with open_library(source) as library:
        assert library.names == ("one", "two")
        assert reasons(library) == {"lib": reason}


def test_an_adapter_at_the_root_hides_none_below_it(tmp_path: Path) -> None:
    write_adapter(tmp_path / "lib")
    for seed, name in enumerate(("one", "two")):
        write_adapter(tmp_path / "lib" / name, seed=seed + 1)
    assert open_library(tmp_path / "lib").names == ("lib", "one", "two")


def test_hidden_folders_and_links_are_not_entered(tmp_path: Path) -> None:
    write_adapter(tmp_path / "lib/one")
    write_adapter(tmp_path / "lib/.cache/two")
    (tmp_path / "lib/loop").symlink_to(tmp_path / "lib")
    (tmp_path / "lib/elsewhere").symlink_to(write_adapter(tmp_path / "elsewhere"))
    assert open_library(tmp_path / "lib").names == ("one",)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    for name in ("a\x1bb", "a\x07b", "²", "\udcff"):
        write_adapter(tmp_path / "lib" / name)
    library = open_library(tmp_path / "lib")
    assert len(set(library.names)) == 4
    for name in library.names:
        name.encode("utf-8")
        assert name.isprintable()
    assert len(library.content_hash) == 64


def test_natural_order_takes_any_text() -> None:
    assert sorted(["²", "b10", "b9", "", "٣", "10", "9"], key=natural_key) == ["", "9", "10", "b9", "b10", "²", "٣"]


# --- zips


def test_a_zip_and_its_temporary_folder(tmp_path: Path, temporary: Path) -> None:
    write_adapter(tmp_path / "lib/one")
    write_adapter(tmp_path / "lib/two", seed=1)
    path = zip_folder(tmp_path / "lib", tmp_path / "my library.zip", top="lib")
    library = open_library(path)
    assert library.names == ("one", "two")
    assert (library.title, library.source) == ("my library", "my library.zip")
    (scratch,) = temporary.iterdir()
    assert library["one"].path == scratch / "lib/one"
    library.close()
    library.close()
    assert list(temporary.iterdir()) == []
    with open_zip(path, name="upload.zip") as again:
        assert again.source == "upload.zip"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("top", ["", "top", "top/inner"])
def test_one_adapter_in_a_zip(tmp_path: Path, top: str) -> None:
    path = zip_folder(write_adapter(tmp_path / "lib"), tmp_path / "add3.zip", top=top)
    with open_library(path) as library:
        assert library.names == ((top.split("/")[-1] or "add3"),)


def test_nothing_stays_behind_when_a_zip_is_refused(tmp_path: Path, temporary: Path) -> None:
    for members in ({"a.json": b"{}"}, {"../a.json": b"{}"}, {"one/adapter_config.json": b"["}):
        failure(write_zip(tmp_path / "a.zip", members))
    (tmp_path / "b.zip").write_bytes(b"nothing")
    assert failure(tmp_path / "b.zip").startswith("The zip: is broken or not a zip file.")
    assert list(temporary.iterdir()) == []


def test_limits_reach_the_zip(tmp_path: Path) -> None:
    path = zip_folder(write_adapter(tmp_path / "lib"), tmp_path / "a.zip")
    assert failure(path, limits=ZipLimits(entries=1)).startswith("The zip: has too many entries")


def test_pickles_in_a_zip_get_a_verdict_and_sink_nothing(tmp_path: Path) -> None:
    members = adapter_members(write_adapter(tmp_path / "one"), "lib/one")
    members |= {"lib/one/training_args.bin": b"x", "lib/two/adapter_config.json": json.dumps(config_of()).encode()}
    members |= {"lib/two/adapter_model.bin": b"x", "lib/three/adapter_model.bin": b"x", "lib/evil.pkl": b"x"}
    with open_zip(write_zip(tmp_path / "a.zip", members)) as library:
        assert library.names == ("one",)
        assert {verdict.name: verdict.reason for verdict in library.verdicts} == {
            "one": "",
            "two": f"adapter_model.bin: {PICKLE} {BY_PEFT}",
            "three": f"adapter_model.bin: {PICKLE} {BY_PEFT}",
            "evil": f"evil.pkl: {PICKLE} {BY_PEFT}",
        }
        assert library["one"].verdict.warnings == ("training_args.bin beside it was not opened: it is a pickle.",)


def test_a_zip_of_pickles_alone_says_why(tmp_path: Path, temporary: Path) -> None:
    members = {f"experts/{name}{end}": b"x" for name in ("a", "b", "c", "d") for end in (".ckpt", ".meta")}
    reason = f"{{0}}: {{0}}.ckpt: {PICKLE} {BY_CODE.rstrip('.')}"
    assert failure(write_zip(tmp_path / "a.zip", members)) == (
        f"a.zip: holds no adapter that can be used ({'; '.join(reason.format(name) for name in 'abc')}; and 1 more)."
    )
    assert list(temporary.iterdir()) == []


def test_the_same_pickles_in_a_folder(tmp_path: Path) -> None:
    write_adapter(tmp_path / "lib/good")
    for name in ("stray.pkl", "a.ckpt", "a.meta", "old/adapter_model.bin"):
        (tmp_path / "lib" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "lib" / name).write_bytes(b"x")
    library = open_library(tmp_path / "lib")
    assert statuses(library) == {"good": "accepted", "a": "refused", "old": "refused", "stray": "refused"}


# --- one bad adapter sinks nothing


def test_every_candidate_gets_a_verdict(tmp_path: Path) -> None:
    write_adapter(tmp_path / "lib/good")
    write_adapter(tmp_path / "lib/shown", seed=1, config_extra={"use_dora": True})
    write_config(tmp_path / "lib/empty", config_of())
    (write_adapter(tmp_path / "lib/broken") / WEIGHTS).write_bytes(b"broken")
    library = open_library(tmp_path / "lib")
    assert statuses(library) == {"broken": "refused", "empty": "refused", "good": "accepted", "shown": "map only"}
    assert library.names == ("good", "shown")
    assert [adapter.name for adapter in library.routable] == ["good"]


def test_none_left(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e"):
        write_config(tmp_path / "lib" / name, "[]")
        (tmp_path / "lib" / name / WEIGHTS).write_bytes(b"")
    assert failure(tmp_path / "lib") == (
        "lib: holds no adapter that can be used (a: adapter_config.json: is not a JSON object; "
        "b: adapter_config.json: is not a JSON object; c: adapter_config.json: is not a JSON object; and 2 more)."
    )


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    assert failure(tmp_path / "lib") == (
        "lib: holds no adapter folder (adapter_config.json with adapter_model.safetensors). "
        "Give a folder of PEFT adapters."
    )


# --- what they must agree on


def test_the_base_model_that_most_name_wins(tmp_path: Path) -> None:
    for name, base in (("a", "x/one"), ("b", "y/two"), ("c", "y/two"), ("d", None), ("e", None), ("f", None)):
        write_adapter(tmp_path / "lib" / name, base_model=base, seed=ord(name))  # type: ignore[arg-type]
    library = open_library(tmp_path / "lib")
    assert library.base_model == "y/two"
    assert [adapter.name for adapter in library.routable] == ["b", "c"]
    assert library["a"].verdict.reason == (
        "It cannot be routed: it names x/one, while this library is routed with y/two."
    )
    assert library["d"].verdict.reason == (
        "It cannot be routed: it names no base model, while this library is routed with y/two."
    )
    assert library.verdicts == tuple(adapter.verdict for adapter in library)


def test_only_a_majority_is_called_most_of_a_library(tmp_path: Path) -> None:
    for name, base in (("a", "x/one"), ("b", "y/two")):
        write_adapter(tmp_path / "lib" / name, base_model=base, seed=ord(name))
    tied = open_library(tmp_path / "lib")
    assert reasons(tied) == {"b": "It cannot be routed: it names y/two, while this library is routed with x/one."}
    write_adapter(tmp_path / "lib/c", base_model="y/two", seed=3)
    decided = open_library(tmp_path / "lib")
    assert reasons(decided) == {"a": "It cannot be routed: it names x/one, while most of this library names y/two."}


def test_a_library_knows_its_adapters_by_name(tmp_path: Path) -> None:
    for name in ("add3", "mul2"):
        write_adapter(tmp_path / "lib" / name)
    library = open_library(tmp_path / "lib")
    assert "add3" in library
    assert library["add3"] in library
    assert "add4" not in library
    assert None not in library


def test_the_shape_that_most_have_wins_where_the_base_model_is_not_known(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_adapter(tmp_path / "lib" / name, seed=ord(name))
    write_adapter(tmp_path / "lib/odd", {**SITES, Q_PROJ: (4, 20, 20)})
    library = open_library(tmp_path / "lib")
    assert library["odd"].verdict.reason == (
        "It cannot be routed: its model.layers.0.self_attn.q_proj has shape (20, 20), "
        "in most of this library it is (16, 16)."
    )


def test_a_copy_is_a_warning(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_adapter(tmp_path / "lib" / name)
    assert open_library(tmp_path / "lib")["b"].verdict.warnings == ("It is a copy of a.",)


def test_shapes_are_asked_for_once_a_base_model(tmp_path: Path) -> None:
    asked: list[str] = []

    def shapes_of(base: str) -> None:
        asked.append(base)

    for index in range(12):
        write_adapter(tmp_path / "lib" / str(index), seed=index, base_model=f"x/{index % 2}")
    open_library(tmp_path / "lib", shapes_of=shapes_of)
    assert sorted(asked) == ["x/0", "x/1"]


# --- notes


def test_notes_of_the_library_and_of_its_adapters(tmp_path: Path) -> None:
    write_adapter(tmp_path / "lib/one")
    write_adapter(tmp_path / "lib/two", seed=1)
    (tmp_path / "lib/two/card.json").write_text('{"task": "card task", "family": "card family"}')
    notes = {
        "title": "A title",
        "description": "Two\nlines",
        "license": "Apache-2.0",
        "clusters": 7,
        "adapters": {
            "one": {
                "task": "t",
                "tasks": ["t", {"name": "u"}, 3, "t"],
                "family": "f",
                "description": "d",
                "examples": ["x", "y"],
            },
            "two": {"task": "listed"},
            "gone": {"task": "no such adapter"},
        },
    }
    (tmp_path / "lib/library.json").write_text(json.dumps(notes))
    library = open_library(tmp_path / "lib")
    assert (library.title, library.description, library.license_name) == ("A title", "Two\nlines", "Apache-2.0")
    assert library.clusters == 7
    assert library["one"].notes == AdapterNotes("t", "f", "d", ("x", "y"), ("t", "u"))
    assert library["two"].notes == AdapterNotes("listed", "card family")
    assert library.remarks == ()


@pytest.mark.parametrize(
    ("raw", "remarks"),
    [
        ("[", ["library.json cannot be read and was left out."]),
        ("[1]", ["library.json cannot be read and was left out."]),
        ("[" * 99999, ["library.json cannot be read and was left out."]),
        ('{"title": 7}', ["library.json: the field 'title' is not as expected and was left out."]),
        ('{"clusters": true}', ["library.json: the field 'clusters' is not as expected and was left out."]),
        ('{"clusters": 0}', ["library.json: the field 'clusters' is not as expected and was left out."]),
        ('{"adapters": [1]}', ["library.json: the field 'adapters' is not as expected and was left out."]),
        ('{"adapters": {"one": 1}}', ["library.json: the field 'adapters' is not as expected and was left out."]),
        ('{"adapters": {"one": {"task": 7, "examples": "no", "family": null}}}', []),
        ('{"adapters": {"one": {"examples": [1, null, "", " "]}}, "more": {}}', []),
    ],
)
def test_hostile_notes_sink_nothing(tmp_path: Path, raw: str, remarks: list[str]) -> None:
    write_adapter(tmp_path / "lib/one")
    (tmp_path / "lib/library.json").write_text(raw)
    (tmp_path / "lib/one/card.json").write_text(raw)
    library = open_library(tmp_path / "lib")
    assert list(library.remarks) == remarks
    assert library["one"].notes == AdapterNotes()
    assert library.title == "lib"


def test_long_and_unprintable_notes_are_cut_and_cleaned(tmp_path: Path) -> None:
    write_adapter(tmp_path / "lib/one")
    entry = {"task": "t\ud800\n" * 999, "examples": ["e" * 9999] * 99}
    notes = {"title": "x" * 999, "description": "\u202ey" * 9999, "adapters": {"one": entry}}
    (tmp_path / "lib/library.json").write_text(json.dumps(notes))
    library = open_library(tmp_path / "lib")
    assert (len(library.title), len(library.description)) == (200, 5000)
    assert "\u202e" not in library.description
    found = library["one"].notes
    assert (len(found.examples), {len(text) for text in found.examples}) == (20, {2000})
    assert len(found.task) <= 200
    found.task.encode("utf-8")
    assert "\n" not in found.task


# --- by name


def test_the_sample_by_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SAMPLES", tmp_path / "samples")
    assert failure("sample") == (
        "The sample library: did not come with this installation. "
        "Give a folder, a .zip file or a hub repository as owner/name."
    )
    write_adapter(tmp_path / "samples" / sources.DEFAULT_SAMPLE / "one")
    write_adapter(tmp_path / "samples" / "other" / "two")
    assert open_library("sample").names == ("one",)
    assert open_library(" other ", allow_local=False).names == ("two",)
    assert failure("nothing here") == (
        "nothing here: is not a library that can be found. Give 'sample' or a sample's name "
        "(other, smollm2-135m-private), a folder, a .zip file or a hub repository as owner/name."
    )


def test_a_path_means_a_folder_even_when_a_sample_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapter(tmp_path / "sample" / "mine")
    monkeypatch.chdir(tmp_path)
    assert open_library(Path("sample")).names == ("mine",)


@pytest.mark.parametrize("source", ["", " ", "x" * 9000, "a\x00b", "~no-such-user/x", "\ud800", "a/b/c", "../..x", "."])
@pytest.mark.parametrize("allow_local", [True, False])
def test_sources_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, allow_local: bool) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = failure(source, allow_local=allow_local)
    assert len(sentence) < 400
    sentence.encode("utf-8")


def test_a_hosted_page_names_no_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SAMPLES", tmp_path / "samples")
    folder = write_adapter(tmp_path / "one")
    for source in (str(folder), folder, str(zip_folder(folder, tmp_path / "a.zip"))):
        sentence = failure(source, allow_local=False)
        assert sentence.endswith("is not a library that can be found. Give a hub repository as owner/name.")


# --- many


def test_two_hundred_adapters_open_in_a_few_seconds(tmp_path: Path) -> None:
    sites = {f"layers.{layer}.{module}": (4, 128, 128) for layer in range(30) for module in "qkvo"}
    for index in range(200):
        write_adapter(tmp_path / "lib" / f"task{index}", sites, seed=index, dtype=torch.float16)
    start = time.monotonic()
    library = open_library(tmp_path / "lib")
    assert len(library.routable) == 200
    assert time.monotonic() - start < 20
