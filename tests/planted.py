"""Adapters made up in memory, with a structure that is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from explorer.adapters.adapter import Adapter, AdapterNotes, Status, Verdict
from explorer.adapters.low_rank import LowRank
from explorer.analysis.similarity import Similarity

SITES = {
    "model.layers.0.self_attn.q_proj": (24, 32),
    "model.layers.0.self_attn.v_proj": (12, 32),
    "model.layers.1.self_attn.q_proj": (24, 32),
    "model.layers.1.self_attn.v_proj": (12, 32),
}


def adapter_of(name: str, updates: Mapping[str, LowRank], family: str = "") -> Adapter:
    return Adapter(
        name=name,
        path=None,
        base_model="tiny/model",
        updates=dict(updates),
        verdict=Verdict(name, Status.ACCEPTED),
        alpha=8.0,
        content_hash=f"hash of {name}",
        size_bytes=1000,
        notes=AdapterNotes(task=f"task of {name}", family=family),
    )


def random_update(shape: tuple[int, int], rank: int, generator: torch.Generator, scale: float = 2.0) -> LowRank:
    d_out, d_in = shape
    return LowRank(torch.randn(rank, d_in, generator=generator), torch.randn(d_out, rank, generator=generator), scale)


def unrelated(ranks: Sequence[int], sites: Mapping[str, tuple[int, int]] = SITES, seed: int = 0) -> list[Adapter]:
    """Random adapters, one for each rank, called a0, a1, ..."""
    generator = torch.Generator().manual_seed(seed)
    return [
        adapter_of(f"a{index}", {site: random_update(shape, rank, generator) for site, shape in sites.items()})
        for index, rank in enumerate(ranks)
    ]


def planted(clusters: int, each: int, *, noise: float = 0.3, rank: int = 4, seed: int = 0) -> list[Adapter]:
    """`clusters` groups of `each` adapters, interleaved; the members of a group share factors up to noise."""
    generator = torch.Generator().manual_seed(seed)
    centres = [{site: random_update(shape, rank, generator) for site, shape in SITES.items()} for _ in range(clusters)]

    def near(factor: Tensor) -> Tensor:
        return factor + noise * torch.randn(factor.shape, generator=generator)

    return [
        adapter_of(
            f"a{index}",
            {
                site: LowRank(near(centre.a), near(centre.b), centre.scale)
                for site, centre in centres[index % clusters].items()
            },
            family=f"family {index % clusters}",
        )
        for index in range(clusters * each)
    ]


def in_other_bases(adapters: Sequence[Adapter], seed: int = 1) -> list[Adapter]:
    """The same updates from other factors: A -> M A, B -> B M^-1 with an M for each adapter and site."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for adapter in adapters:
        updates = {}
        for site, update in adapter.updates.items():
            m = torch.randn(update.rank, update.rank, generator=generator, dtype=torch.float64)
            b = torch.linalg.solve(m.T, update.b.double().T).T
            updates[site] = LowRank((m @ update.a.double()).float(), b.float(), update.scale)
        result.append(replace(adapter, updates=updates))
    return result


def of_rows(rows: object) -> Similarity:
    """Cosines of the rows of a small matrix."""
    vectors = np.asarray(rows, dtype=float)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(lengths == 0, 1, lengths)
    values = np.clip(vectors @ vectors.T, -1, 1)
    np.fill_diagonal(values, 1.0)
    names = tuple(f"a{index}" for index in range(len(vectors)))
    return Similarity(names, values, "update", (1.0,) * len(names))
