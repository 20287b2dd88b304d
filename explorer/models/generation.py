"""Stepping several routers' answers to one prompt together: one batch, one KV cache, one event at a time.

Every row starts from the same prompt, so there is no padding anywhere; a row that ends is taken out of the batch.
The caller may drop the generator at any point: nothing is attached and no lock is held between two steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from explorer.errors import BaseModelError
from explorer.models.events import Finished, FinishReason, GenerationEvent, PromptRead, TokenEmitted, TokenRouted
from explorer.models.sampling import Sampling
from explorer.models.tokens import PromptTokens, TextStream, piece
from explorer.routing.router import Router
from explorer.routing.routing_pass import PromptScores, RoutingPass

if TYPE_CHECKING:
    from explorer.models.routed_model import RoutedModel

Stop = Callable[[], bool]


class _Row:
    """One answer in the making."""

    def __init__(self, index: int, router: Router, record: bool, tokenizer: Any, seed: int) -> None:
        self.index, self.router, self.record = index, router, record
        self.stream = TextStream(tokenizer)
        self.generator = torch.Generator().manual_seed(seed)
        self.last = -1
        self.count = 0

    def emit(self, logits: Tensor, sampling: Sampling, ends: frozenset[int]) -> TokenEmitted:
        """Draw the next token from this row's logits (vocabulary,)."""
        self.last = sampling.draw(logits, self.generator)
        self.count += 1
        text = "" if self.last in ends else self.stream.push(self.last)
        if self.ending(sampling, ends) is not None:
            text += self.stream.finish()
        return TokenEmitted(self.index, self.last, text, float(torch.log_softmax(logits, dim=-1)[self.last]))

    def ending(self, sampling: Sampling, ends: frozenset[int]) -> FinishReason | None:
        """Why the row is done after its last token, or None."""
        if self.last in ends:
            return FinishReason.END
        return FinishReason.LENGTH if self.count >= sampling.max_new_tokens else None

    def finished(self, reason: FinishReason, started: float) -> Finished:
        self.stream.finish()
        return Finished(self.index, reason, self.stream.text, self.count, time.monotonic() - started)


@dataclass(frozen=True, eq=False)
class Step:
    """What one pass gave: the last position's logits (rows, vocabulary), the cache, and what was recorded."""

    logits: Tensor
    cache: Any
    recorded: RoutingPass


def generate_events(
    routed: RoutedModel,
    prompt: PromptTokens,
    routers: Sequence[Router],
    sampling: Sampling,
    *,
    record: Sequence[bool],
    stop: Stop | None,
) -> Iterator[GenerationEvent]:
    """The events of all rows until each has finished (see :meth:`RoutedModel.generate`)."""
    started = time.monotonic()
    ends = end_tokens(routed.base.model, routed.base.tokenizer)
    rows = [
        _Row(index, router, record[index], routed.base.tokenizer, sampling.seed) for index, router in enumerate(routers)
    ]
    if stop is not None and stop():
        yield from (row.finished(FinishReason.STOPPED, started) for row in rows)
        return
    prompts = PromptScores()
    step = _advance(routed, rows, [prompt.ids] * len(rows), None, prompts)
    seconds = time.monotonic() - started
    for place, row in enumerate(rows):
        trace = routed.trace_of(step.recorded, place, row.router, prompt) if row.record else None
        yield PromptRead(row.index, len(prompt.ids), seconds, trace)
    while True:
        for row, logits in zip(rows, _finite(step.logits), strict=True):
            yield row.emit(logits, sampling, ends)
        reasons = [row.ending(sampling, ends) for row in rows]
        for row, reason in zip(rows, reasons, strict=True):
            if reason is not None:
                yield row.finished(reason, started)
        going_on = [place for place, reason in enumerate(reasons) if reason is None]
        if not going_on:
            return
        if len(going_on) < len(rows):
            step.cache.batch_select_indices(torch.tensor(going_on, device=routed.base.device))
            rows = [rows[place] for place in going_on]
        if stop is not None and stop():
            yield from (row.finished(FinishReason.STOPPED, started) for row in rows)
            return
        step = _advance(routed, rows, [(row.last,) for row in rows], step.cache, prompts)
        yield from _routed(routed, rows, step.recorded)


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer, by the model's generation settings and the tokenizer."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends = {*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id}
    return frozenset(end for end in ends if end is not None)


def _advance(
    routed: RoutedModel, rows: Sequence[_Row], ids: Sequence[Sequence[int]], cache: Any, prompts: PromptScores
) -> Step:
    output, recorded = routed.forward(
        ids,
        [row.router for row in rows],
        record=[place for place, row in enumerate(rows) if row.record],
        cache=cache,
        use_cache=True,
        keep=1,
        prompts=prompts,
        keys=[row.index for row in rows],
    )
    return Step(output.logits[:, -1], output.past_key_values, recorded)


def _finite(logits: Tensor) -> Tensor:
    """Float32 logits on the CPU, where they are drawn from: the same seed gives the same draw on every device."""
    scores = logits.float().cpu()
    if not bool(torch.isfinite(scores).all()):
        raise BaseModelError(
            "Generation", "stopped, because the routed model gave values that are not numbers", fix="Try other weights."
        )
    return scores


def _routed(routed: RoutedModel, rows: Sequence[_Row], recorded: RoutingPass) -> Iterator[TokenRouted]:
    for place, row in enumerate(rows):
        if row.record:
            token = PromptTokens((row.last,), (piece(routed.base.tokenizer, row.last),), (True,))
            yield TokenRouted(row.index, routed.trace_of(recorded, place, row.router, token, prompt_length=0))
