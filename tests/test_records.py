"""Records: what they say of a library, and that they come back as they were written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_files import write_adapter
from planted import SITES, adapter_of, planted, random_update, unrelated
from ui_samples import make_record, make_trace

from explorer.adapters.adapter import Adapter, Status, Verdict
from explorer.adapters.folders import open_folder
from explorer.adapters.library import Library
from explorer.analysis.clustering import cluster
from explorer.analysis.neighbours import neighbours
from explorer.analysis.projection import project
from explorer.analysis.similarity import similarity
from explorer.records.library_record import (
    LibraryRecord,
    cluster_title,
    from_json,
    library_record,
    to_json,
    with_clusters,
)
from explorer.records.prompt_record import Answer, PromptRecord, read_prompt_record, write_prompt_record

HOSTILE = "<script>alert('ü\u2028{{x}}')</script>"


def library_of(adapters: list[Adapter]) -> Library:
    refused = Verdict("broken", Status.REFUSED, "adapter_model.safetensors: is missing.", ("A warning.",))
    return Library(
        adapters,
        verdicts=[*(adapter.verdict for adapter in adapters), refused],
        title="Planted",
        description=HOSTILE,
        license_name="Apache-2.0",
        source="memory",
    )


@pytest.fixture(scope="module")
def library() -> Library:
    return library_of(planted(3, 4))


@pytest.fixture(scope="module")
def record(library: Library) -> LibraryRecord:
    return library_record(library)


# A library


def test_a_record_holds_what_the_analysis_says(library: Library, record: LibraryRecord) -> None:
    alike = similarity(library)
    np.testing.assert_array_equal(record.similarity.values, alike.values)
    assert record.clustering == cluster(alike)
    np.testing.assert_array_equal(record.projection.xy, project(alike).xy)
    assert record.names == library.names
    assert (record.title, record.source, record.license_name) == ("Planted", "memory", "Apache-2.0")
    assert (record.base_model, record.content_hash) == ("tiny/model", library.content_hash)
    assert record.verdicts[-1].reason == "adapter_model.safetensors: is missing."
    for adapter in library:
        assert record.summary(adapter.name).neighbours == neighbours(alike, adapter.name)
    assert [record.label(name) for name in record.names] == list(record.clustering.labels)


def test_a_summary_says_what_an_adapter_is() -> None:
    generator = torch.Generator().manual_seed(0)
    updates = {
        site: random_update(shape, rank, generator)
        for (site, shape), rank in zip(SITES.items(), (4, 4, 2, 2), strict=True)
    }
    mixed = replace(
        adapter_of("mixed", updates, family="arithmetic"),
        verdict=Verdict("mixed", Status.MAP_ONLY, "It uses DoRA.", ("Odd.",)),
    )
    summary = library_record(library_of([mixed])).summary("mixed")
    assert (summary.status, summary.reason, summary.warnings) == ("map only", "It uses DoRA.", ("Odd.",))
    assert not summary.can_be_routed
    assert summary.ranks == (2, 4)
    assert summary.targets == ("q_proj", "v_proj")
    assert summary.sites == 4
    assert summary.parameters == (4 + 2) * (32 + 24) + (4 + 2) * (32 + 12)
    assert (summary.family, summary.task, summary.alpha) == ("arithmetic", "task of mixed", 8.0)
    assert summary.neighbours == ()
    assert [label for label, _ in summary.layer_norms] == ["layer 0", "layer 1"]
    assert summary.layer_norms[0][1] ** 2 == pytest.approx(
        sum(update.norm() ** 2 for site, update in updates.items() if "layers.0." in site), rel=1e-5
    )
    assert len(summary.spectrum) == 4
    assert 1 < summary.effective_rank < 4
    with pytest.raises(KeyError):
        library_record(library_of([mixed])).summary("other")


def test_settings_reach_the_analysis(library: Library) -> None:
    made = library_record(library, "parameters", 0.8, n_clusters=2, seed=3)
    assert (made.similarity.measure, made.similarity.sparsity) == ("parameters", 0.8)
    assert (made.clustering.n_clusters, made.clustering.seed, made.projection.seed) == (2, 3, 3)
    np.testing.assert_array_equal(made.similarity.values, similarity(library, "parameters", 0.8).values)


def test_clusters_can_be_changed_without_the_weights(library: Library, record: LibraryRecord) -> None:
    stored = from_json(to_json(record))
    for count in (2, 5):
        again = with_clusters(stored, count)
        assert again.clustering.labels == cluster(similarity(library), count).labels
        assert again.projection is stored.projection
    assert with_clusters(stored, None, seed=1).clustering.seed == 1


def test_titles_of_clusters() -> None:
    adapters = planted(3, 4)
    assert cluster_title(library_record(library_of(adapters), n_clusters=3), 1) == "1 family 1"
    adapters[4] = replace(adapters[4], notes=replace(adapters[4].notes, family="arithmetic"))
    assert cluster_title(library_record(library_of(adapters), n_clusters=3), 1) == "1 family 1 (3 of 4)"
    for place, family in ((7, "grammar"), (10, "nli")):
        adapters[place] = replace(adapters[place], notes=replace(adapters[place].notes, family=family))
    assert cluster_title(library_record(library_of(adapters), n_clusters=3), 1) == "1 mixed"
    strangers = [
        replace(adapter, notes=replace(adapter.notes, family=f"own {index}")) for index, adapter in enumerate(adapters)
    ]
    assert cluster_title(library_record(library_of(strangers), n_clusters=3), 1) == "1 mixed"
    nameless = [replace(adapter, notes=replace(adapter.notes, family="")) for adapter in adapters]
    assert cluster_title(library_record(library_of(nameless), n_clusters=3), 2) == "cluster 2"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_small_library_has_a_record_too(count: int) -> None:
    made = library_record(library_of(unrelated((4,) * count)))
    assert to_json(from_json(to_json(made))) == to_json(made)


def test_a_library_from_files_has_a_record(tmp_path: Path) -> None:
    for seed, name in enumerate(("math", "prose", "poems")):
        write_adapter(tmp_path / name, seed=seed)
    with open_folder(tmp_path, source="mine") as opened:
        made = library_record(opened)
    assert made.names == ("math", "poems", "prose")
    assert all(summary.size_bytes > 0 and len(summary.content_hash) == 64 for summary in made.adapters)


# A library as JSON


def test_remarks_on_a_library_are_kept_and_may_be_missing_in_an_older_record(tmp_path: Path) -> None:
    write_adapter(tmp_path / "math")
    (tmp_path / "library.json").write_text('{"title": 7}')
    said = ("library.json: the field 'title' is not as expected and was left out.",)
    with open_folder(tmp_path, source="mine") as opened:
        made = library_record(opened)
    assert made.remarks == from_json(to_json(made)).remarks == said
    older = json.loads(to_json(made))
    del older["remarks"]
    assert from_json(json.dumps(older)).remarks == ()


def test_json_comes_back_with_numbers_to_six_digits(record: LibraryRecord) -> None:
    text = to_json(record)
    back = from_json(text)
    assert to_json(back) == text
    assert back.verdicts == record.verdicts
    assert back.description == HOSTILE
    assert back.clustering.labels == record.clustering.labels
    assert list(back.clustering.silhouettes) == list(record.clustering.silhouettes)
    np.testing.assert_allclose(back.similarity.values, record.similarity.values, rtol=5e-6)
    np.testing.assert_allclose(back.projection.xy, record.projection.xy, rtol=5e-6)
    for one, two in zip(back.adapters, record.adapters, strict=True):
        rounded = {"neighbours": (), "spectrum": (), "layer_norms": (), "effective_rank": 0.0}
        assert replace(one, **rounded) == replace(two, **rounded)
        assert one.spectrum == pytest.approx(two.spectrum, rel=5e-6)
        assert one.layer_norms[0][0] == two.layer_norms[0][0]
        assert one.neighbours[0].name == two.neighbours[0].name


def test_json_has_a_line_for_each_adapter_and_is_small() -> None:
    made = make_record()
    text = to_json(made)
    assert sum(line.startswith(' {"name": ') for line in text.splitlines()) == 2 * 24
    assert len(text) < 100_000
    json.loads(text, parse_constant=pytest.fail)


def broken(record: LibraryRecord) -> dict[str, str]:
    data = json.loads(to_json(record))
    return {
        "empty": "",
        "no object": "[]",
        "another format": json.dumps({**data, "format": 99}),
        "a part is missing": json.dumps({key: value for key, value in data.items() if key != "clustering"}),
        "a field too many": json.dumps({**data, "similarity": {**data["similarity"], "more": 1}}),
        "an adapter less": json.dumps({**data, "adapters": data["adapters"][1:]}),
        "a matrix of another size": json.dumps({**data, "values": data["values"][1:]}),
        "a ragged matrix": json.dumps({**data, "values": [[1.0], *data["values"][1:]]}),
        "a point less": json.dumps({**data, "xy": data["xy"][1:]}),
        "other labels": json.dumps({**data, "clustering": {**data["clustering"], "labels": [7] * 12}}),
        "another status": json.dumps({**data, "verdicts": [{**data["verdicts"][0], "status": "great"}]}),
    }


def test_any_other_json_is_refused(record: LibraryRecord) -> None:
    for what, text in broken(record).items():
        with pytest.raises(ValueError, match=r"."):
            from_json(text)
            pytest.fail(what)


# A prompt


@pytest.fixture
def prompt() -> PromptRecord:
    made = make_record()
    trace = make_trace(made, generated=7)
    trace.scores[3, :, 5] = np.nan
    trace.scores[0, 0, 0] = 1e6
    answers = (Answer("base", HOSTILE, 7, 0.5), Answer("Arrow, top 4, temperature 1", "", 0, 0.0))
    return PromptRecord(f"Is this good? {HOSTILE}", True, trace, answers, made.content_hash, made.base_model)


def test_a_prompt_comes_back(prompt: PromptRecord, tmp_path: Path) -> None:
    write_prompt_record(prompt, tmp_path)
    back = read_prompt_record(tmp_path)
    assert replace(back, trace=prompt.trace).__dict__ == prompt.__dict__
    for key in ("sites", "tokens", "token_ids", "names", "prompt_length", "typed", "router"):
        assert getattr(back.trace, key) == getattr(prompt.trace, key)
    assert back.trace.weights.dtype == back.trace.scores.dtype == np.float32
    # float16 has eleven binary digits
    np.testing.assert_allclose(back.trace.weights, prompt.trace.weights, rtol=5e-4, atol=1e-7)
    np.testing.assert_allclose(back.trace.scores[1:], prompt.trace.scores[1:], rtol=5e-4)
    assert back.trace.scores[0, 0, 0] == np.finfo(np.float16).max
    assert np.isnan(back.trace.scores[3, :, 5]).all()


def test_a_prompt_takes_little_room_and_the_same_bytes_each_time(prompt: PromptRecord, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_prompt_record(prompt, tmp_path / name)
    assert sum(path.stat().st_size for path in (tmp_path / "one").iterdir()) < 500_000
    for name in ("prompt.json", "prompt.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        "no npz",
        "npz cut",
        "npz is text",
        "other shape",
        "text array",
        "missing array",
        "names",
        "typed",
        "length",
        "nan",
    ],
)
def test_a_damaged_prompt_is_refused(damage: str, prompt: PromptRecord, tmp_path: Path) -> None:
    write_prompt_record(prompt, tmp_path)
    data, numbers = json.loads((tmp_path / "prompt.json").read_text()), tmp_path / "prompt.npz"
    weights, scores = prompt.trace.weights.astype(np.float16), prompt.trace.weights.astype(np.float16)
    match damage:
        case "no npz":
            numbers.unlink()
        case "npz cut":
            numbers.write_bytes(numbers.read_bytes()[:1000])
        case "npz is text":
            numbers.write_text("weights")
        case "other shape":
            np.savez(numbers, weights=weights[1:], scores=scores)
        case "text array":
            np.savez(numbers, weights=weights.astype(str), scores=np.full(scores.shape, "x"))
        case "missing array":
            np.savez(numbers, weights=weights)
        case "nan":
            np.savez(numbers, weights=np.full_like(weights, np.nan), scores=scores)
        case "names":
            data["trace"]["names"].pop()
        case "typed":
            data["trace"]["typed"].pop()
        case "length":
            data["trace"]["prompt_length"] = 99
    (tmp_path / "prompt.json").write_text(json.dumps(data))
    with pytest.raises((ValueError, OSError)):
        read_prompt_record(tmp_path)


def test_pickled_arrays_are_not_opened(prompt: PromptRecord, tmp_path: Path) -> None:
    write_prompt_record(prompt, tmp_path)
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "prompt.npz", weights=objects, scores=objects)
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        read_prompt_record(tmp_path)
