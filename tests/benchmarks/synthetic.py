"""Libraries of random adapters on the sample's base model, in memory: what a speed depends on is only their shape."""

from __future__ import annotations

import torch

from explorer.adapters.adapter import Adapter, Status, Verdict
from explorer.adapters.library import Library
from explorer.adapters.low_rank import LowRank

SAMPLE_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
SHAPES = {"q_proj": (576, 576), "k_proj": (192, 576), "v_proj": (192, 576), "o_proj": (576, 576)}  # (d_out, d_in)
LAYERS = 30


def synthetic_library(count: int, rank: int = 4) -> Library:
    """`count` adapters of one rank on q k v o of all layers."""
    return Library([_adapter(number, rank) for number in range(count)])


def _adapter(number: int, rank: int) -> Adapter:
    generator = torch.Generator().manual_seed(number)
    updates = {
        f"model.layers.{layer}.self_attn.{module}": LowRank(
            torch.randn(rank, d_in, generator=generator) / d_in**0.5,
            0.02 * torch.randn(d_out, rank, generator=generator),
            4.0,
        )
        for layer in range(LAYERS)
        for module, (d_out, d_in) in SHAPES.items()
    }
    name = f"adapter-{number:04d}"
    verdict = Verdict(name, Status.ACCEPTED)
    return Adapter(name, None, SAMPLE_BASE, updates, verdict, 4.0 * rank, f"synthetic {number}", 0)
