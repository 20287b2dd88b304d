"""Generation: rows that do not disturb each other, text that adds up, seeds that repeat, stops that leave nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from routed_samples import llama_shapes, make_adapter, make_update, random_adapter, tiny_library
from tiny_models import MAX_TOKENS, TARGETS

from explorer.adapters.library import Library
from explorer.adapters.low_rank import LowRank
from explorer.errors import BaseModelError, PromptError, SettingsError
from explorer.models.base import BaseModel
from explorer.models.events import Finished, FinishReason, GenerationEvent, PromptRead, TokenEmitted, TokenRouted
from explorer.models.generation import end_tokens
from explorer.models.routed_model import RoutedModel
from explorer.models.sampling import Sampling
from explorer.models.tokens import TextStream, piece
from explorer.routers import Arrow, Base, Single, Uniform
from explorer.routing.router import Router

TEXT = "tell a story about the fox"
ROUTERS = (Base(), Arrow(top_k=2), Single("adapter-1"), Uniform())
Tiny = Callable[[str], BaseModel]


def ids_of(events: Iterable[GenerationEvent], row: int = 0) -> list[int]:
    return [event.token_id for event in events if isinstance(event, TokenEmitted) and event.row == row]


def ends_of(events: Iterable[GenerationEvent]) -> dict[int, Finished]:
    return {event.row: event for event in events if isinstance(event, Finished)}


def by_hand(routed: RoutedModel, router: Router, count: int) -> list[int]:
    """Greedy decoding without a cache, a batch or a stop: the whole text again for every token."""
    from explorer.models.chat import encode_prompt

    ids = encode_prompt(routed.base.tokenizer, TEXT, chat=True)
    start, ends = len(ids), end_tokens(routed.base.model, routed.base.tokenizer)
    while len(ids) < start + count and ids[-1] not in ends:
        output, _ = routed.forward([ids], [router])
        ids.append(int(output.logits[0, -1].argmax()))
    return ids[start:]


def test_every_row_equals_its_router_alone_token_for_token(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library())
    together = list(routed.generate(TEXT, ROUTERS, max_new_tokens=24))
    answers = [ids_of(together, row) for row in range(len(ROUTERS))]
    for answer, router in zip(answers, ROUTERS, strict=True):
        assert answer == ids_of(routed.generate(TEXT, router, max_new_tokens=24))
        assert answer == by_hand(routed, router, 24)
    assert len({tuple(answer) for answer in answers}) > 2  # the routers do differ


@pytest.mark.parametrize("architecture", TARGETS)
def test_generation_with_a_cache_equals_generation_without(architecture: str, tiny: Tiny) -> None:
    base = tiny(architecture)
    sites = {
        name: tuple(module.weight.shape[::-1] if architecture == "gpt2" else module.weight.shape)
        for name, module in base.model.named_modules()
        if name.rpartition(".")[2] in TARGETS[architecture][:2]
    }
    library = Library(
        [random_adapter(f"adapter-{n}", {k: tuple(v) for k, v in sites.items()}, seed=n) for n in range(3)]
    )
    routed = RoutedModel(base, library)
    events = list(routed.generate(TEXT, ROUTERS[:3], max_new_tokens=10))
    for row, router in enumerate(ROUTERS[:3]):
        assert ids_of(events, row) == by_hand(routed, router, 10)


def test_the_order_and_content_of_the_events(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library())
    events = list(routed.generate(TEXT, ROUTERS, max_new_tokens=6, record=True))
    assert [type(event) for event in events[:4]] == [PromptRead] * 4
    assert [event.row for event in events[:4]] == [0, 1, 2, 3]
    for row, finished in ends_of(events).items():
        mine = [event for event in events if event.row == row]
        emitted = [event for event in mine if isinstance(event, TokenEmitted)]
        routing = [event for event in mine if isinstance(event, TokenRouted)]
        assert isinstance(mine[-1], Finished)
        assert (len(emitted), finished.tokens) == (6, 6)
        assert finished.reason is FinishReason.LENGTH
        assert "".join(event.text for event in emitted) == finished.text
        assert [event.trace.token_ids[0] for event in routing] == [event.token_id for event in emitted[:-1]]
        assert all(event.log_probability <= 0 for event in emitted)
        assert finished.seconds > 0


def test_traces_while_generating_equal_the_trace_of_the_whole_text(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library())
    events = list(routed.generate(TEXT, (Base(), Arrow(top_k=2)), chat=False, max_new_tokens=5, record=(False, True)))
    assert [event.trace is None for event in events if isinstance(event, PromptRead)] == [True, False]
    assert {event.row for event in events if isinstance(event, TokenRouted)} == {1}
    trace = next(event.trace for event in events if isinstance(event, PromptRead) and event.row == 1)
    length = len(trace.tokens)
    for event in events:
        if isinstance(event, TokenRouted):
            trace = trace.extended(event.trace)
    _, recorded = routed.forward([trace.token_ids], [Arrow(top_k=2)], record=[0])
    weights, scores = recorded.recorded(0, routed.sites)
    assert (trace.prompt_length, len(trace.tokens)) == (length, length + 4)
    np.testing.assert_allclose(trace.weights, weights, atol=1e-4)
    np.testing.assert_allclose(trace.scores, scores, atol=1e-3)


def test_log_probabilities_are_those_of_the_row(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library())
    events = list(routed.generate(TEXT, ROUTERS[:2], chat=False, max_new_tokens=4, temperature=1.5, seed=3))
    prompt = routed.base.tokenizer(TEXT)["input_ids"]
    for row in range(2):
        answer = ids_of(events, row)
        output, _ = routed.forward([[*prompt, *answer]], [ROUTERS[row]])
        scores = torch.log_softmax(output.logits[0, len(prompt) - 1 : -1], dim=-1)
        expected = [float(scores[place, token]) for place, token in enumerate(answer)]
        found = [event.log_probability for event in events if isinstance(event, TokenEmitted) and event.row == row]
        assert found == pytest.approx(expected, abs=1e-3)


def test_a_seed_repeats_an_answer_whatever_the_other_rows(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library())
    draw = {"max_new_tokens": 20, "temperature": 1.2, "top_p": 0.9}
    together = list(routed.generate(TEXT, (Base(), Arrow(), Arrow()), seed=5, **draw))
    assert ids_of(together, 1) == ids_of(together, 2)
    assert ids_of(together, 1) == ids_of(routed.generate(TEXT, Arrow(), seed=5, **draw))
    assert ids_of(together, 1) != ids_of(routed.generate(TEXT, Arrow(), seed=6, **draw))


def with_end_at(base: BaseModel, token: int) -> BaseModel:
    """The same model, which also ends at `token`."""
    model = copy.deepcopy(base.model)
    model.generation_config.eos_token_id = [0, token]
    return BaseModel(base.name, model, base.tokenizer)


def test_a_row_that_ends_leaves_the_others_undisturbed(tiny: Tiny) -> None:
    base = tiny("llama")
    plain = RoutedModel(base, tiny_library())
    answers = [ids_of(plain.generate(TEXT, router, max_new_tokens=12)) for router in ROUTERS]
    token = next(token for token in answers[0][1:] if token not in answers[1][:6])
    routed = RoutedModel(with_end_at(base, token), tiny_library())
    events = list(routed.generate(TEXT, ROUTERS, max_new_tokens=12))
    ends = ends_of(events)
    for row, answer in enumerate(answers):
        expected = answer[: answer.index(token) + 1] if token in answer else answer
        assert ids_of(events, row) == expected
        assert ends[row].reason is (FinishReason.END if token in answer else FinishReason.LENGTH)
    assert ends[0].reason is FinishReason.END
    assert ends[0].tokens < ends[1].tokens
    assert ends[0].text == base.tokenizer.decode(ids_of(events, 0)[:-1], skip_special_tokens=True)


def test_stop_ends_the_open_rows(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library())
    seen: list[TokenEmitted] = []
    for event in routed.generate(TEXT, ROUTERS[:2], max_new_tokens=50, stop=lambda: len(seen) >= 6):
        if isinstance(event, TokenEmitted):
            seen.append(event)
        elif isinstance(event, Finished):
            assert (event.reason, event.tokens) == (FinishReason.STOPPED, 3)
            assert event.text.startswith("".join(each.text for each in seen if each.row == event.row))
    assert len(seen) == 6
    events = list(routed.generate(TEXT, ROUTERS[:2], stop=lambda: True))
    assert [(event.reason, event.tokens, event.text) for event in events] == [(FinishReason.STOPPED, 0, "")] * 2


def test_dropping_the_generator_leaves_nothing_attached(tiny: Tiny) -> None:
    base = tiny("llama")
    before = dict(base.model.named_modules())
    events = RoutedModel(base, tiny_library()).generate(TEXT, ROUTERS, max_new_tokens=50)
    for _ in range(9):
        next(events)
        assert not base.lock.locked()
        assert all(base.model.get_submodule(name) is module for name, module in before.items())
    events.close()
    assert not base.lock.locked()
    assert base.holders == []


def test_two_libraries_interleave_token_by_token(tiny: Tiny) -> None:
    base = tiny("llama")
    one, two = RoutedModel(base, tiny_library(2)), RoutedModel(base, tiny_library(4))
    expected = [ids_of(each.generate(TEXT, Arrow(), max_new_tokens=10)) for each in (one, two)]
    streams = [each.generate(TEXT, Arrow(), max_new_tokens=10) for each in (one, two)]
    found: list[list[GenerationEvent]] = [[], []]
    for pair in zip(*streams, strict=False):
        for events, event in zip(found, pair, strict=True):
            events.append(event)
    assert [ids_of(events) for events in found] == expected


def test_generating_inside_a_with_block(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library())
    outside = ids_of(routed.generate(TEXT, Arrow(), max_new_tokens=8))
    with routed:
        assert ids_of(routed.generate(TEXT, Arrow(), max_new_tokens=8)) == outside


def test_numbers_that_overflow_end_in_a_sentence(tiny: Tiny) -> None:
    updates = {
        site: LowRank(1e25 * make_update(*shape, 2, 1).a, 1e25 * make_update(*shape, 2, 2).b, 1.0)
        for site, shape in llama_shapes().items()
    }
    routed = RoutedModel(tiny("llama"), Library([make_adapter("huge", updates)]))
    with pytest.raises(BaseModelError, match=r"^Generation: stopped, because the routed model gave values"):
        list(routed.generate(TEXT, Single("huge")))


# -- what is refused, at once and not with the first event


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: expected"),
        ({"max_new_tokens": 5000}, "max_new_tokens: expected"),
        ({"max_new_tokens": 2.5}, "max_new_tokens: expected"),
        ({"max_new_tokens": MAX_TOKENS}, "max_new_tokens: expected less than the 128 tokens that the model has room"),
        ({"temperature": -1.0}, "temperature: expected"),
        ({"temperature": float("nan")}, "temperature: expected"),
        ({"top_p": 0.0}, "top_p: expected"),
        ({"seed": -1}, "seed: expected"),
        ({"seed": 0.5}, "seed: expected"),
        ({"routers": ()}, "routers: expected 1 to 64 of them, found 0"),
        ({"record": (True,)}, "record: expected one value for each of 2 rows, found 1"),
        ({"routers": (Single("nobody"),)}, "Adapter 'nobody': is not one that can be routed here"),
    ],
)
def test_bad_settings(options: dict, message: str, tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(2))
    with pytest.raises(SettingsError) as caught:
        routed.generate(TEXT, **{"routers": (Base(), Uniform()), **options})
    assert caught.value.sentence.startswith(message)


def test_a_prompt_has_to_leave_room_for_the_answer(tiny: Tiny) -> None:
    routed = RoutedModel(tiny("llama"), tiny_library(2))
    with pytest.raises(PromptError, match=r"^Prompt: is too long, expected at most 28 tokens, found \d+\."):
        routed.generate("z" * 40, Base(), max_new_tokens=100)


# -- sampling and text


def test_top_p_keeps_the_smallest_set_that_holds_it() -> None:
    logits = torch.log(torch.tensor([0.1, 0.5, 0.15, 0.25]))
    generator = torch.Generator().manual_seed(0)
    drawn = {Sampling(temperature=1.0, top_p=0.7).draw(logits, generator) for _ in range(300)}
    assert drawn == {1, 3}
    assert {Sampling(temperature=1.0, top_p=1e-6).draw(logits, generator) for _ in range(20)} == {1}
    assert {Sampling(temperature=1.0).draw(logits, generator) for _ in range(500)} == {0, 1, 2, 3}
    assert Sampling().draw(logits, generator) == 1


def test_text_arrives_in_whole_characters_and_adds_up(tiny: Tiny) -> None:
    tokenizer = tiny("llama").tokenizer
    text = "the café 🦊 jumps\nover 日本 dogs, and over the sea again and again"
    stream = TextStream(tokenizer)
    parts = [stream.push(token) for token in tokenizer(text)["input_ids"]]
    assert "".join(parts) == stream.text == text
    assert not any("\ufffd" in part for part in parts)
    assert stream.finish() == ""


def test_an_unfinished_character_is_shown_at_the_end_only(tiny: Tiny) -> None:
    tokenizer = tiny("llama").tokenizer
    stream = TextStream(tokenizer)
    ids = tokenizer("a🦊")["input_ids"]
    assert [stream.push(token) for token in ids[:-1]] == ["a"] + [""] * (len(ids) - 2)
    assert "\ufffd" in stream.finish()


def test_special_tokens_add_no_text_but_can_be_read_in_a_trace(tiny: Tiny) -> None:
    tokenizer = tiny("llama").tokenizer
    token = tokenizer.convert_tokens_to_ids("<|end|>")
    assert TextStream(tokenizer).push(token) == ""
    assert piece(tokenizer, token) == "<|end|>"


def test_end_tokens_come_from_the_model_and_the_tokenizer(tiny: Tiny) -> None:
    base = with_end_at(tiny("llama"), 9)
    assert end_tokens(base.model, base.tokenizer) == {0, 9}
    base.model.generation_config.eos_token_id = None
    assert end_tokens(base.model, base.tokenizer) == {0}
    assert replace(base, name="other").lock is base.lock
