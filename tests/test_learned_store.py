"""What was learned is kept and read again; whatever a stranger puts into such a folder ends in one sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from learning_samples import TASKS, reversed_of, routed_of
from safetensors.torch import load_file, save_file

from explorer.adapters.library import Library
from explorer.errors import ExplorerError, LearningError, SettingsError
from explorer.learning.centroids import learn_centroids
from explorer.learning.gates import learn_gates
from explorer.learning.layer_mixture import learn_mixture
from explorer.learning.learned import Learned, adapters_hash
from explorer.learning.lorahub import learn_lorahub
from explorer.learning.store import FACTS, KINDS, NUMBERS, load_learned, save_learned
from explorer.learning.task_predictor import learn_predictor
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel

Tiny = Callable[[str], BaseModel]
PROMPT = "the sea and a dog"


@pytest.fixture(scope="module")
def routed(tiny: Tiny) -> RoutedModel:
    return routed_of(tiny("llama"), ("sea", "sum", "none"))


@pytest.fixture(scope="module")
def learned(routed: RoutedModel) -> dict[str, Learned]:
    return {
        "centroid": learn_centroids(routed, TASKS, examples=2),
        "predictor": learn_predictor(routed, TASKS, examples=3),
        "phatgoose": learn_gates(routed, TASKS, examples=2, steps=1, batch_size=2),
        "lorahub": learn_lorahub(routed, TASKS[3], examples=2, evaluations=2),
        "mixture": learn_mixture(routed, TASKS[3], examples=2, steps=1),
    }


@pytest.fixture
def folder(routed: RoutedModel, learned: dict[str, Learned], tmp_path: Path) -> Path:
    return save_learned(learned["centroid"], tmp_path / "centroid")


def edit(folder: Path, **changes: Any) -> None:
    """Change fields of learned.json."""
    path = folder / FACTS
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Put other numbers there, and their hash."""
    save_file(tensors, folder / NUMBERS)
    edit(folder, sha256=hashlib.sha256((folder / NUMBERS).read_bytes()).hexdigest())


@pytest.mark.parametrize("key", KINDS)
def test_what_is_read_again_routes_alike_also_in_another_order(
    key: str, routed: RoutedModel, learned: dict[str, Learned], tmp_path: Path
) -> None:
    saved = learned[key]
    place = save_learned(saved, tmp_path / key)
    found = load_learned(place, routed.library)
    assert type(found) is type(saved)
    assert found.facts == saved.facts
    assert found.router_for(PROMPT, routed) == saved.router_for(PROMPT, routed)
    other = reversed_of(routed)
    assert load_learned(place, other.library).router_for(PROMPT, other) == saved.router_for(PROMPT, routed)
    assert sorted(path.name for path in place.iterdir()) == [FACTS, NUMBERS]
    assert saved.facts.left_out == (() if saved.facts.target else ("adapter-2",))


def test_the_hash_of_a_library_is_of_its_content(routed: RoutedModel) -> None:
    adapters = routed.library.adapters
    assert adapters_hash(Library(adapters[::-1])) == adapters_hash(routed.library)
    other = replace(adapters[0], content_hash="another")
    assert adapters_hash(Library([other, *adapters[1:]])) != adapters_hash(routed.library)


def test_another_library_is_refused(folder: Path, routed: RoutedModel) -> None:
    other = Library(
        [replace(routed.library.adapters[0], content_hash="new"), *routed.library.adapters[1:]], title="Mine"
    )
    with pytest.raises(LearningError, match=r"^centroid: was learned on other adapters than those of Mine. Open the"):
        load_learned(folder, other)


def test_a_base_model_that_changed_is_refused(folder: Path, routed: RoutedModel) -> None:
    edit(folder, base_hash="abc")
    with pytest.raises(LearningError, match=r"was learned when tiny/llama was another\. Learn anew\."):
        load_learned(folder, routed.library).check(routed)


