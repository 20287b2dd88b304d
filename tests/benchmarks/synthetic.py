"""Libraries of random adapters on the sample's base model, in memory: what a speed depends on is only their shape."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from adapter_files import CONFIG, PREFIX, WEIGHTS, config_of
from safetensors.torch import save_file

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


def write_peft(count: int, folder: Path, rank: int = 4) -> list[Path]:
    """The same adapters as PEFT folders."""
    paths = []
    for adapter in synthetic_library(count, rank).adapters:
        own = folder / adapter.name
        own.mkdir(parents=True)
        tensors = {}
        for site, update in adapter.updates.items():
            tensors[f"{PREFIX}{site}.lora_A.weight"] = update.a
            tensors[f"{PREFIX}{site}.lora_B.weight"] = update.b
        config = config_of(rank=rank, alpha=4.0 * rank, base_model=SAMPLE_BASE, target_modules=list(SHAPES))
        (own / CONFIG).write_text(json.dumps(config))
        save_file(tensors, own / WEIGHTS, metadata={"format": "pt"})
        paths.append(own)
    return paths
