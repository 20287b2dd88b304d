"""The sample library on its real base model: the same numbers as PEFT, and as the dense computation."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import peft
import pytest
import torch
from oracles import arrow_at, dense_prototype
from peft.tuners.lora import ArrowConfig, create_arrow_model

import explorer
from explorer.adapters.library import Library
from explorer.models.base import BaseModel
from explorer.models.events import TokenEmitted
from explorer.models.routed_model import RoutedModel
from explorer.routers import Arrow, Base, Single, Uniform
from explorer.ui.desk import FIRST_VIEW, read_first_view

pytestmark = pytest.mark.slow
TEXT = "Is this review good or bad? The film was a long, dull mess."


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    """The sample, or the library that `EXPLORER_TEST_LIBRARY` names."""
    with explorer.open_library(os.environ.get("EXPLORER_TEST_LIBRARY", "sample")) as opened:
        yield opened


@pytest.fixture(scope="module")
def routed(real_base: BaseModel, library: Library) -> RoutedModel:
    return RoutedModel(real_base, library)


def logits_of(model: Any, base: BaseModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([base.tokenizer(TEXT)["input_ids"]])).logits


def test_every_adapter_is_accepted(library: Library) -> None:
    assert library.routable == library.adapters
    assert {str(verdict.status) for verdict in library.verdicts} == {"accepted"}


def test_the_stored_first_view_is_of_this_library(library: Library) -> None:
    first = read_first_view(FIRST_VIEW)
    assert first is not None
    assert first.record.content_hash == first.prompt.library_hash == library.content_hash
    assert first.record.names == library.names


def test_the_stored_routing_is_what_the_model_does(routed: RoutedModel) -> None:
    first = read_first_view(FIRST_VIEW)
    assert first is not None
    trace = routed.route(first.prompt.prompt, Arrow(), chat=first.prompt.chat)
    assert trace.tokens == first.prompt.trace.tokens
    # stored as float16; a near tie for the last kept place may fall either way on another machine
    close = np.isclose(trace.weights, first.prompt.trace.weights, atol=2e-3)
    assert close.mean() > 0.999


def test_each_adapter_alone_equals_peft(real_base: BaseModel, library: Library, routed: RoutedModel) -> None:
    paths = {adapter.name: str(adapter.path) for adapter in library.routable}
    first, *others = paths
    model = peft.PeftModel.from_pretrained(copy.deepcopy(real_base.model), paths[first], adapter_name=first).eval()
    for name in others:
        model.load_adapter(paths[name], adapter_name=name)
    for name in paths:
        model.set_adapter(name)
        torch.testing.assert_close(
            routed.logits(TEXT, Single(name)), logits_of(model, real_base), atol=1e-3, rtol=0, msg=name
        )


def test_base_is_the_bare_model_before_and_after(real_base: BaseModel, routed: RoutedModel) -> None:
    bare = logits_of(real_base.model, real_base)
    assert torch.equal(routed.logits(TEXT, Base()), bare)
    with routed:
        assert torch.equal(routed.logits(TEXT, Base()), bare)
        assert not torch.equal(routed.logits(TEXT, Uniform()), bare)
    assert torch.equal(logits_of(real_base.model, real_base), bare)


def test_prototypes_equal_the_dense_svd(library: Library, routed: RoutedModel) -> None:
    directions = {
        site: bank.directions.view(len(bank.sites), len(bank.names), -1)[index]
        for bank in routed.banks
        for index, site in enumerate(bank.sites)
    }
    for number, adapter in enumerate(library.routable):
        for site in list(adapter.updates)[number % 7 :: 61]:
            mine = directions[site][number].double()
            assert abs(float(mine @ dense_prototype(adapter.updates[site]))) > 1 - 1e-5


def test_arrow_weights_equal_an_independent_loop(real_base: BaseModel, library: Library, routed: RoutedModel) -> None:
    site = routed.sites[len(routed.sites) // 2]
    seen: list[torch.Tensor] = []
    with routed:
        hook = real_base.model.get_submodule(site).register_forward_hook(lambda _, args, __: seen.append(args[0][0]))
        trace = routed.route(TEXT, Arrow(top_k=4))
        hook.remove()
    expected = arrow_at(list(library.routable), site, seen[0], top_k=4, temperature=1.0)
    np.testing.assert_allclose(trace.weights[routed.sites.index(site)], np.array(expected), atol=1e-4)


def test_arrow_equals_pefts_arrow_with_exact_prototypes(
    real_base: BaseModel, library: Library, routed: RoutedModel
) -> None:
    paths = [str(adapter.path) for adapter in library.routable]
    config = ArrowConfig(top_k=3, router_temperature=1.0)
    model = create_arrow_model(copy.deepcopy(real_base.model), paths, config).eval()
    logits_of(model, real_base)  # builds PEFT's prototypes, by power iteration; the exact ones replace them
    for name, module in model.named_modules():
        if name.endswith("lora_arrow.arrow_router"):
            site = name.removeprefix("base_model.model.").removesuffix(".lora_arrow.arrow_router")
            exact = [adapter.updates[site].spectrum().vh[0] for adapter in library.routable]
            module.prototypes.copy_(torch.stack(exact))
    found = routed.logits(TEXT, Arrow(top_k=3, temperature=1.0))
    torch.testing.assert_close(found, logits_of(model, real_base), atol=1e-3, rtol=0)


def test_routers_in_one_batch_answer_as_each_does_alone(routed: RoutedModel) -> None:
    routers = (Base(), Arrow(), Single(routed.names[0]), Uniform())

    def answer(events: Any, row: int = 0) -> list[int]:
        return [event.token_id for event in events if isinstance(event, TokenEmitted) and event.row == row]

    together = list(routed.generate(TEXT, routers, max_new_tokens=12))
    for row, router in enumerate(routers):
        assert answer(together, row) == answer(routed.generate(TEXT, router, max_new_tokens=12))
