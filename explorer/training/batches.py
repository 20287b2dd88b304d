"""From examples to padded batches of similar length, with the loss on the answer only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explorer.models.base import BaseModel
from explorer.models.chat import encode_answer, encode_prompt
from explorer.tasks.task import Example

IGNORED = -100  # label of a position that carries no loss (torch's convention)
STRIDE = 16  # widths of batches are multiples of this
POOL = 16  # batches sorted together: large enough to save padding, small enough to keep the order random


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt and answer; the first `prompt_length` carry no loss."""

    ids: tuple[int, ...]
    prompt_length: int


@dataclass(frozen=True)
class Batch:
    """Right-padded tensors, each (rows, tokens)."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def encode(tokenizer: Any, examples: Sequence[Example], *, chat: bool, max_tokens: int) -> list[Encoded]:
    """Encode the examples that fit in `max_tokens`; the others are left out."""
    encoded = []
    for example in examples:
        prompt = encode_prompt(tokenizer, example.prompt, chat=chat)
        ids = prompt + encode_answer(tokenizer, example.target, chat=chat)
        if len(ids) <= max_tokens:
            encoded.append(Encoded(tuple(ids), len(prompt)))
    return encoded


def batch_order(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """Indices of each batch: shuffled, then sorted by length within pools, then the batches shuffled."""
    shuffle = random.Random(seed)  # noqa: S311 - an order of examples, not a secret
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_size * POOL):
        pool = sorted(order[start : start + batch_size * POOL], key=lambda index: lengths[index])
        batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
    shuffle.shuffle(batches)
    return batches


def collate(rows: Sequence[Encoded], pad_token: int, device: torch.device, most: int) -> Batch:
    """Pad on the right to the longest row, and on to a multiple of 16 as far as the model's `most` tokens allow.

    On a CPU kernels for low precision are compiled for every new shape, which takes as long as a step or two.
    """
    longest = max(len(row.ids) for row in rows)
    width = max(longest, min(-(-longest // STRIDE) * STRIDE, most))
    ids = torch.full((len(rows), width), pad_token)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for index, row in enumerate(rows):
        length = len(row.ids)
        ids[index, :length] = torch.tensor(row.ids)
        mask[index, :length] = 1
        labels[index, row.prompt_length : length] = ids[index, row.prompt_length : length]
    return Batch(ids.to(device), mask.to(device), labels.to(device))


def batch_of(rows: Sequence[Encoded], base: BaseModel) -> Batch:
    """Rows as a batch for this model."""
    return collate(rows, base.tokenizer.pad_token_id or 0, base.device, base.max_tokens)


def answer_losses(model: Any, batch: Batch) -> Tensor:
    """Mean negative log-likelihood (nats per token) of each row's answer, shape (rows,).

    Only the positions that predict an answer go through the output layer, which is a third of the work of a small
    model: the columns are passed as `logits_to_keep` where the model knows that argument.
    """
    targets = batch.labels[:, 1:]
    columns = (targets != IGNORED).any(dim=0).nonzero().flatten()
    output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, logits_to_keep=columns)
    logits = output.logits
    if logits.shape[1] != len(columns):
        logits = logits[:, columns]
    targets = targets[:, columns]
    losses = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
    )
    counted = targets != IGNORED
    return losses.sum(dim=1) / counted.sum(dim=1).clamp(min=1)
