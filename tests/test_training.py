"""Training: what is in a batch, what a finished folder holds, what survives a kill, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from tiny_trainable import save_tiny_llama, write_tasks

from explorer.errors import BaseModelError, SettingsError, TaskDataError
from explorer.models.base import BaseModel, load_base_model
from explorer.tasks.folder import read_tasks
from explorer.tasks.task import Example
from explorer.training.batches import IGNORED, answer_losses, batch_order, collate, encode
from explorer.training.events import AdapterSkipped, AdapterTrained, StepDone
from explorer.training.fresh_adapter import with_fresh_adapter
from explorer.training.private import train_private
from explorer.training.recipe import Recipe

RECIPE = Recipe(rank=2, learning_rate=0.02, epochs=4)
COMMAND_OPTIONS = ["--rank", "2", "--learning-rate", "0.02", "--epochs", "4"]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def base(base_folder: Path) -> BaseModel:
    return load_base_model(base_folder, device="cpu")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


# Batches


def test_only_the_answer_and_its_end_carry_loss(base):
    (row,) = encode(base.tokenizer, [Example("c a", "aaa")], chat=True, max_tokens=64)
    batch = collate([row], pad_token=0, device=torch.device("cpu"), most=4)

    labelled = [label for label in batch.labels[0].tolist() if label != IGNORED]
    assert base.tokenizer.convert_ids_to_tokens(labelled) == ["\n", "a", "a", "a", "</s>"]
    assert batch.labels[0, : row.prompt_length].tolist() == [IGNORED] * row.prompt_length


def test_padding_changes_no_loss(base):
    rows = encode(base.tokenizer, [Example("c a", "aaa"), Example("n b c d e f", "bbbccc")], chat=True, max_tokens=64)
    together = answer_losses(base.model, collate(rows, 0, torch.device("cpu"), 64))
    alone = [answer_losses(base.model, collate([row], 0, torch.device("cpu"), 64)) for row in rows]

    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_widths_are_few_and_never_beyond_the_model(base):
    rows = encode(base.tokenizer, [Example("n b c d e f", "bbbccc")], chat=True, max_tokens=64)
    length = len(rows[0].ids)
    for most, width in ((64, -(-length // 16) * 16), (length + 1, length + 1), (length, length)):
        assert collate(rows, 0, torch.device("cpu"), most).input_ids.shape == (1, width)


def test_answer_loss_equals_the_loss_that_transformers_computes(base):
    (row,) = encode(base.tokenizer, [Example("n c", "ddd")], chat=True, max_tokens=64)
    batch = collate([row], 0, torch.device("cpu"), 64)
    expected = base.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss

    torch.testing.assert_close(answer_losses(base.model, batch)[0], expected, atol=1e-5, rtol=1e-5)


def test_rows_that_do_not_fit_are_left_out(base):
    examples = [Example("c a", "aaa"), Example("c " + "a" * 60, "aaa")]
    assert len(encode(base.tokenizer, examples, chat=True, max_tokens=20)) == 1


def test_each_row_is_in_one_batch_and_batches_are_of_similar_length():
    lengths = [5, 40] * 64
    batches = batch_order(lengths, batch_size=8, seed=3)

    assert sorted(index for batch in batches for index in batch) == list(range(128))
    assert all(len({lengths[index] for index in batch}) == 1 for batch in batches)
    assert batches == batch_order(lengths, batch_size=8, seed=3) != batch_order(lengths, batch_size=8, seed=4)


# Training


@pytest.fixture(scope="module")
def trained(base_folder, tasks_folder, tmp_path_factory):
    """Both tasks trained in this process: output folder, events, the base's weights before and after."""
    output = tmp_path_factory.mktemp("trained") / "library"
    base = load_base_model(base_folder, device="cpu")
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    events = list(train_private(base, read_tasks(tasks_folder), RECIPE, output))
    return output, events, before, base


def test_one_folder_per_task_and_nothing_else(trained):
    output, _, _, _ = trained
    files = {"README.md", "adapter_config.json", "adapter_model.safetensors", "card.json"}
    assert {path.name: {file.name for file in path.iterdir()} for path in output.iterdir()} == {
        "copy": files,
        "next": files,
    }


def test_the_loss_goes_down_and_the_card_says_so(trained):
    output, events, _, _ = trained
    for done in [event for event in events if isinstance(event, AdapterTrained)]:
        assert done.card["loss_after"] < 0.8 * done.card["loss_before"]
        assert done.card == json.loads((output / done.name / "card.json").read_text())
        assert done.card["task"] == done.name
        assert done.card["family"] == "letters"
        assert done.card["recipe"]["seed"] == 0
        assert done.card["loss_split"] == "test"
        assert done.card["train_rows"] == 40
        assert done.card["steps"] == 20
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.step for event in steps] == [*range(1, 21), *range(1, 21)]


