"""Stepping several routers' answers to one prompt together: one batch, one KV cache, one event at a time.

Every row starts from the same prompt, so there is no padding anywhere; a row that ends is taken out of the batch.
The caller may drop the generator at any point: nothing is attached and no lock is held between two steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from explorer.errors import BaseModelError
from explorer.models.events import Finished, FinishReason, GenerationEvent, PromptRead, TokenEmitted, TokenRouted
from explorer.models.sampling import Sampling
from explorer.models.tokens import PromptTokens, TextStream, piece
from explorer.routing.routed_linear import RoutedPass
from explorer.routing.router import Router

if TYPE_CHECKING:
    from explorer.models.routed_model import RoutedModel


@dataclass
class _Row:
    """One answer in the making."""

    index: int
    router: Router
    stream: TextStream
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)

    def finished(self, reason: FinishReason, started: float) -> Finished:
        self.stream.finish()
        return Finished(self.index, reason, self.stream.text, len(self.ids), time.monotonic() - started)


def generate_events(
    routed: RoutedModel,
    prompt: PromptTokens,
    routers: Sequence[Router],
    sampling: Sampling,
    *,
    record: bool,
    stop: Callable[[], bool] | None,
) -> Iterator[GenerationEvent]:
    """The events of all rows until each has finished (see :meth:`RoutedModel.generate`)."""
    started = time.monotonic()
    ends = end_tokens(routed.base.model, routed.base.tokenizer)
    rows = [_new_row(routed, index, router, sampling) for index, router in enumerate(routers)]
    if stop is not None and stop():
        yield from (row.finished(FinishReason.STOPPED, started) for row in rows)
        return
    current = _pass(rows, record)
    output = routed.forward(
        torch.tensor([prompt.ids] * len(rows)), current, use_cache=True, last_only=True
    )
    seconds = time.monotonic() - started
    for place, row in enumerate(rows):
        trace = None
        if record:
            trace = routed.trace_of(current, place, prompt.ids, prompt.pieces, prompt.typed, len(prompt.ids))
        yield PromptRead(row.index, len(prompt.ids), seconds, trace)
    while True:
        yield from _emit(rows, output.logits[:, -1], sampling, ends)
        keep = [place for place, row in enumerate(rows) if not _reason(row, sampling, ends)]
        for row in rows:
            if (reason := _reason(row, sampling, ends)) is not None:
                yield row.finished(reason, started)
        cache = output.past_key_values
        if not keep:
            return
        if len(keep) < len(rows):
            cache.batch_select_indices(torch.tensor(keep, device=routed.base.device))
            rows = [rows[place] for place in keep]
        if stop is not None and stop():
            yield from (row.finished(FinishReason.STOPPED, started) for row in rows)
            return
        current = _pass(rows, record)
        output = routed.forward(
            torch.tensor([[row.ids[-1]] for row in rows]), current, cache=cache, use_cache=True, last_only=True
        )
        if record:
            yield from _routed(routed, rows, current)


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer, by the model's generation settings and the tokenizer."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    return frozenset(end for end in ends if end is not None)


def _new_row(routed: RoutedModel, index: int, router: Router, sampling: Sampling) -> _Row:
    generator = torch.Generator().manual_seed(sampling.seed)
    return _Row(index, router, TextStream(routed.base.tokenizer), generator)


def _pass(rows: Sequence[_Row], record: bool) -> RoutedPass:
    return RoutedPass(tuple(row.router for row in rows), recorded=tuple(range(len(rows))) if record else ())


def _emit(
    rows: Sequence[_Row], logits: Tensor, sampling: Sampling, ends: frozenset[int]
) -> Iterator[TokenEmitted]:
    scores = logits.float().cpu()
    if not bool(torch.isfinite(scores).all()):
        raise BaseModelError("Generation", "stopped: the routed model gave values that are not numbers")
    for place, row in enumerate(rows):
        token = sampling.draw(scores[place], row.generator)
        row.ids.append(token)
        log_probability = float(torch.log_softmax(scores[place], dim=-1)[token])
        text = "" if token in ends else row.stream.push(token)
        yield TokenEmitted(row.index, token, text, log_probability)


def _reason(row: _Row, sampling: Sampling, ends: frozenset[int]) -> FinishReason | None:
    if row.ids[-1] in ends:
        return FinishReason.END
    return FinishReason.LENGTH if len(row.ids) >= sampling.max_new_tokens else None


def _routed(routed: RoutedModel, rows: Sequence[_Row], current: RoutedPass) -> Iterator[TokenRouted]:
    for place, row in enumerate(rows):
        ids = (row.ids[-1],)
        pieces = (piece(routed.base.tokenizer, row.ids[-1]),)
        yield TokenRouted(row.index, routed.trace_of(current, place, ids, pieces, (True,), 0))
