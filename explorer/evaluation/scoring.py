"""Scoring rows of different lengths in one batch: the loss of their answers and, from the same pass, greedy answers.

The pass reads prompt and reference answer together. A greedy answer then goes on from the pass's own cache: what was
read after each prompt (the reference, the filling) is masked, so every row continues as if it stood alone and only
its prompt had been read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.sites import layer_label
from explorer.errors import BaseModelError
from explorer.evaluation.rows import TestRow
from explorer.models.generation import end_tokens
from explorer.models.routed_model import RoutedModel
from explorer.routing.router import Router
from explorer.routing.routing_pass import PromptScores, RoutingPass


@dataclass(frozen=True)
class RowScore:
    """What came out for one row.

    Attributes:
        loss: mean negative log-likelihood of the reference answer, its end token included (nats per token).
        tokens: of the reference answer.
        answer: the greedy answer's text, None where none was asked for.
        own_share: mean weight of the watched adapter over the prompt's tokens, by layer label.
    """

    loss: float
    tokens: int
    answer: str | None = None
    own_share: Mapping[str, float] = field(default_factory=dict)


def score_rows(
    routed: RoutedModel,
    rows: Sequence[TestRow],
    routers: Sequence[Router],
    *,
    max_new_tokens: int = 0,
    watched: Sequence[str | None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[RowScore] | None:
    """Score one batch.

    Args:
        routed: the model.
        rows: the rows.
        routers: one for each row.
        max_new_tokens: longest greedy answer; 0 for none.
        watched: for each row the adapter whose share of the weights is wanted, or None.
        stop: asked before each step.

    Returns:
        One score for each row, or None when stopped.

    Raises:
        BaseModelError: the routed model gives values that are not numbers.
        SettingsError: a router does not fit the library.
    """
    watched = watched or [None] * len(rows)
    prompts = PromptScores()
    columns = _columns(rows)
    output, recorded = routed.forward(
        [row.ids for row in rows],
        routers,
        record=[place for place, name in enumerate(watched) if name is not None],
        use_cache=max_new_tokens > 0,
        keep=columns,
        prompt_lengths=[row.prompt_length for row in rows],
        prompts=prompts,
    )
    logits = output.logits if output.logits.shape[1] == len(columns) else output.logits[:, columns]
    place_of = {int(column): place for place, column in enumerate(columns)}
    losses = [_loss(logits[index], row, place_of) for index, row in enumerate(rows)]
    answers: list[str | None] = [None] * len(rows)
    if max_new_tokens:
        first = torch.stack([logits[index, place_of[row.prompt_length - 1]] for index, row in enumerate(rows)])
        del logits
        written = _Writing(routed, rows, routers, prompts, output.past_key_values).write(first, max_new_tokens, stop)
        if written is None:
            return None
        answers = [routed.base.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
    shares = [_share(routed, recorded, index, rows[index], name) for index, name in enumerate(watched)]
    return [
        RowScore(loss, len(row.answer), answer, share)
        for loss, row, answer, share in zip(losses, rows, answers, shares, strict=True)
    ]


def _columns(rows: Sequence[TestRow]) -> Tensor:
    """Positions whose logits are needed by any row: those that predict its answer."""
    needed = {column for row in rows for column in range(row.prompt_length - 1, len(row.ids) - 1)}
    return torch.tensor(sorted(needed))


def _loss(logits: Tensor, row: TestRow, place_of: Mapping[int, int]) -> float:
    places = [place_of[column] for column in range(row.prompt_length - 1, len(row.ids) - 1)]
    target = torch.tensor(row.answer, device=logits.device)
    loss = float(torch.nn.functional.cross_entropy(logits[places].float(), target))
    if not np.isfinite(loss):
        raise BaseModelError("Evaluation", "stopped, because the routed model gave values that are not numbers")
    return loss


def _share(
    routed: RoutedModel, recorded: RoutingPass, index: int, row: TestRow, name: str | None
) -> Mapping[str, float]:
    if name is None:
        return {}
    weights, _ = recorded.recorded(index, routed.sites)
    own = weights[:, : row.prompt_length, routed.names.index(name)].mean(axis=1)
    layers: dict[str, list[float]] = {}
    for site, share in zip(routed.sites, own, strict=True):
        layers.setdefault(layer_label(site), []).append(float(share))
    return {layer: float(np.mean(shares)) for layer, shares in layers.items()}


class _Writing:
    """Greedy answers of all rows of a batch, from the cache of the pass that read them."""

    def __init__(
        self, routed: RoutedModel, rows: Sequence[TestRow], routers: Sequence[Router], prompts: PromptScores, cache: Any
    ) -> None:
        self.routed, self.routers, self.prompts, self.cache = routed, routers, prompts, cache
        device = routed.base.device
        longest = max(len(row.ids) for row in rows)
        self.lengths = torch.tensor([row.prompt_length for row in rows], device=device)
        self.mask = (torch.arange(longest, device=device) < self.lengths[:, None]).long()

    def write(self, first: Tensor, most: int, stop: Callable[[], bool] | None) -> list[list[int]] | None:
        """The ids of each row's answer without its end token; `first` holds the logits after each prompt."""
        ends = end_tokens(self.routed.base.model, self.routed.base.tokenizer)
        answers: list[list[int]] = [[] for _ in self.routers]
        going_on, logits = list(range(len(self.routers))), first
        for step in range(most):
            chosen = logits.argmax(dim=-1).tolist()
            staying = [place for place, token in enumerate(chosen) if token not in ends]
            for place in staying:
                answers[going_on[place]].append(chosen[place])
            if not staying or step == most - 1:
                break
            if stop is not None and stop():
                return None
            if len(staying) < len(going_on):
                self._keep(staying)
                going_on = [going_on[place] for place in staying]
            logits = self._step([chosen[place] for place in staying], going_on, step)
        return answers

    def _keep(self, places: list[int]) -> None:
        """Take the rows that ended out of the batch."""
        chosen = torch.tensor(places, device=self.mask.device)
        self.cache.batch_select_indices(chosen)
        self.mask, self.lengths = self.mask[chosen], self.lengths[chosen]

    def _step(self, tokens: list[int], keys: list[int], step: int) -> Tensor:
        """Logits (rows, vocabulary) after one more token of each row."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        output, _ = self.routed.forward(
            [(token,) for token in tokens],
            [self.routers[key] for key in keys],
            cache=self.cache,
            use_cache=True,
            keep=1,
            prompts=self.prompts,
            keys=keys,
            mask=self.mask,
            positions=(self.lengths + step)[:, None],
        )
        self.cache = output.past_key_values
        return output.logits[:, -1]
