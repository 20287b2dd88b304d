"""RoutedModel against PEFT, against itself, and against what it must leave alone."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from oracles import arrow_at
from peft.tuners.lora import ArrowConfig, create_arrow_model
from routed_samples import (
    llama_shapes,
    make_adapter,
    make_update,
    peft_model,
    random_adapter,
    save_peft,
    tiny_library,
)
from tiny_models import MAX_TOKENS, TARGETS

from explorer.adapters.adapter import Status
from explorer.adapters.library import Library
from explorer.adapters.low_rank import LowRank
from explorer.adapters.sources import open_library
from explorer.errors import BaseModelError, LibraryError, PromptError, SettingsError
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel
from explorer.routers import Arrow, Base, Single, Uniform, Weighted

TEXT = "the lazy fox jumps over two dogs"
Tiny = Callable[[str], BaseModel]


def bare_logits(base: BaseModel, text: str) -> torch.Tensor:
    with torch.no_grad():
        return base.model(input_ids=torch.tensor([base.tokenizer(text)["input_ids"]])).logits


def modules_of(base: BaseModel) -> dict[str, Any]:
    return dict(base.model.named_modules())


def peft_logits(model: Any, base: BaseModel, text: str = TEXT) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([base.tokenizer(text)["input_ids"]])).logits


# -- the same numbers as PEFT

VARIANTS = {
    "plain": {"r": 4, "lora_alpha": 16},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "rank_pattern": {"r": 4, "lora_alpha": 16, "rank_pattern": {"first": 7, "second": 2}},
    "alpha_pattern": {"r": 4, "lora_alpha": 16, "alpha_pattern": {"first": 3, "second": 40}},
    "both patterns, rslora": {
        "r": 2,
        "lora_alpha": 6,
        "use_rslora": True,
        "rank_pattern": {"first": 5},
        "alpha_pattern": {"first": 3, "second": 12},
    },
}


def config_for(architecture: str, variant: str) -> dict[str, Any]:
    """A variant with its patterns written for the modules of this architecture."""
    targets = TARGETS[architecture]
    names = {"first": targets[0], "second": targets[1]}
    config: dict[str, Any] = {"target_modules": targets, "fan_in_fan_out": architecture == "gpt2"}
    for field, value in VARIANTS[variant].items():
        config[field] = {names[key]: each for key, each in value.items()} if isinstance(value, dict) else value
    return config


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", TARGETS)
def test_single_equals_peft(architecture: str, variant: str, tiny: Tiny, tmp_path: Path) -> None:
    base = tiny(architecture)
    model = peft_model(base, seed=3, **config_for(architecture, variant))
    library = open_library(save_peft(model, tmp_path / "library" / "one").parent)
    with RoutedModel(base, library) as routed:
        found = routed.logits(TEXT, Single("one"))
    expected = peft_logits(model, base)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert (expected - bare_logits(base, TEXT)).abs().max() > 0.05  # the adapter does something


def test_arrow_equals_pefts_arrow_with_exact_prototypes(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("llama")
    folders = []
    for seed in range(5):
        model = peft_model(base, seed, r=4, lora_alpha=12, target_modules=TARGETS["llama"])
        folders.append(save_peft(model, tmp_path / "library" / f"task-{seed}"))
    library = open_library(tmp_path / "library")
    arrow = create_arrow_model(
        copy.deepcopy(base.model), [str(folder) for folder in folders], ArrowConfig(top_k=3, router_temperature=1.0)
    ).eval()
    peft_logits(arrow, base)  # builds its prototypes, which the exact ones then replace
    for name, module in arrow.named_modules():
        if name.endswith("lora_arrow.arrow_router"):
            site = name.removeprefix("base_model.model.").removesuffix(".lora_arrow.arrow_router")
            exact = [library[f"task-{seed}"].updates[site].spectrum().vh[0] for seed in range(5)]
            module.prototypes.copy_(torch.stack(exact))
    found = RoutedModel(base, library).logits(TEXT, Arrow(top_k=3, temperature=1.0))
    torch.testing.assert_close(found, peft_logits(arrow, base), atol=1e-3, rtol=0)


def test_the_peer_is_the_version_this_was_checked_against() -> None:
    """The peer is the version this was checked against; another may compute something else."""
    assert peft.__version__.startswith("0.21")


# -- identities


def test_one_adapter_alone_by_any_router(tiny: Tiny) -> None:
    base = tiny("llama")
    routed = RoutedModel(base, tiny_library(1))
    alone = routed.logits(TEXT, Single("adapter-0"))
    for router in (Arrow(top_k=1), Arrow(), Uniform(), Weighted({"adapter-0": 1.0})):
        torch.testing.assert_close(routed.logits(TEXT, router), alone, atol=1e-5, rtol=1e-5)


def test_weight_two_is_the_adapter_at_twice_its_scale(tiny: Tiny) -> None:
    base, library = tiny("llama"), tiny_library(3)
    one = library["adapter-1"]
    twice = replace(
        one, name="twice", updates={site: replace(up, scale=2 * up.scale) for site, up in one.updates.items()}
    )
    found = RoutedModel(base, library).logits(TEXT, Weighted({"adapter-1": 2.0}))
    expected = RoutedModel(base, Library([twice])).logits(TEXT, Single("twice"))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_order_of_the_library_does_not_matter(tiny: Tiny) -> None:
    base, library = tiny("llama"), tiny_library(5)
    mirrored = Library(library.adapters[::-1])
    one, two = RoutedModel(base, library), RoutedModel(base, mirrored)
    for router in (Arrow(top_k=2), Uniform(), Single("adapter-3")):
        torch.testing.assert_close(one.logits(TEXT, router), two.logits(TEXT, router), atol=1e-4, rtol=1e-4)


def test_a_site_that_an_adapter_lacks_is_left_to_the_others(tiny: Tiny) -> None:
    base, library = tiny("llama"), tiny_library(5)
    routed = RoutedModel(base, library)
    assert routed.sites == library.sites
    trace = routed.route(TEXT, Arrow(top_k=5))
    first_layer = [place for place, site in enumerate(trace.sites) if ".layers.0." in site]
    last = trace.names.index("adapter-4")
    assert not trace.weights[first_layer][..., last].any()
    assert np.isnan(trace.scores[first_layer][..., last]).all()
    others = [place for place in range(len(trace.sites)) if place not in first_layer]
    assert trace.weights[others][..., last].all()
    np.testing.assert_allclose(trace.weights.sum(-1), 1, atol=1e-6)


# -- traces


def test_a_trace_equals_the_oracle_on_the_inputs_of_each_module(tiny: Tiny) -> None:
    base, library = tiny("llama"), tiny_library(5)
    inputs: dict[str, torch.Tensor] = {}
    routed = RoutedModel(base, library)
    with routed:
        hooks = [
            base.model.get_submodule(site).register_forward_hook(
                lambda module, args, output, site=site: inputs.__setitem__(site, args[0][0].clone())
            )
            for site in routed.sites
        ]
        trace = routed.route(TEXT, Arrow(top_k=2), chat=False)
        for hook in hooks:
            hook.remove()
    for place, site in enumerate(trace.sites):
        expected = arrow_at(list(library.adapters), site, inputs[site], 2, 1.0)
        np.testing.assert_allclose(trace.weights[place], np.array(expected), atol=1e-4)


def test_a_trace_carries_its_names(tiny: Tiny) -> None:
    base = tiny("llama")
    trace = RoutedModel(base, tiny_library(4)).route("café on the sea", Arrow(top_k=2), chat=False)
    ids = base.tokenizer("café on the sea")["input_ids"]
    assert trace.token_ids == tuple(ids)
    assert trace.weights.shape == trace.scores.shape == (6, len(ids), 4)
    assert trace.weights.dtype == trace.scores.dtype == np.float32
    assert "".join(trace.tokens).replace("\ufffd\ufffd", "é") == "café on the sea"
    assert (trace.prompt_length, trace.router, trace.typed) == (len(ids), "Arrow, top 2, T 1", (True,) * len(ids))


@pytest.mark.parametrize("text", [TEXT, "  the fox\n", "You are the assistant.", "user", "<|end|> sneaky", "assistant"])
def test_what_the_user_typed_is_told_from_the_template(text: str, tiny: Tiny) -> None:
    trace = RoutedModel(tiny("llama"), tiny_library(2)).route(text, Base())
    typed = "".join(token for token, flag in zip(trace.tokens, trace.typed, strict=True) if flag)
    assert typed.strip() == text.strip()
    assert "".join(trace.tokens).startswith("<|start|>system\nYou are the assistant.<|end|>\n<|start|>user\n")


def test_a_model_without_a_template_takes_the_plain_text(tiny: Tiny) -> None:
    plain = replace(tiny("llama"), tokenizer=copy.deepcopy(tiny("llama").tokenizer))
    plain.tokenizer.chat_template = None
    trace = RoutedModel(plain, tiny_library(2)).route(TEXT, Arrow(), chat=True)
    assert "".join(trace.tokens) == TEXT


# -- attached and detached


def test_base_is_the_bare_model_and_detaching_leaves_no_trace(tiny: Tiny) -> None:
    base = tiny("gpt_neox")
    before, bare = modules_of(base), bare_logits(base, TEXT)
    site = "gpt_neox.layers.0.attention.query_key_value"
    library = Library([random_adapter("one", {site: (96, 32)})])
    routed = RoutedModel(base, library)
    assert torch.equal(routed.logits(TEXT, Base()), bare)
    with routed:
        assert base.model.get_submodule(site) is not before[site]
        assert torch.equal(routed.logits(TEXT, Base()), bare)
        assert torch.equal(bare_logits(base, TEXT), bare)  # between passes the model itself is still the bare one
        assert not torch.equal(routed.logits(TEXT, Single("one")), bare)
    after = modules_of(base)
    assert list(after) == list(before)
    assert all(after[name] is module for name, module in before.items())
    assert torch.equal(bare_logits(base, TEXT), bare)


def test_inside_and_outside_a_with_block_the_numbers_are_the_same(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library())
    outside = routed.logits(TEXT, Arrow())
    with routed:
        assert torch.equal(routed.logits(TEXT, Arrow()), outside)
    assert torch.equal(routed.logits(TEXT, Arrow()), outside)


def test_an_error_on_the_way_detaches_too(tiny: Tiny) -> None:
    base = tiny("llama")
    before, routed = modules_of(base), RoutedModel(base, tiny_library())

    def fail(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    hook = base.model.model.layers[1].register_forward_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="broken on purpose"):
            routed.logits(TEXT, Arrow())
        with pytest.raises(RuntimeError, match="broken on purpose"), routed:
            routed.logits(TEXT, Arrow())
    finally:
        hook.remove()
    assert all(modules_of(base)[name] is module for name, module in before.items())
    assert not base.lock.locked()
    assert base.holders == []


def test_a_second_with_block_is_refused_instead_of_waiting_for_ever(tiny: Tiny) -> None:
    base = tiny("llama")
    one, two = RoutedModel(base, tiny_library(2)), RoutedModel(base, tiny_library(3))
    alone = two.logits(TEXT, Arrow())
    with one:
        for use in (two.__enter__, one.__enter__, lambda: two.logits(TEXT, Arrow())):
            with pytest.raises(BaseModelError, match=r"^tiny/llama: has a library attached by a `with` block\. Leave"):
                use()
        third = RoutedModel(base, tiny_library(3))  # preparing one is fine, and it finds the base modules
    assert torch.equal(third.logits(TEXT, Arrow()), alone)
    with two:
        assert torch.equal(two.logits(TEXT, Arrow()), alone)


def test_threads_take_turns(tiny: Tiny) -> None:
    base = tiny("llama")
    models = [RoutedModel(base, tiny_library(count)) for count in (2, 3)]
    expected = [routed.logits(TEXT, Arrow()) for routed in models]
    wrong: list[int] = []

    def work(which: int) -> None:
        for _ in range(15):
            if not torch.equal(models[which].logits(TEXT, Arrow()), expected[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_adapted_output_layer_is_routed_at_every_token(tiny: Tiny) -> None:
    base = tiny("llama")
    routed = RoutedModel(base, Library([random_adapter("head", {"lm_head": (304, 32)})]))
    trace = routed.route(TEXT, Arrow(), chat=False)
    assert trace.weights.shape == (1, len(trace.tokens), 1)
    assert not torch.equal(routed.logits(TEXT, Arrow()), bare_logits(base, TEXT))


# -- libraries that do not fit


def test_adapters_that_cannot_be_routed_take_no_part(tiny: Tiny) -> None:
    good = random_adapter("good", llama_shapes())
    shown = make_adapter("shown", {"nowhere": make_update(3, 3, 1, 0)}, Status.MAP_ONLY)
    assert RoutedModel(tiny("llama"), Library([good, shown])).names == ("good",)
    with pytest.raises(LibraryError, match=r"^test: holds no adapter that can be routed\. See"):
        RoutedModel(tiny("llama"), Library([shown], title="test"))


@pytest.mark.parametrize(
    ("site", "shape", "kind", "message"),
    [
        (
            "model.layers.9.self_attn.q_proj",
            (32, 32),
            LibraryError,
            "Adapter 'bad', module model.layers.9.self_attn.q_proj: is not in tiny/llama. "
            "Choose the base model it was trained on.",
        ),
        (
            "model.layers.0.self_attn.q_proj",
            (32, 64),
            LibraryError,
            "Adapter 'bad', module model.layers.0.self_attn.q_proj: does not fit tiny/llama, "
            "expected (32, 32), found (32, 64).",
        ),
        (
            "model.embed_tokens",
            (304, 32),
            BaseModelError,
            "Adapter 'bad', module model.embed_tokens: "
            "expected a plain Linear or Conv1D in the base model, found Embedding.",
        ),
    ],
)
def test_a_library_that_does_not_fit_is_refused_in_one_sentence(
    site: str, shape: tuple[int, int], kind: type, message: str, tiny: Tiny
) -> None:
    with pytest.raises(kind) as caught:
        RoutedModel(tiny("llama"), Library([random_adapter("bad", {site: shape})]))
    assert caught.value.sentence == message


# -- prompts and likelihoods


def test_bad_prompts_and_names(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(2))
    with pytest.raises(PromptError, match=r"^Prompt: is empty"):
        routed.route("  ", Arrow())
    with pytest.raises(PromptError, match=rf"^Prompt: is too long, expected at most {MAX_TOKENS} tokens, found \d+"):
        routed.route("x" * 500, Arrow())
    with pytest.raises(SettingsError, match=r"^Adapter 'nobody': is not one .* Choose from: adapter-0, adapter-1\."):
        routed.logits(TEXT, Single("nobody"))


def test_log_likelihood_is_the_sum_over_the_answers_tokens(tiny: Tiny) -> None:
    base = tiny("llama")
    routed = RoutedModel(base, tiny_library())
    found = routed.log_likelihood(TEXT, "one story", Arrow(), chat=False)
    answer = [*base.tokenizer("\none story")["input_ids"], base.tokenizer.eos_token_id]
    whole = base.tokenizer(TEXT)["input_ids"] + answer
    output, _ = routed.forward([whole], [Arrow()])
    scores = torch.log_softmax(output.logits[0].double(), dim=-1)
    start = len(whole) - len(answer)
    expected = sum(float(scores[start + place - 1, token]) for place, token in enumerate(answer))
    assert found.tokens == len(answer)
    assert found.total == pytest.approx(expected, rel=1e-5)
    assert found.per_token == pytest.approx(expected / len(answer), rel=1e-5)


def test_log_likelihood_refuses_what_it_cannot_score(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(2))
    with pytest.raises(PromptError, match=r"^Reference answer: is empty\. Type one, or leave it out\."):
        routed.log_likelihood(TEXT, " ", Base())
    with pytest.raises(PromptError, match=rf"^Prompt with its reference answer: expected at most {MAX_TOKENS} tokens"):
        routed.log_likelihood(TEXT, "y" * 120, Base())


def test_factors_in_half_precision(tiny: Tiny) -> None:
    base = BaseModel("half", copy.deepcopy(tiny("llama").model).to(torch.bfloat16), tiny("llama").tokenizer)
    found = RoutedModel(base, tiny_library()).logits(TEXT, Arrow())
    full = RoutedModel(tiny("llama"), tiny_library()).logits(TEXT, Arrow())
    assert found.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(found.float().flatten(), full.flatten(), dim=0) > 0.98


def test_an_update_of_zero_is_the_base_model(tiny: Tiny) -> None:
    base = tiny("llama")
    zero = {
        site: LowRank(torch.randn(2, d_in), torch.zeros(d_out, 2), math.pi)
        for site, (d_out, d_in) in llama_shapes().items()
    }
    found = RoutedModel(base, Library([make_adapter("zero", zero)])).logits(TEXT, Arrow())
    torch.testing.assert_close(found, bare_logits(base, TEXT))
