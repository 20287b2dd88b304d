"""Slow, obvious versions of what the package computes fast; written from the papers, sharing no code with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from explorer.adapters.adapter import Adapter
from explorer.adapters.low_rank import LowRank


def dense_prototype(update: LowRank) -> Tensor:
    """Top right singular vector of the full matrix, float64."""
    _, _, vh = torch.linalg.svd(update.scale * update.b.double() @ update.a.double())
    return vh[0]


def arrow_weights(scores: list[float | None], top_k: int, temperature: float) -> list[float]:
    """Weights of one token from its scores, one adapter at a time; None marks an adapter that lacks the site."""
    there = [index for index, score in enumerate(scores) if score is not None]
    kept = sorted(there, key=lambda index: (-scores[index], index))[:top_k]
    if not kept:
        return [0.0] * len(scores)
    largest = max(scores[index] for index in kept)
    shares = {index: math.exp((scores[index] - largest) / temperature) for index in kept}
    total = sum(shares.values())
    return [shares.get(index, 0.0) / total for index in range(len(scores))]


def arrow_at(adapters: list[Adapter], site: str, hidden: Tensor, top_k: int, temperature: float) -> list[list[float]]:
    """Arrow's weights for each row of `hidden` (tokens, d_in), from dense matrices."""
    vectors = [dense_prototype(adapter.updates[site]) if site in adapter.updates else None for adapter in adapters]
    return [
        arrow_weights([None if v is None else abs(float(h.double() @ v)) for v in vectors], top_k, temperature)
        for h in hidden
    ]


def mixed_output(adapters: list[Adapter], site: str, hidden: Tensor, weights: list[list[float]]) -> Tensor:
    """sum_e w_e dW_e h for each token, with every dW_e written out; (tokens, d_out) float64."""
    rows = []
    for h, row in zip(hidden.double(), weights, strict=True):
        total = 0
        for adapter, weight in zip(adapters, row, strict=True):
            if site in adapter.updates:
                update = adapter.updates[site]
                total = total + weight * update.scale * (update.b.double() @ (update.a.double() @ h))
        rows.append(total)
    return torch.stack(rows)
