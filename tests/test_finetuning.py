"""Fine-tuning on a few examples from a mixture of the library, on tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning_samples import TASKS, library_of, routed_of, task_of

import explorer
from explorer.adapters.library import Library
from explorer.errors import BaseModelError, LearningError, SettingsError
from explorer.learning.examples import few_shot
from explorer.learning.finetuning import finetune, module_names
from explorer.learning.mixing import batch_of
from explorer.learning.progress import LearningStopped, Watch
from explorer.learning.starting_point import mean_weights, put_in, start_weights, starting_point
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel
from explorer.routers import Arrow, Base, Single, Uniform
from explorer.routing.router import Router
from explorer.routing.site_weights import SiteWeights
from explorer.training.batches import Encoded, answer_losses
from explorer.training.fresh_adapter import take_off, with_fresh_adapter
from explorer.training.recipe import Recipe

Tiny = Callable[[str], BaseModel]
RANK = 9  # the ranks 2, 3 and 4 of the library together


def routed_loss(routed: RoutedModel, rows: list[Encoded], router: Router) -> float:
    losses = []
    for row in rows:
        output, _ = routed.forward([row.ids], [router], prompt_lengths=[row.prompt_length])
        found = torch.log_softmax(output.logits[0, row.prompt_length - 1 : -1].float(), dim=-1)
        losses.append(-float(found.gather(1, torch.tensor(row.ids[row.prompt_length :])[:, None]).mean()))
    return sum(losses) / len(losses)


def test_arrows_mean_weights_are_those_of_its_traces(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    prompts = ["the sea", "a dog and a fox"]
    traces = [routed.route(prompt, Arrow(), chat=False).weights for prompt in prompts]
    expected = np.concatenate(traces, axis=1).mean(axis=1)
    ids = [routed.base.tokenizer(prompt)["input_ids"] for prompt in prompts]
    for found in (mean_weights(routed, Arrow(), ids), start_weights(routed, "arrow", ids)):
        for place, site in enumerate(routed.sites):
            np.testing.assert_allclose(found.rows[site].numpy(), expected[place], atol=1e-5)


@pytest.mark.parametrize("start", ["uniform", "arrow"])
def test_it_starts_at_the_loss_of_the_mixture_when_the_rank_is_enough(start: str, tiny: Tiny, tmp_path: Path) -> None:
    routed = routed_of(tiny("llama"))
    card = finetune(routed, TASKS[3], tmp_path, start=start, examples=4, steps=1, rank=RANK, learning_rate=1e-9)
    rows = few_shot(routed.base, TASKS[3], 4, chat=True, seed=0, longest=512)
    mixture: Router = Uniform()
    if start == "arrow":
        prompts = [row.ids[: row.prompt_length] for row in rows]
        mixture = SiteWeights(weights=mean_weights(routed, Arrow(), prompts))
    assert card["loss_before"] == pytest.approx(routed_loss(routed, rows, mixture), abs=2e-3)
    assert card["loss_of_base"] == pytest.approx(routed_loss(routed, rows, Base()), abs=2e-3)
    assert card["start_energy_kept"] == 1.0


def test_scratch_takes_nothing_from_the_library(tiny: Tiny, tmp_path: Path) -> None:
    routed = routed_of(tiny("llama"))
    card = finetune(routed, TASKS[3], tmp_path, start="scratch", examples=4, steps=5, learning_rate=0.01)
    assert card["loss_before"] == card["loss_of_base"]
    assert card["loss_after"] < card["loss_before"] - 0.1
    assert card["start"] == "scratch"


def test_a_start_cut_to_a_rank_is_the_nearest_of_that_rank(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    weights = start_weights(routed, "uniform", [])
    point = starting_point(routed.library, weights, 2)
    lost = whole = 0.0
    for site, one in point.cuts.items():
        mean = sum(a.updates[site].dense() for a in routed.library.adapters if site in a.updates) / 3
        values = torch.linalg.svdvals(mean)
        assert one is not None
        assert one.rank == 2
        difference = float((one.b @ one.a - mean).norm())
        assert difference == pytest.approx(float(values[2:].norm()), rel=1e-3)
        lost, whole = lost + difference**2, whole + float(mean.norm()) ** 2
    assert point.kept == pytest.approx(1 - lost / whole, rel=1e-4)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # PEFT sets it right
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_start_in_peft_is_the_mixture(architecture: str, tiny: Tiny) -> None:
    from routed_samples import random_adapter
    from tiny_models import TARGETS

    from explorer.models.shapes import linear_shapes

    base = tiny(architecture)
    shapes = {s: d for s, d in linear_shapes(base.model).items() if s.rpartition(".")[2] in TARGETS[architecture]}
    routed = RoutedModel(base, Library([random_adapter(f"a{seed}", shapes, seed=seed) for seed in range(2)]))
    rows = few_shot(base, TASKS[0], 3, chat=False, seed=0, longest=100)
    recipe = Recipe(rank=8, alpha=3.0, target_modules=module_names(base, routed.sites))
    model = with_fresh_adapter(base, recipe)
    try:
        put_in(model, starting_point(routed.library, start_weights(routed, "uniform", []), 8))
        with torch.no_grad():
            found = float(answer_losses(model.eval(), batch_of(rows, base)).mean())
    finally:
        take_off(model, base)
    assert found == pytest.approx(routed_loss(routed, rows, Uniform()), rel=1e-4)


def test_the_result_is_an_adapter_named_by_its_task_and_a_folder_of_them_a_library(tiny: Tiny, tmp_path: Path) -> None:
    routed = routed_of(tiny("llama"))
    before = routed.logits("the sea", Base())
    told: list[tuple[int, int, str]] = []
    watch = Watch(lambda *step: told.append(step))
    card = finetune(routed, TASKS[3], tmp_path, examples=4, steps=5, learning_rate=0.01, watch=watch)
    finetune(routed, TASKS[0], tmp_path, examples=4, steps=1)
    assert card["loss_after"] < card["loss_before"] - 0.2
    assert (card["recipe"]["rank"], card["start"], card["loss_split"]) == (4, "arrow", "few-shot validation")
    assert [done for done, _, _ in told] == list(range(6))
    assert told[-1] == (5, 5, "fox")
    torch.testing.assert_close(routed.logits("the sea", Base()), before, atol=0, rtol=0)
    assert not routed.base.lock.locked()
    with explorer.open_library(tmp_path) as library:
        assert sorted(library.names) == ["fox", "sea"]
        assert library["fox"].notes.tasks == ("fox",)
        assert library["fox"].notes.start == "arrow"
    (tmp_path / "sea" / "card.json").write_text('{"start": "2024-01-01"}')  # of somebody else, who means another thing
    with explorer.open_library(tmp_path) as library:
        assert library["sea"].notes.start == ""
        assert library.base_model == "tiny/llama"
        own = RoutedModel(routed.base, library)
        rows = few_shot(routed.base, TASKS[3], 4, chat=True, seed=0, longest=512)
        assert routed_loss(own, rows, Single("fox")) == pytest.approx(card["loss_after"], abs=0.02)
    again = finetune(routed, TASKS[3], tmp_path / "again", examples=4, steps=5, learning_rate=0.01)
    assert again == card
    first, second = (tmp_path / part / "adapter_model.safetensors" for part in ("fox", "again/fox"))
    assert first.read_bytes() == second.read_bytes()


def test_modules_are_named_shortly_only_where_that_means_the_same(tiny: Tiny) -> None:
    base = tiny("llama")
    assert module_names(base, routed_of(base).sites) == ("down_proj", "q_proj", "v_proj")
    only = [site for site in routed_of(base).sites if ".1." in site]
    assert module_names(base, only) == tuple(only)


def test_a_library_of_some_modules_trains_these_alone(tiny: Tiny, tmp_path: Path) -> None:
    last = library_of().adapters[2]
    routed = RoutedModel(tiny("llama"), Library([last]))
    finetune(routed, TASKS[3], tmp_path, start="uniform", examples=2, steps=1)
    with explorer.open_library(tmp_path) as library:
        assert set(library["fox"].updates) == set(last.updates)


def test_a_stop_leaves_nothing_behind(tiny: Tiny, tmp_path: Path) -> None:
    routed = routed_of(tiny("llama"))
    before = routed.logits("the sea", Base())
    answers = iter([False, False, True])
    with pytest.raises(LearningStopped):
        finetune(routed, TASKS[3], tmp_path, examples=4, steps=4, watch=Watch(stop=lambda: next(answers)))
    assert list(tmp_path.iterdir()) == []
    torch.testing.assert_close(routed.logits("the sea", Base()), before, atol=0, rtol=0)
    assert not routed.base.model.training


def _in_the_way(folder: Path) -> None:
    (folder / "fox").mkdir()


@pytest.mark.parametrize(
    ("settings", "error", "problem"),
    [
        ({"start": "arrows"}, SettingsError, "start: expected one of arrow, uniform, scratch, found 'arrows'"),
        ({"rank": 2000}, SettingsError, "rank: expected 1 to 1024, found 2000"),
        ({"steps": 0}, SettingsError, "epochs: expected 1 to 1000, found 0"),
        ({"target": task_of("dog", test_only=True)}, LearningError, "dog: has only test rows"),
        ({"taken": True}, LearningError, r"fox: is there already. Remove it"),
    ],
)
def test_what_cannot_be_is_told(
    settings: dict[str, Any], error: type[Exception], problem: str, tiny: Tiny, tmp_path: Path
) -> None:
    if settings.pop("taken", False):
        _in_the_way(tmp_path)
    target = settings.pop("target", TASKS[3])
    with pytest.raises(error, match=problem):
        finetune(routed_of(tiny("llama")), target, tmp_path, examples=2, **settings)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["fox"])


def test_a_library_that_is_held_is_told(tiny: Tiny, tmp_path: Path) -> None:
    routed = routed_of(tiny("llama"))
    with routed, pytest.raises(BaseModelError, match="has a library attached by a `with` block"):
        finetune(routed, TASKS[3], tmp_path)


def test_the_card_says_what_it_started_from(tiny: Tiny, tmp_path: Path) -> None:
    routed = routed_of(tiny("llama"))
    target = replace(TASKS[3], validation=())
    card = finetune(routed, target, tmp_path, start="uniform", examples=2, steps=1, rank=1)
    stored = json.loads((tmp_path / "fox" / "card.json").read_text())
    assert stored == card
    assert 0 < card["start_energy_kept"] < 1
    assert (card["method"], card["loss_split"], card["train_rows"]) == ("finetune", "few-shot train", 2)
