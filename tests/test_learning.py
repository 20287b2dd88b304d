"""What routers learn from examples, against slow, obvious versions and planted cases."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learning_samples import TASKS, WORDS, library_of, reversed_of, routed_of, task_of

from explorer.errors import LearningError, SettingsError
from explorer.learning.centroids import learn_centroids
from explorer.learning.descent import Descent
from explorer.learning.examples import drawn, few_shot, own_tasks
from explorer.learning.gates import gated, learn_gates, new_gate
from explorer.learning.inputs import mean_state
from explorer.learning.layer_mixture import learn_mixture
from explorer.learning.learned import Learned
from explorer.learning.lorahub import _searched, everywhere, learn_lorahub
from explorer.learning.mixing import added, mean_loss
from explorer.learning.progress import SILENT, LearningStopped, Watch
from explorer.learning.task_predictor import learn_predictor
from explorer.models.base import BaseModel
from explorer.models.chat import encode_prompt
from explorer.models.events import TokenEmitted
from explorer.models.routed_model import RoutedModel
from explorer.routers import Base, Single, Uniform, Weighted
from explorer.routing.router import Router
from explorer.tasks.task import Example, Task
from explorer.training.batches import Encoded

Tiny = Callable[[str], BaseModel]
LEARNERS: dict[str, Callable[..., Learned]] = {
    "centroid": lambda routed, **more: learn_centroids(routed, TASKS, examples=3, **more),
    "predictor": lambda routed, **more: learn_predictor(routed, TASKS, examples=5, **more),
    "phatgoose": lambda routed, **more: learn_gates(routed, TASKS, examples=4, steps=2, batch_size=2, **more),
    "lorahub": lambda routed, **more: learn_lorahub(routed, TASKS[3], examples=2, evaluations=4, **more),
    "mixture": lambda routed, **more: learn_mixture(routed, TASKS[3], examples=2, steps=2, **more),
}
every_learner = pytest.mark.parametrize("key", LEARNERS)


def loss_of(routed: RoutedModel, rows: list[Encoded], router: Router) -> float:
    """Mean over rows of the answer's loss, one row at a time through the routed model."""
    losses = []
    for row in rows:
        output, _ = routed.forward([row.ids], [router], prompt_lengths=[row.prompt_length])
        found = torch.log_softmax(output.logits[0, row.prompt_length - 1 : -1].float(), dim=-1)
        answer = torch.tensor(row.ids[row.prompt_length :])
        losses.append(-float(found.gather(1, answer[:, None]).mean()))
    return sum(losses) / len(losses)


# -- which examples


def test_an_adapters_tasks_are_those_of_its_notes_or_its_name() -> None:
    by_name = {task.name: task for task in (*TASKS, task_of("sea", 3))} | {"dog": task_of("dog", test_only=True)}
    several, one, named = library_of([("sum", "fox", "unknown"), "sea", "dog"]).adapters
    assert [task.name for task in own_tasks(several, by_name)] == ["sum", "fox"]
    assert [task.name for task in own_tasks(one, by_name)] == ["sea"]
    assert own_tasks(named, by_name) == ()  # it has test rows only
    called = replace(one, name="fox", notes=replace(one.notes, task="a sentence"))
    assert [task.name for task in own_tasks(called, by_name)] == ["fox"]


def test_several_tasks_take_turns_and_nothing_comes_twice() -> None:
    parts = [TASKS[0].train[:5], TASKS[1].train[:2]]
    found = list(drawn(parts, seed=3))
    assert [example in parts[0] for example in found[:5]] == [True, False, True, False, True]
    assert sorted(found, key=str) == sorted([*parts[0], *parts[1]], key=str)
    assert found == list(drawn(parts, seed=3)) != list(drawn(parts, seed=4))


def test_few_examples_are_validation_rows_else_training_rows_and_never_test_rows(tiny: Tiny) -> None:
    base = tiny("llama")

    def prompts(task: Task) -> set[str]:
        rows = few_shot(base, task, 100, chat=False, seed=0, longest=100)
        return {base.tokenizer.decode(row.ids[: row.prompt_length]) for row in rows}

    task = task_of("sea")
    assert prompts(task) == {example.prompt for example in task.validation}
    assert prompts(replace(task, validation=())) == {example.prompt for example in task.train}
    with pytest.raises(LearningError, match=r"^fox: has only test rows"):
        prompts(task_of("fox", test_only=True))
    with pytest.raises(LearningError, match=r"^sea: has no row of at most 5 tokens to learn from"):
        few_shot(base, task, 4, chat=False, seed=0, longest=5)


