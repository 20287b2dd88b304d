"""What lies on disk and is damaged: checkpoints are started anew, adapters refused in words, and other bases known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from build_samples import PRIVATE, built_events, contents, plan_for, weights_of
from safetensors import safe_open
from safetensors.torch import load, load_file, save, save_file
from tiny_trainable import save_tiny_llama

from explorer.errors import SettingsError, TaskDataError
from explorer.models.base import load_base_model
from explorer.training import checkpoint
from explorer.training.cards import BASE_CONTENT, WEIGHTS_HASH, base_facts, is_done
from explorer.training.events import StepDone
from explorer.training.recipe import Recipe
from explorer.training.trainer import Job, train
from explorer.training.training_set import TrainingSet

SAMPLES = Path(__file__).parents[2] / "sample_libraries"
WEIGHTS = "adapter_model.safetensors"
Tensors = dict[str, torch.Tensor]
Note = dict[str, object]


@pytest.fixture(scope="module")
def chosen(tasks):
    return TrainingSet("next", tuple(task for task in tasks if task.name == "next"))


# Checkpoints


@pytest.fixture(scope="module")
def stopped(base, chosen, tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """A checkpoint after two of three steps, and what an undisturbed run leaves."""
    part, whole = (
        Job(chosen, PRIVATE, tmp_path_factory.mktemp(name), checkpoint_seconds=0.0) for name in ("part", "whole")
    )
    events = train(base, part)
    next(events)
    next(events)
    events.close()
    list(train(base, whole))
    (path,) = part.output.iterdir()
    return path, contents(whole.output)


def steps_after(path: Path, raw: bytes, base, chosen, output: Path) -> list[int]:
    (output / path.name).write_bytes(raw)
    events = train(base, Job(chosen, PRIVATE, output))
    return [event.step for event in events if isinstance(event, StepDone)]


def test_any_flipped_bit_starts_a_training_anew(stopped, base, chosen, tmp_path):
    path, undisturbed = stopped
    raw = path.read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    for place in (header, header + (len(raw) - header) // 2, len(raw) - 1, raw.index(b'\\"step\\": ') + 10):
        output = tmp_path / str(place)
        output.mkdir()
        flipped = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        assert steps_after(path, flipped, base, chosen, output) == [1, 2, 3]
        assert contents(output) == undisturbed


def changed(part: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors, Note], None]:
    """The first tensor whose name ends so, changed."""

    def apply(tensors: Tensors, _: Note) -> None:
        name = next(name for name in sorted(tensors) if name.endswith(part))
        tensors[name] = change(tensors[name])

    return apply


def without(part: str) -> Callable[[Tensors, Note], None]:
    def apply(tensors: Tensors, _: Note) -> None:
        del tensors[next(name for name in sorted(tensors) if name.endswith(part))]

    return apply


def noted(**values: object) -> Callable[[Tensors, Note], None]:
    return lambda _, note: note.update(values)


@pytest.mark.parametrize(
    "change",
    [
        *(noted(step=step) for step in (float("inf"), float("nan"), True, -1, 0, 4, "2", 10**400)),
        *(noted(loss_before=loss) for loss in (10**400, float("nan"), "1", None)),
        changed(".exp_avg", lambda _: torch.zeros(3, 5)),
        changed(".exp_avg", lambda value: value.to(torch.int64)),
        changed(".exp_avg_sq", lambda value: value * torch.nan),
        changed(".value", lambda value: value * torch.inf),
        changed(".step", lambda _: torch.zeros(4)),
        changed(".step", lambda _: torch.tensor(-1.0)),
        changed(".step", lambda _: torch.tensor(True)),
        without(".exp_avg_sq"),
        without(".step"),
        without(".value"),
        changed("chance.cpu", lambda value: torch.zeros_like(value)),
        changed("chance.cpu", lambda value: torch.full_like(value, 255)),
        changed("chance.cpu", lambda value: value.float()),
        without("chance.cpu"),
    ],
)
def test_no_state_that_a_training_cannot_have_is_gone_on_from(change, stopped, base, chosen, tmp_path):
    """Each with the right digest."""
    path, undisturbed = stopped
    with safe_open(path, framework="pt") as file:
        note = json.loads(file.metadata()["state"])
    tensors = load(path.read_bytes())
    before = rewritten(tensors, note)
    change(tensors, note)
    assert rewritten(tensors, note) != before
    assert steps_after(path, rewritten(tensors, note), base, chosen, tmp_path) == [1, 2, 3]
    assert contents(tmp_path) == undisturbed


def rewritten(tensors: Tensors, note: Note) -> bytes:
    text = json.dumps(note)
    return save(tensors, {"state": text, "sha256": checkpoint._digest(text, tensors)})


@pytest.mark.parametrize("facts", [{}, {"state": "[" * 100_000}, {"state": "[1]"}, {"state": "{}"}, None])
def test_a_checkpoint_without_a_note_or_digest_is_none(facts, stopped, base, chosen, tmp_path):
    path, _ = stopped
    with safe_open(path, framework="pt") as file:
        given = file.metadata()
    del given["sha256"]
    raw = save(load(path.read_bytes()), given if facts is None else facts)
    assert steps_after(path, raw, base, chosen, tmp_path) == [1, 2, 3]


# Training that goes astray


@pytest.mark.parametrize("rate", [10.0, 1e-3])
def test_an_only_step_is_taken_at_the_full_rate(rate, base, chosen, tmp_path):
    recipe = Recipe(rank=2, learning_rate=rate, max_rows=8)
    list(train(base, Job(chosen, recipe, tmp_path)))
    moved = [value.abs().max() for name, value in weights_of(tmp_path / "next").items() if "lora_B" in name]
    assert max(moved) == pytest.approx(rate, rel=0.01)


def test_weights_that_no_file_can_hold_are_not_saved(base, chosen, tmp_path):
    recipe = Recipe(rank=2, learning_rate=10.0, max_rows=8)
    events = train(base, Job(chosen, recipe, tmp_path))
    next(events)
    with torch.no_grad():
        next(value for name, value in base.model.named_parameters() if "lora_B" in name).fill_(1e6)
    with pytest.raises(SettingsError, match=r"next: training went astray: weights grew too large\. Lower"):
        list(events)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_after_the_last_step_is_not_saved(base, chosen, tmp_path):
    events = train(base, Job(chosen, Recipe(rank=2, max_rows=8), tmp_path))
    next(events)
    with torch.no_grad():
        next(value for name, value in base.model.named_parameters() if "lora_B" in name).fill_(torch.nan)
    with pytest.raises(
        SettingsError, match=r"went astray: the loss is .* before and nan after it\. Lower the learning"
    ):
        list(events)
    assert list(tmp_path.iterdir()) == []


# Adapters


@pytest.mark.parametrize(
    ("damage", "hashed"),
    [(damage, hashed) for damage in ("cut", "empty", "pickle") for hashed in (True, False)] + [("flipped", True)],
)
def test_a_damaged_adapter_is_refused_and_named(damage, hashed, built, tasks, base, tmp_path):
    plan = replace(built[0], output=tmp_path)
    shutil.copytree(built[0].output, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "mbc" / "cluster_0"
    raw = (folder / WEIGHTS).read_bytes()
    other = {"cut": raw[:-50], "empty": b"", "pickle": b"\x80\x04K\x01.", "flipped": raw[:-1] + bytes([raw[-1] ^ 1])}
    (folder / WEIGHTS).write_bytes(other[damage])
    if not hashed:  # as training wrote it before
        card = json.loads((folder / "card.json").read_text())
        del card[WEIGHTS_HASH]
        (folder / "card.json").write_text(json.dumps(card))
    before = contents(tmp_path)
    with pytest.raises(TaskDataError) as raised:
        built_events(tasks, plan, base)
    assert raised.value.sentence.startswith(f"{folder / WEIGHTS}: is damaged (it ")
    assert raised.value.sentence.endswith(f"). Remove {folder}, and the adapter is trained anew.")
    assert contents(tmp_path) == before
    shutil.rmtree(folder)
    built_events(tasks, plan, base)
    assert contents(tmp_path) == contents(built[0].output)


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_a_folder_without_a_card_is_said_to_be_that(text, built, chosen, tmp_path):
    if text is not None:
        (tmp_path / "card.json").write_text(text)
    with pytest.raises(
        TaskDataError, match=r"card\.json: is damaged \(it is missing, or is not what training writes\)"
    ):
        is_done(tmp_path, chosen, built[0].base, PRIVATE)


def test_every_adapter_of_the_samples_is_accepted():
    cards = sorted(SAMPLES.glob("*/*/card.json"))
    assert len(cards) > 50
    for path in cards:
        card = json.loads(path.read_text())
        given = SimpleNamespace(data_hash=card["data_sha256"])
        recipe = Recipe(**{**card["recipe"], "target_modules": tuple(card["recipe"]["target_modules"])})
        assert is_done(path.parent, given, base_facts(card["base_model"], ""), recipe)


# Base models


def test_a_local_base_model_whose_weights_changed_is_another_one(tasks, tmp_path):
    folder = save_tiny_llama(tmp_path / "base")
    base = load_base_model(folder, device="cpu")
    plan = plan_for(tmp_path / "out", base, stages=("private",))
    built_events(tasks, plan, base)
    card_path = plan.output / "private" / "next" / "card.json"
    card = json.loads(card_path.read_text())
    manifest = json.loads((plan.output / "manifest.json").read_text())
    assert card[BASE_CONTENT] == manifest[BASE_CONTENT] == base.content_id != ""
    weights = load_file(folder / "model.safetensors")
    save_file({name: value * 1.7 for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})

    again = replace(plan)
    with pytest.raises(TaskDataError, match="holds a build of another base model"):
        built_events(tasks, again, base)
    (plan.output / "manifest.json").unlink()
    with pytest.raises(TaskDataError, match="comes from another recipe, base model or data"):
        built_events(tasks, again, base)
    for path in (plan.output / "private").glob("*/card.json"):  # as training wrote them before
        old = json.loads(path.read_text())
        del old[BASE_CONTENT]
        path.write_text(json.dumps(old))
    built_events(tasks, again, base)


def test_a_model_of_fixed_content_adds_nothing():
    assert base_facts("HuggingFaceTB/SmolLM2-135M-Instruct", "") == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct"
    }
