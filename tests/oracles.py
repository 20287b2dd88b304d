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


def spectr_score(update: LowRank, hidden: Tensor) -> float:
    """||V^T h|| with all right singular vectors that have a singular value, from the full matrix."""
    _, s, vh = torch.linalg.svd(update.scale * update.b.double() @ update.a.double(), full_matrices=False)
    return float((vh[s > 1e-9 * s.max()] @ hidden.double()).norm())


def lag_choice(adapters: list[Adapter], site: str, hidden: Tensor, short_list: int) -> int | None:
    """The adapter that LAG chooses for one token, None where nobody has the site."""
    there = [index for index, adapter in enumerate(adapters) if site in adapter.updates]
    arrow = {index: abs(float(hidden.double() @ dense_prototype(adapters[index].updates[site]))) for index in there}
    listed = sorted(sorted(there, key=lambda index: (-arrow[index], index))[:short_list])
    strength = {index: spectr_score(adapters[index].updates[site], hidden) for index in listed}
    return max(listed, key=lambda index: (strength[index], -index)) if listed else None


def averaged_factors(adapters: list[Adapter], site: str, hidden: Tensor, weights: list[list[float]]) -> Tensor:
    """(sum_e w_e s_e B_e)(sum_e w_e A_e) h for each token; (tokens, d_out) float64."""
    rows = []
    for h, row in zip(hidden.double(), weights, strict=True):
        a = b = 0
        for adapter, weight in zip(adapters, row, strict=True):
            if site in adapter.updates:
                update = adapter.updates[site]
                a, b = a + weight * update.a.double(), b + weight * update.scale * update.b.double()
        rows.append(b @ (a @ h))
    return torch.stack(rows)


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