def test_every_adapter_starts_from_the_same_a_and_from_zero_b(base):
    starts = []
    for _ in range(2):
        model = with_fresh_adapter(base, RECIPE)
        starts.append({name: value.clone() for name, value in peft.get_peft_model_state_dict(model).items()})
        model.unload()
    first, second = starts
    assert {name.rsplit(".", 2)[1] for name in first} == {"lora_A", "lora_B"}
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(not value.any() for name, value in first.items() if ".lora_B." in name)


def test_two_tasks_in_one_run_share_their_initial_a(base, tasks_folder, tmp_path):
    """With a vanishing learning rate the saved A is the initial one (in float16)."""
    recipe = Recipe(rank=2, learning_rate=1e-9)
    list(train_private(base, read_tasks(tasks_folder), recipe, tmp_path))
    one, two = weights_of(tmp_path / "copy"), weights_of(tmp_path / "next")
    assert all(torch.equal(one[name], two[name]) for name in one if ".lora_A." in name)


def test_peft_loads_the_adapter_and_gets_the_loss_of_the_card(trained, base_folder, tasks_folder):
    output, _, _, _ = trained
    base = load_base_model(base_folder, device="cpu")
    model = peft.PeftModel.from_pretrained(base.model, output / "next").eval()
    (task,) = read_tasks(tasks_folder, ("next",))
    rows = encode(base.tokenizer, task.test, chat=True, max_tokens=64)
    losses = torch.cat([answer_losses(model, collate([row], 0, torch.device("cpu"), 64)) for row in rows])

    card = json.loads((output / "next" / "card.json").read_text())
    assert float(losses.mean()) == pytest.approx(card["loss_after"], abs=0.01)  # the file holds float16


def test_the_base_model_is_left_as_it_was(trained):
    _, _, before, base = trained
    after = base.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not base.model.training
    assert "peft_config" not in vars(base.model)


def test_a_finished_adapter_is_skipped(trained, base, tasks_folder):
    output, _, _, _ = trained
    assert list(train_private(base, read_tasks(tasks_folder), RECIPE, output)) == [
        AdapterSkipped("copy"),
        AdapterSkipped("next"),
    ]


@pytest.mark.parametrize("change", ["recipe", "data"])
def test_an_adapter_of_another_recipe_or_of_other_data_is_not_taken_for_ours(change, trained, base, tmp_path):
    output, _, _, _ = trained
    tasks = write_tasks(tmp_path, rows=20 if change == "data" else 40)
    recipe = Recipe(rank=3) if change == "recipe" else RECIPE
    with pytest.raises(TaskDataError, match="comes from another recipe, base model or data"):
        list(train_private(base, read_tasks(tasks), recipe, output))


def test_stopping_in_the_middle_leaves_nothing_behind(base, tasks_folder, tmp_path):
    events = train_private(base, read_tasks(tasks_folder), RECIPE, tmp_path / "library")
    assert isinstance(next(events), StepDone)
    events.close()
    assert list((tmp_path / "library").iterdir()) == []
    assert not base.model.training
    assert not any("lora" in name for name, _ in base.model.named_modules())


def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(trained, base_folder, tasks_folder, tmp_path):
    output = tmp_path / "library"
    command = [sys.executable, "-m", "explorer", "train", str(tasks_folder), "--output", str(output)]
    command += ["--base", str(base_folder), *COMMAND_OPTIONS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("next: step 10/"):
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL
    assert [path.name for path in output.iterdir()] == ["copy"]
    leftover = output / ".next.partial"  # what a kill in the middle of saving leaves
    leftover.mkdir()
    (leftover / "adapter_model.safetensors").write_bytes(b"half")
    first_time = (output / "copy" / "card.json").stat().st_mtime_ns

    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in output.iterdir()) == ["copy", "next"]
    assert (output / "copy" / "card.json").stat().st_mtime_ns == first_time
    for task in ("copy", "next"):
        name = f"{task}/adapter_config.json"
        assert (output / name).read_bytes() == (trained[0] / name).read_bytes()
        undisturbed, resumed = weights_of(trained[0] / task), weights_of(output / task)
        assert list(undisturbed) == list(resumed)
        for name in resumed:  # the same arithmetic on another number of threads may differ in the last bits
            torch.testing.assert_close(resumed[name], undisturbed[name], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (("c_attn",), "c_attn"),
        (("q_proj", "nosuch", "proj"), "nosuch, proj"),
        (("embed_tokens",), "embed_tokens"),
        (("q_proj", "self_attn"), "self_attn"),
    ],
)
def test_modules_that_the_model_lacks(base, tasks_folder, tmp_path, modules, absent):
    with pytest.raises(BaseModelError) as raised:
        list(train_private(base, read_tasks(tasks_folder), Recipe(target_modules=modules), tmp_path / "out"))
    assert raised.value.sentence == (
        f"{base.name}: has no linear modules called {absent}. Name its own modules as target modules."
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_is_a_file(base, tasks_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TaskDataError, match="cannot be used as output folder"):
        list(train_private(base, read_tasks(tasks_folder), RECIPE, tmp_path / "file"))


def test_a_loss_that_is_no_number_ends_the_run(base, tasks_folder, tmp_path):
    base.model.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(SettingsError, match="training went astray at step 1"):
        list(train_private(base, read_tasks(tasks_folder), RECIPE, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_task_without_a_row_that_fits(base, tmp_path):
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "a" * 500, "target": "b"}) + "\n")
    with pytest.raises(TaskDataError, match=r"at most 64 tokens\."):
        list(train_private(base, read_tasks(tmp_path), RECIPE, tmp_path / "out"))