def test_rows_that_do_not_fit_are_passed_over(tiny: Tiny) -> None:
    long = Example("the sea " * 200, "sea")
    task = replace(TASKS[0], train=(long, *TASKS[0].train[:2], long), validation=())
    assert len(few_shot(tiny("llama"), task, 9, chat=True, seed=0, longest=512)) == 2
    assert len(learn_centroids(routed_of(tiny("llama")), [task, *TASKS[1:]]).facts.names) == 3


@pytest.mark.parametrize("key", ["centroid", "predictor", "phatgoose"])
def test_without_examples_an_adapter_is_left_out_or_nothing_is_learned(key: str, tiny: Tiny) -> None:
    learned = LEARNERS[key](routed_of(tiny("llama"), ("sea", "none", "dog")))
    assert (learned.facts.names, learned.facts.left_out) == (("adapter-0", "adapter-2"), ("adapter-1",))
    assert set(learned.facts.data_hashes) == {"sea", "dog"}
    routed = routed_of(tiny("llama"), ("sea", "none", "dog"))
    weights = routed.route("the sea", learned.router_for("the sea", routed)).weights
    assert (weights[..., 1] == 0).all()
    assert weights.sum() > 0
    with pytest.raises(LearningError, match=r"adapter-0, .*no training rows among the tasks given. Name tasks as"):
        LEARNERS[key](routed_of(tiny("llama"), ("none", "neither", "nothing")))


# -- what holds for all


