"""Every registered router on a whole model: what it needs is prepared, and generation keeps to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from oracles import averaged_factors
from routed_samples import llama_shapes, random_adapter, tiny_library
from routing_samples import AVERAGED, PER_PROMPT, every_router
from tiny_models import make_tiny

from explorer.adapters.library import Library
from explorer.errors import SettingsError
from explorer.models.base import BaseModel
from explorer.models.chat import encode_prompt
from explorer.models.events import PromptRead, TokenEmitted, TokenRouted
from explorer.models.neutral import PROMPTS
from explorer.models.places import shared_inputs
from explorer.models.routed_model import RoutedModel
from explorer.routers import Arrow, Base, CalibratedArrow, LinearMerge, Single, SpectR, Ties, Uniform
from explorer.routing.router import Router

TEXT = "the lazy fox jumps over two dogs"
Tiny = Callable[[str], BaseModel]


def equal_ranks(count: int = 4) -> Library:
    return Library([random_adapter(f"adapter-{n}", llama_shapes(), rank=3, seed=n) for n in range(count)])


def tokens_of(routed: RoutedModel, routers: list[Router], row: int = 0, steps: int = 12) -> list[int]:
    events = routed.generate(TEXT, routers, max_new_tokens=steps)
    return [event.token_id for event in events if isinstance(event, TokenEmitted) and event.row == row]


def test_modules_that_share_their_input_are_found(tiny: Tiny) -> None:
    sites = [f"model.layers.{n}.self_attn.{name}" for n in (0, 1) for name in ("k_proj", "o_proj", "q_proj", "v_proj")]
    mlp = [f"model.layers.0.mlp.{name}" for name in ("down_proj", "gate_proj", "up_proj")]
    groups = shared_inputs(tiny("llama").model, [*sites, *mlp])
    assert groups == [
        tuple(sites[index] for index in (0, 2, 3)),
        (sites[1],),
        tuple(sites[index] for index in (4, 6, 7)),
        (sites[5],),
        (mlp[0],),
        (mlp[1], mlp[2]),
    ]


@pytest.mark.parametrize("place", range(len(every_router(("a", "b"))) + len(PER_PROMPT) + len(AVERAGED)))
def test_each_router_alone_in_a_batch_and_beside_others_says_the_same(place: int, tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), equal_ranks())
    router = [*every_router(routed.names), *PER_PROMPT, *AVERAGED][place]
    alone = tokens_of(routed, [router])
    assert len(alone) > 3
    assert tokens_of(routed, [Base(), Arrow(), router, Uniform()], row=2) == alone


@pytest.mark.parametrize("place", range(len(every_router(("a", "b")))))
def test_with_one_adapter_every_router_is_that_adapter(place: int, tiny: Tiny) -> None:
    """Its mean, its merge, its top k: all the same, but for the base model and for what weights say otherwise."""
    routed = RoutedModel(tiny("llama"), tiny_library(1))
    router = every_router(routed.names * 2)[place]
    if router.key in ("base", "weighted") or router in (Ties(), LinearMerge(rank=2)) or getattr(router, "weights", ()):
        return
    alone = routed.logits(TEXT, Single("adapter-0"))
    torch.testing.assert_close(routed.logits(TEXT, router), alone, atol=1e-4, rtol=1e-4)


def test_a_ties_merge_that_trims_nothing_of_one_adapter_is_that_adapter(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(1))
    alone = routed.logits(TEXT, Single("adapter-0"))
    torch.testing.assert_close(routed.logits(TEXT, Ties(density=1.0)), alone, atol=1e-4, rtol=1e-4)


def test_linear_merge_without_a_cut_is_uniform(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(4))
    found = routed.logits(TEXT, LinearMerge())
    torch.testing.assert_close(found, routed.logits(TEXT, Uniform()), atol=1e-4, rtol=1e-4)


# -- calibrated Arrow


def test_neutral_scores_are_arrows_mean_scores_on_the_base_model(tiny: Tiny) -> None:
    base = tiny("llama")
    routed = RoutedModel(base, tiny_library(5))
    inputs: dict[str, list[torch.Tensor]] = {site: [] for site in routed.sites}
    hooks = [
        base.model.get_submodule(site).register_forward_pre_hook(
            lambda _, args, site=site: inputs[site].append(args[0][0])
        )
        for site in routed.sites
    ]
    for prompt in PROMPTS:
        ids = encode_prompt(base.tokenizer, prompt, chat=True)
        with torch.no_grad():
            base.model(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    routed.prepare([CalibratedArrow()])
    for bank in routed.banks:
        for index, site in enumerate(bank.sites):
            hidden = torch.cat(inputs[site]).double()
            for place, adapter in enumerate(routed._adapters):
                if site in adapter.updates:
                    vector = adapter.updates[site].spectrum().vh[0].double()
                    expected = float((hidden @ vector).abs().mean())
                    assert float(routed._neutral[bank.sites][index, place]) == pytest.approx(expected, rel=1e-4)


def test_a_model_of_few_positions_reads_the_beginning_of_the_neutral_prompts(tiny: Tiny) -> None:
    base = make_tiny("llama")
    longest = max(len(encode_prompt(base.tokenizer, prompt, chat=True)) for prompt in PROMPTS)
    base.model.config.max_position_embeddings = longest - 1
    routed = RoutedModel(base, tiny_library(3))
    assert np.isfinite(routed.route("the sea", CalibratedArrow(), chat=False).scores).any()


def test_on_its_neutral_prompts_calibrated_arrow_scores_one(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(3))
    first = routed.sites.index("model.layers.0.self_attn.q_proj")  # its input is that of the base model
    scores = [routed.route(prompt, CalibratedArrow()).scores[first] for prompt in PROMPTS]
    np.testing.assert_allclose(np.concatenate(scores)[:, :2].mean(axis=0), 1.0, rtol=1e-3)


# -- once per prompt


@pytest.mark.parametrize("router", PER_PROMPT, ids=lambda router: router.label)
def test_a_decision_for_a_prompt_is_kept_while_generating(router: Router, tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(5))
    events = list(routed.generate(TEXT, [Arrow(), router], max_new_tokens=5, record=True))
    (read,) = [event for event in events if isinstance(event, PromptRead) and event.row == 1]
    assert read.trace is not None
    for token in range(1, len(read.trace.tokens)):
        np.testing.assert_array_equal(read.trace.weights[:, token], read.trace.weights[:, 0])
    steps = [event.trace for event in events if isinstance(event, TokenRouted) and event.row == 1]
    assert len(steps) == 4
    for trace in steps:
        np.testing.assert_array_equal(trace.weights[:, 0], read.trace.weights[:, 0])


def test_a_decision_for_a_prompt_is_of_its_mean_scores(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(5))
    plain, once = (routed.route(TEXT, Arrow(top_k=2, per_prompt=each)) for each in (False, True))
    first = list(plain.sites).index("model.layers.0.self_attn.q_proj")  # sees the same input either way
    np.testing.assert_allclose(once.scores[first][0, :4], plain.scores[first][:, :4].mean(axis=0), rtol=1e-5)


def test_the_answer_takes_no_part_in_the_decision_for_its_prompt(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(5))
    router = Arrow(top_k=2, per_prompt=True)
    found = routed.log_likelihood(TEXT, "one story", router, chat=False)
    ids = routed.base.tokenizer(TEXT)["input_ids"]
    answer = [*routed.base.tokenizer("\none story")["input_ids"], routed.base.tokenizer.eos_token_id]
    output, _ = routed.forward([[*ids, *answer]], [router], prompt_lengths=[len(ids)])
    scores = torch.log_softmax(output.logits[0], dim=-1)[len(ids) - 1 : -1]
    assert found.total == pytest.approx(float(scores.gather(1, torch.tensor(answer)[:, None]).sum()), rel=1e-5)
    other, _ = routed.forward([[*ids, *answer]], [router])
    assert not torch.allclose(other.logits, output.logits)


# -- rows of different lengths


def test_filling_does_not_matter(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(5))
    texts = [TEXT, "the sea", "one story about the sea and two dogs"]
    ids = [routed.base.tokenizer(text)["input_ids"] for text in texts]
    for router in (Arrow(top_k=2), SpectR(per_prompt=True), Uniform(), CalibratedArrow()):
        together, current = routed.forward(ids, [router] * 3, record=[0, 1, 2])
        for row, own in enumerate(ids):
            alone, lone = routed.forward([own], [router], record=[0])
            torch.testing.assert_close(together.logits[row, : len(own)], alone.logits[0], atol=1e-4, rtol=1e-4)
            weights = current.recorded(row, routed.sites)[0][:, : len(own)]
            np.testing.assert_allclose(weights, lone.recorded(0, routed.sites)[0], atol=1e-5)


# -- averaged factors


def test_averaged_factors_on_a_model_equal_the_slow_sum_at_the_first_module(tiny: Tiny) -> None:
    base, library = tiny("llama"), equal_ranks()
    routed, site = RoutedModel(base, library), "model.layers.0.self_attn.q_proj"
    seen: list[torch.Tensor] = []
    with routed:
        hook = base.model.get_submodule(site).register_forward_hook(
            lambda _, args, out: seen.extend((args[0][0], out[0]))
        )
        routed.logits(TEXT, Uniform(average_factors=True))
        hook.remove()
    hidden, output = seen
    with torch.no_grad():
        plain = base.model.get_submodule(site)(hidden)
    expected = averaged_factors(list(library.adapters), site, hidden, [[0.25] * 4] * len(hidden))
    torch.testing.assert_close((output - plain).double(), expected, atol=1e-5, rtol=1e-4)


def test_factors_that_cannot_be_averaged_are_refused_in_words(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(3))
    with pytest.raises(
        SettingsError, match=r"^Average factors: expected equal ranks, found rank 2 of adapter-0 and rank"
    ):
        routed.route(TEXT, Uniform(average_factors=True))


# -- nothing grows


def test_many_prompts_leave_nothing_behind(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(4))
    for number in range(60):
        routed.route("the fox " * (1 + number % 12), Arrow(top_k=1 + number % 3))
    assert len(routed._plans) <= 4
    assert all(len(bank.memory) <= 6 for bank in routed.banks)