def test_a_taken_place_is_left_alone(folder: Path, learned: dict[str, Learned]) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SettingsError, match="is there and is not an empty folder"):
        save_learned(learned["mixture"], folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


HUGE = 10**400
WRONG_FACTS: list[dict[str, Any]] = [
    {"format": 2},
    {"format": None},
    {"router": "arrow"},
    {"router": ["centroid"]},
    {"names": "adapter-0"},
    {"names": []},
    {"names": ["adapter-0", "adapter-0"]},
    {"names": ["adapter-0", "stranger"]},
    {"names": ["adapter-0", 3]},
    {"left_out": ["adapter-1"]},
    {"library_hash": 5},
    {"base_model": None},
    {"target": {}},
    {"data_hashes": {"sea": 1}},
    {"data_hashes": ["sea"]},
    {"settings": {"examples": [1]}},
    {"settings": {"examples": float("nan")}},
    {"results": {"loss": "low"}},
    {"results": {"loss": HUGE}},
    {"versions": {"torch": 2}},
    {"sha256": None},
    {"sha256": "0" * 64},
]


@pytest.mark.parametrize("changes", WRONG_FACTS, ids=lambda changes: str(changes)[:40])
def test_wrong_facts_end_in_one_sentence(changes: dict[str, Any], folder: Path, routed: RoutedModel) -> None:
    edit(folder, **changes)
    with pytest.raises(LearningError) as caught:
        load_learned(folder, routed.library)
    assert caught.value.sentence.startswith("centroid")
    assert len(caught.value.sentence) < 300


@pytest.mark.parametrize("field", ["format", "router", "names", "settings", "sha256", "library_hash"])
def test_a_missing_field_is_told(field: str, folder: Path, routed: RoutedModel) -> None:
    facts = json.loads((folder / FACTS).read_text())
    del facts[field]
    (folder / FACTS).write_text(json.dumps(facts))
    with pytest.raises(LearningError, match=r"^centroid/learned.json: is not what `learn` writes. Make it anew"):
        load_learned(folder, routed.library)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{", b"null", b"[" * 100_000])
def test_a_file_of_facts_that_is_none(content: bytes, folder: Path, routed: RoutedModel) -> None:
    (folder / FACTS).write_bytes(content)
    with pytest.raises(LearningError, match=r"^centroid/learned.json: (cannot be read as JSON|is not a JSON object)"):
        load_learned(folder, routed.library)


def test_no_folder_a_link_and_a_missing_file(folder: Path, routed: RoutedModel, tmp_path: Path) -> None:
    with pytest.raises(LearningError, match=r"holds no learned.json. Name a folder that `learn` wrote"):
        load_learned(tmp_path / "nowhere", routed.library)
    (folder / NUMBERS).rename(tmp_path / "kept")
    with pytest.raises(LearningError, match=r"^centroid/learned.safetensors: is missing or too large"):
        load_learned(folder, routed.library)
    (folder / NUMBERS).symlink_to(tmp_path / "kept")
    with pytest.raises(LearningError, match="is not a plain file"):
        load_learned(folder, routed.library)
    (folder / FACTS).rename(tmp_path / "facts")
    (folder / FACTS).symlink_to(tmp_path / "facts")
    with pytest.raises(LearningError, match=r"holds no learned.json"):
        load_learned(folder, routed.library)


def test_numbers_that_were_exchanged_or_damaged(folder: Path, routed: RoutedModel) -> None:
    raw = (folder / NUMBERS).read_bytes()
    for content in (raw[:-1], raw[:-4] + b"\0\0\1\0", b"\0" * 100, b"", raw + b"more"):
        (folder / NUMBERS).write_bytes(content)
        with pytest.raises(LearningError, match=r"^centroid/learned.safetensors: "):
            load_learned(folder, routed.library)


@pytest.mark.parametrize(
    ("kind", "change", "problem"),
    [
        ("centroid", lambda tensors, site: tensors.pop(site), "lacks array 'model.layers.0"),
        ("centroid", lambda tensors, site: tensors.update(more=torch.zeros(2)), "has an unknown array 'more'"),
        (
            "centroid",
            lambda tensors, site: tensors.update({site: torch.zeros(2, 5)}),
            r"of shape \(2, 5\), not \(2, 48\)",
        ),
        ("mixture", lambda tensors, site: tensors.update({site: torch.zeros(4)}), r"of shape \(4,\), not \(3,\)"),
        ("lorahub", lambda tensors, site: tensors[site].fill_(float("inf")), "with values that are not finite"),
        ("phatgoose", lambda tensors, site: tensors.update({site: tensors[site].half()}), "of dtype F16, not F32"),
        ("predictor", lambda tensors, _: tensors["scale"].zero_(), "has a mean or a scale that no classifier has"),
        ("predictor", lambda tensors, _: tensors.update(mean=torch.zeros(())), "has an array 'scale' of shape"),
        ("predictor", lambda tensors, _: tensors.pop("mean"), "lacks array 'mean'"),
        ("predictor", lambda tensors, _: tensors.update(intercepts=torch.zeros(1, 2)), "has an array 'intercepts' of"),
    ],
)
def test_numbers_of_another_kind(
    kind: str, change: Any, problem: str, routed: RoutedModel, learned: dict[str, Learned], tmp_path: Path
) -> None:
    folder = save_learned(learned[kind], tmp_path / kind)
    tensors = load_file(folder / NUMBERS)
    change(tensors, routed.sites[0])
    rewrite(folder, tensors)
    with pytest.raises(LearningError, match=problem) as caught:
        load_learned(folder, routed.library)
    assert caught.value.sentence.endswith("Make it anew with `learn`.")


def test_a_predictor_for_another_width_is_told(
    routed: RoutedModel, learned: dict[str, Learned], tmp_path: Path
) -> None:
    folder = save_learned(learned["predictor"], tmp_path / "predictor")
    tensors = load_file(folder / NUMBERS)
    rewrite(folder, {name: value[..., :5].contiguous() for name, value in tensors.items()})
    with pytest.raises(LearningError, match="does not fit the base model, expected 5 numbers a token, found 32"):
        load_learned(folder, routed.library).router_for(PROMPT, routed)


def test_a_temperature_that_no_router_takes_is_told(folder: Path, routed: RoutedModel) -> None:
    for value in (0, "hot", True):
        edit(folder, settings={"temperature": value})
        with pytest.raises(SettingsError, match="Temperature T: expected a number from"):
            load_learned(folder, routed.library).router_for(PROMPT, routed)
    edit(folder, settings={"temperature": 0.25})
    assert load_learned(folder, routed.library).router_for(PROMPT, routed).label == "Centroid matching, T 0.25"


def test_names_that_would_turn_a_terminal_round_are_cleaned(folder: Path, routed: RoutedModel) -> None:
    edit(folder, base_model="tiny/\x1b[2Jllama", settings={"\u202enote": "a\x07b"})
    found = load_learned(folder, routed.library)
    assert found.facts.base_model == "tiny/\ufffd[2Jllama"
    assert "\x07" not in str(found.facts)
    with pytest.raises(ExplorerError):
        found.router_for(PROMPT, routed)