@pytest.mark.parametrize(
    ("field", "value"), [("rank", 0), ("alpha", float("nan")), ("epochs", 0), ("learning_rate", -1.0), ("seed", -1)]
)
def test_a_recipe_out_of_bounds(field, value):
    with pytest.raises(SettingsError, match=f"^{field}: expected "):
        Recipe(**{field: value})


# Task files

TAKEN = ("library.json", "ReadMe.md", "manifest.json", "clusters.json")  # what stands beside the adapters
GOOD = {"task": "t", "family": "f", "prompt": "p", "target": "a"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('"text"', "expected a JSON object, found str"),
        ("[]", "expected a JSON object, found list"),
        (json.dumps({**GOOD, "prompt": 3}), "field 'prompt' must be text that is not empty"),
        (json.dumps({**GOOD, "prompt": " \n"}), "field 'prompt' must be text that is not empty"),
        (json.dumps({"task": "t", "prompt": "p"}), "field 'target' must be text that is not empty"),
        (json.dumps({**GOOD, "target": "half \ud800"}), "field 'target' holds half a character"),
        (json.dumps({**GOOD, "task": "../up"}), "field 'task' is not a usable name"),
        (json.dumps({**GOOD, "task": ".hidden"}), "field 'task' is not a usable name"),
        (json.dumps({**GOOD, "task": "a\x1b[2J"}), "field 'task' is not a usable name"),
        (json.dumps({**GOOD, "task": "n" * 81}), "field 'task' is not a usable name"),
        (json.dumps({**GOOD, "task": "\u6c49" * 80}), "field 'task' is not a usable name"),
        *((json.dumps({**GOOD, "task": name}), "field 'task' is not a usable name") for name in TAKEN),
        (json.dumps({**GOOD, "task": None}), "field 'task' is not a usable name"),
        (json.dumps({**GOOD, "family": 1}), "field 'family' must be text on one line"),
        (json.dumps({**GOOD, "family": "a\n---"}), "field 'family' must be text on one line"),
        (json.dumps({**GOOD, "split": "dev"}), "field 'split' must be one of train, validation, test"),
        (json.dumps({**GOOD, "split": ["train"]}), "field 'split' must be one of train, validation, test"),
        (json.dumps({**GOOD, "family": "other"}), "task 't' has two families, 'f' and 'other'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(line, problem, tmp_path):
    (tmp_path / "bad.jsonl").write_text(f"{json.dumps(GOOD)}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(TaskDataError) as caught:
        read_tasks(tmp_path)
    assert caught.value.sentence.startswith(f"bad.jsonl, line 3: {problem}")


def test_bytes_that_are_not_text(tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskDataError, match=r"^bad.jsonl: cannot be read as UTF-8 text\.$"):
        read_tasks(tmp_path)


def test_missing_and_empty_folders_and_unknown_tasks(tmp_path):
    with pytest.raises(TaskDataError, match="is not a folder"):
        read_tasks(tmp_path / "nowhere")
    with pytest.raises(TaskDataError, match=r"holds no \.jsonl file"):
        read_tasks(tmp_path)
    write_tasks(tmp_path)
    with pytest.raises(TaskDataError, match=r"has no task 'minus'. It has: copy, next\."):
        read_tasks(tmp_path, ("copy", "minus"))


def test_tasks_come_in_the_order_asked_for_once_each_without_their_test_rows(tmp_path):
    write_tasks(tmp_path)
    tasks = read_tasks(tmp_path, ("next", "copy", "next"))
    assert [(task.name, task.family, len(task.train), len(task.test)) for task in tasks] == [
        ("next", "letters", 40, 8),
        ("copy", "letters", 40, 8),
    ]


def test_a_file_with_a_byte_order_mark_and_windows_line_ends(tmp_path):
    (tmp_path / "one.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    (task,) = read_tasks(tmp_path)
    assert task.train == (Example("p", "a"),)