@every_learner
def test_the_same_seed_learns_the_same_and_the_librarys_order_does_not_matter(key: str, tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    learned, again = LEARNERS[key](routed), LEARNERS[key](routed)
    router = learned.router_for("the sea", routed)
    assert router == again.router_for("the sea", routed)
    other = reversed_of(routed)
    trace, turned = routed.route("the sea", router), other.route("the sea", learned.router_for("the sea", other))
    np.testing.assert_allclose(trace.weights, turned.weights[..., ::-1], atol=1e-5)
    if key != "lorahub":  # a search in another order of its axes is another search
        anew = LEARNERS[key](other).router_for("the sea", other)
        np.testing.assert_allclose(trace.weights, other.route("the sea", anew).weights[..., ::-1], atol=1e-4)


@every_learner
def test_nothing_but_what_is_learned_changes(key: str, tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    base = copy.deepcopy(routed.base.model.state_dict())
    banks = [(bank.down.clone(), [rows.clone() for rows in bank.up]) for bank in routed.banks]
    told: list[tuple[int, int, str]] = []
    learned = LEARNERS[key](routed, watch=Watch(lambda *step: told.append(step)))
    assert [done for done, _, _ in told] == list(range(told[0][1]))
    assert len({total for _, total, _ in told}) == 1
    answers = iter([False, True])
    with pytest.raises(LearningStopped, match="Learning: was stopped, and nothing of it was kept"):
        LEARNERS[key](routed, watch=Watch(stop=lambda: next(answers)))
    for name, value in routed.base.model.state_dict().items():
        assert torch.equal(value, base[name])
    for bank, (down, up) in zip(routed.banks, banks, strict=True):
        assert torch.equal(bank.down, down)
        assert all(torch.equal(one, other) for one, other in zip(bank.up, up, strict=True))
    assert not any(one.requires_grad or one.grad is not None for one in routed.base.model.parameters())
    assert not routed.base.lock.locked()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in routed.base.model.modules())
    elsewhere = RoutedModel(replace(routed.base, name="tiny/other"), routed.library)
    with pytest.raises(LearningError, match=r"was learned on tiny/llama, not on tiny/other\. Use that base model"):
        learned.router_for("the sea", elsewhere)
    fewer = routed_of(tiny("llama"), ("sea", "sum"))
    with pytest.raises(LearningError, match="was learned on other adapters than those of Library"):
        learned.router_for("the sea", fewer)


@every_learner
def test_another_architecture(key: str, tiny: Tiny) -> None:
    from routed_samples import random_adapter
    from tiny_models import TARGETS

    from explorer.adapters.library import Library
    from explorer.models.shapes import linear_shapes

    base = tiny("gpt2")
    shapes = {
        site: shape
        for site, shape in linear_shapes(base.model).items()
        if site.rpartition(".")[2] in TARGETS["gpt2"] and ".1." in site
    }
    routed = RoutedModel(base, Library([random_adapter(name, shapes, seed=place) for place, name in enumerate(WORDS)]))
    learned = LEARNERS[key](routed)
    trace = routed.route("the sea", learned.router_for("the sea", routed))
    assert np.isfinite(trace.weights).all()
    assert np.abs(trace.weights).sum() > 0


# -- centroids


def test_centroids_equal_a_plain_loop(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"), ("sea", ("sum", "fox"), "dog"))
    learned = learn_centroids(routed, TASKS, examples=4, seed=1)
    model, tokenizer = routed.base.model, routed.base.tokenizer
    for place, parts in enumerate(([TASKS[0]], [TASKS[1], TASKS[3]], [TASKS[2]])):
        examples = list(drawn([task.train for task in parts], seed=1))[:4]
        for site in routed.sites:
            inputs: list[torch.Tensor] = []
            hook = model.get_submodule(site).register_forward_hook(lambda _, args, __, to=inputs: to.append(args[0]))
            for example in examples:
                model(input_ids=torch.tensor([encode_prompt(tokenizer, example.prompt, chat=True)]))
            hook.remove()
            mean = sum(x[0, -1] for x in inputs) / 4
            expected = mean / math.sqrt(float((mean**2).sum()))
            torch.testing.assert_close(learned.vectors.rows[site][place], expected, atol=1e-5, rtol=1e-4)


# -- task predictor


def test_tasks_that_differ_are_told_apart(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"), ("sea", "sum", "dog", "fox"))
    learned = learn_predictor(routed, TASKS, examples=8)
    assert learned.facts.results["accuracy_on_examples"] == 1.0
    for place, name in enumerate(WORDS):
        prompt = f"{WORDS[name]} 777"  # no example
        trace = routed.route(prompt, learned.router_for(prompt, routed))
        whole = [index for index, site in enumerate(trace.sites) if ".1." in site]  # the last adapter has layer 1 only
        weights = trace.weights[whole]
        assert (weights == weights[0, 0]).all()
        assert weights[0, 0].argmax() == place
        assert weights[0, 0].sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("tasks", [("sea", "sum"), ("sea", "sum", "dog")], ids=["two", "three"])
def test_probabilities_equal_scikit_learns_own(tasks: tuple[str, ...], tiny: Tiny) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    routed = routed_of(tiny("llama"), tasks)
    learned = learn_predictor(routed, TASKS, examples=6, seed=2, chat=False)
    model, tokenizer = routed.base.model, routed.base.tokenizer

    def state(prompt: str) -> Any:
        output = model(input_ids=torch.tensor([tokenizer(prompt)["input_ids"]]), output_hidden_states=True)
        return output.hidden_states[-1][0].mean(dim=0).double().numpy()

    states, labels = [], []
    for place in range(len(tasks)):
        for example in list(drawn([TASKS[place].train], seed=2))[:6]:
            states.append(state(example.prompt))
            labels.append(place)
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(states, labels)
    for prompt in ("the sea and a dog", "9 + 9", "what is the sum"):
        expected = peer.predict_proba([state(prompt)])[0]
        ids = encode_prompt(tokenizer, prompt, chat=False)
        torch.testing.assert_close(mean_state(routed.base, ids).double().numpy(), state(prompt), atol=1e-5, rtol=1e-4)
        np.testing.assert_allclose(learned.probabilities(mean_state(routed.base, ids)), expected, atol=1e-3)
        assert learned.router_for(prompt, routed) == learned.router_for(ids, routed)


# -- gates


def test_a_gate_opens_as_the_formula_says(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    adapter = routed.library.adapters[1]
    gate = {site: torch.randn(len(vector)) for site, vector in new_gate(routed, 1).items()}
    seen: dict[str, Any] = {}

    def watch(site: str) -> Any:
        return lambda _, args, output: seen.__setitem__(site, (args[0], output))

    with added(routed, gated(1, gate)):
        hooks = [routed.base.model.get_submodule(site).register_forward_hook(watch(site)) for site in routed.sites]
        routed.base.model(input_ids=torch.tensor([[5, 6, 7]]))
        for hook in hooks:
            hook.remove()
    for site, (hidden, output) in seen.items():
        for token in range(3):
            h = hidden[0, token]
            opened = 1 / (1 + math.exp(-float(gate[site] @ h)))
            expected = routed.base.model.get_submodule(site).weight @ h + opened * (adapter.updates[site].dense() @ h)
            torch.testing.assert_close(output[0, token], expected, atol=1e-3, rtol=1e-3)


def test_training_gates_lowers_the_loss_and_moves_only_gates(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    rows = few_shot(routed.base, TASKS[2], 4, chat=True, seed=0, longest=100)
    gate = new_gate(routed, 2)
    assert set(gate) == set(routed.library.adapters[2].updates)  # it lacks layer 0
    start = mean_loss(routed, rows, gated(2, gate), 4)
    halved = {"adapter-2": 0.5}
    assert start == pytest.approx(loss_of(routed, rows, Weighted(halved)), rel=1e-4)  # sigmoid(0) is a half
    descent = Descent(steps=8, batch_size=4, learning_rate=0.03)
    losses = descent.run(routed, rows, list(gate.values()), gated(2, gate), lambda _: None)
    assert losses[0] == pytest.approx(start, rel=1e-4)
    assert mean_loss(routed, rows, gated(2, gate), 4) < start - 0.05
    assert all(vector.abs().sum() > 0 for vector in gate.values())


def test_learned_gates_are_those_of_each_adapter_alone(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    settings = {"examples": 4, "steps": 3, "batch_size": 2}
    learned = learn_gates(routed, TASKS, **settings)
    lone = learn_gates(routed, [TASKS[1]], **settings)
    assert lone.facts.left_out == ("adapter-0", "adapter-2")
    for site in routed.sites:
        torch.testing.assert_close(learned.vectors.rows[site][1], lone.vectors.rows[site][0], atol=0, rtol=0)
    assert (learned.vectors.rows["model.layers.0.self_attn.q_proj"][2] == 0).all()  # that adapter lacks the site


# -- LoraHub


def test_mixtures_for_learning_equal_those_of_the_routed_model(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    rows = few_shot(routed.base, TASKS[3], 5, chat=True, seed=0, longest=100)
    for weights in ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.7, -1.5, 0.2]):
        named = Weighted(dict(zip(routed.names, weights, strict=True)))
        found = mean_loss(routed, rows, everywhere(torch.tensor(weights)), 2)
        assert found == pytest.approx(loss_of(routed, rows, named), rel=1e-4)


def test_the_search_finds_planted_weights_with_the_penalty_on_them() -> None:
    import nevergrad

    goal = np.array([1.1, -0.4])

    def loss(weights: np.ndarray) -> float:
        return float(((weights - goal) ** 2).sum())

    best, losses = _searched(nevergrad, loss, 2, 60, seed=0, watch=SILENT)
    # the minimum of (w - g)^2 + 0.05 |w| / 2 lies a quarter of 0.05 nearer to 0
    np.testing.assert_allclose(best, goal - np.sign(goal) * 0.0125, atol=0.02)
    assert losses["loss_before"] == pytest.approx(float((goal**2).sum()))
    assert losses["loss_after"] == pytest.approx(loss(best))
    far, _ = _searched(nevergrad, lambda weights: float(((weights - 9) ** 2).sum()), 2, 60, seed=0, watch=SILENT)
    np.testing.assert_allclose(far, [1.5, 1.5], atol=0.1)  # the bounds hold


def test_lorahub_finds_the_adapter_that_the_answers_were_written_with(tiny: Tiny) -> None:
    import nevergrad

    routed = routed_of(tiny("llama"), ("sea", "sum"))
    rows = []
    for start in range(20, 24):
        events = routed.generate(f"the sea {start}", Single("adapter-0"), max_new_tokens=6)
        written = tuple(event.token_id for event in events if isinstance(event, TokenEmitted))
        prompt = encode_prompt(routed.base.tokenizer, f"the sea {start}", chat=True)
        rows.append(Encoded((*prompt, *written), len(prompt)))

    def loss(weights: np.ndarray) -> float:
        return mean_loss(routed, rows, everywhere(torch.tensor(weights).float()), 4)

    best, losses = _searched(nevergrad, loss, 2, 25, seed=0, watch=SILENT)
    assert best[0] > 0.7
    assert abs(best[1]) < 0.3
    assert losses["loss_after"] < losses["loss_before"] - 0.3
    assert losses["loss_after"] < loss(np.array([1.0, 0.0])) + 0.02


def test_what_lorahub_tells_is_what_its_router_does(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    learned = learn_lorahub(routed, TASKS[3], examples=4, evaluations=8)
    rows = few_shot(routed.base, TASKS[3], 4, chat=True, seed=0, longest=100)
    results = learned.facts.results
    assert results["loss_before"] == pytest.approx(loss_of(routed, rows, Base()), rel=1e-3)
    assert results["loss_after"] == pytest.approx(loss_of(routed, rows, learned.router()), rel=1e-3)
    assert results["loss_after"] < results["loss_before"]
    assert learned.label == learned.router().label == "LoraHub on fox"
    first = learned.weights.rows[routed.sites[0]]
    assert learned.router().fixed(routed.names) == pytest.approx(first.tolist())


def test_without_nevergrad_one_sentence_says_how_to_get_it(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nevergrad", None)
    with pytest.raises(LearningError, match=r"^LoraHub: needs the package nevergrad. Install it with: pip install"):
        LEARNERS["lorahub"](routed_of(tiny("llama")))


# -- learned mixture


@pytest.mark.parametrize("per", ["layer", "module"])
def test_a_mixture_lowers_the_loss_and_stays_a_mixture(per: str, tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    learned = learn_mixture(routed, TASKS[3], examples=4, steps=6, learning_rate=0.5, per=per)
    results = learned.facts.results
    rows = few_shot(routed.base, TASKS[3], 4, chat=True, seed=0, longest=100)
    assert results["loss_before"] == pytest.approx(loss_of(routed, rows, Base()), rel=1e-3)
    assert results["loss_of_uniform"] == pytest.approx(loss_of(routed, rows, Uniform()), rel=1e-3)
    assert results["loss_after"] == pytest.approx(loss_of(routed, rows, learned.router()), rel=1e-3)
    assert results["loss_after"] < results["loss_of_uniform"] - 0.1
    by_layer = {layer: [row for site, row in learned.weights.rows.items() if f".{layer}." in site] for layer in (0, 1)}
    for rows_of_layer in by_layer.values():
        assert all(float(row.sum()) == pytest.approx(1.0, abs=1e-5) and (row >= 0).all() for row in rows_of_layer)
        alike = all(torch.equal(row, rows_of_layer[0]) for row in rows_of_layer)
        assert alike == (per == "layer")
    assert not torch.equal(by_layer[0][0], by_layer[1][0])


def test_settings_out_of_bounds_are_told(tiny: Tiny) -> None:
    routed = routed_of(tiny("llama"))
    with pytest.raises(SettingsError, match="per: expected layer or module, found 'head'"):
        learn_mixture(routed, TASKS[0], per="head")
    with pytest.raises(SettingsError, match="Temperature T: expected"):
        learn_centroids(routed, TASKS, temperature=0.0)
    with pytest.raises(SettingsError, match="steps: expected 1 to"):
        learn_gates(routed, TASKS, steps=0)
    with pytest.raises(SettingsError, match="evaluations: expected at least 1, found 0"):
        learn_lorahub(routed, TASKS[0], evaluations=0)
    with pytest.raises(LearningError, match=r"went astray at step \d+. Lower the learning rate"):
        learn_gates(routed, TASKS, steps=3, learning_rate=100.0, examples=2, watch=_spoil(routed))


def _spoil(routed: RoutedModel) -> Watch:
    """Make the loss no number from the second step on (put right when the test ends, as banks are its own)."""

    def report(done: int, _: int, __: str) -> None:
        if done == 1:
            routed.banks[-1].down.fill_(math.nan)

    return Watch(report)
