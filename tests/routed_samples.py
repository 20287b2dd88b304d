"""Libraries for the tests of routing: made in memory, or saved by PEFT itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch

from explorer.adapters.adapter import Adapter, Status, Verdict
from explorer.adapters.library import Library
from explorer.adapters.low_rank import LowRank
from explorer.models.base import BaseModel


def make_update(d_out: int, d_in: int, rank: int, seed: int, size: float = 1.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, d_in, generator=generator) / d_in**0.5
    b = torch.randn(d_out, rank, generator=generator) / rank**0.5
    return LowRank(a, b, size)


def make_adapter(name: str, updates: Mapping[str, LowRank], status: Status = Status.ACCEPTED) -> Adapter:
    return Adapter(name, None, "tiny/model", dict(updates), Verdict(name, status), 8.0, f"hash of {name}", 0)


def random_adapter(name: str, shapes: Mapping[str, tuple[int, int]], *, rank: int = 3, seed: int = 0) -> Adapter:
    """Random updates at each site of `shapes` (site -> (d_out, d_in))."""
    return make_adapter(
        name,
        {
            site: make_update(d_out, d_in, rank, seed=1000 * seed + place)
            for place, (site, (d_out, d_in)) in enumerate(shapes.items())
        },
    )


def llama_shapes(layers: Sequence[int] = (0, 1)) -> dict[str, tuple[int, int]]:
    """Sites of the tiny Llama, three a layer."""
    shapes = {"self_attn.q_proj": (32, 32), "self_attn.v_proj": (16, 32), "mlp.down_proj": (32, 48)}
    return {f"model.layers.{layer}.{name}": shape for layer in layers for name, shape in shapes.items()}


def tiny_library(count: int = 5) -> Library:
    """Adapters of the tiny Llama: ranks 2, 3, 4; the last one has layer 1 only."""
    adapters = [
        random_adapter(
            f"adapter-{number}",
            llama_shapes((1,) if count > 1 and number == count - 1 else (0, 1)),
            rank=2 + number % 3,
            seed=number,
        )
        for number in range(count)
    ]
    return Library(adapters)


def peft_model(base: BaseModel, seed: int, **config: Any) -> Any:
    """A PeftModel on a copy of `base` with random A and B."""
    model = peft.get_peft_model(copy.deepcopy(base.model), peft.LoraConfig(task_type="CAUSAL_LM", **config)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[1] ** -0.5)
    return model


def save_peft(model: Any, folder: Path) -> Path:
    """Save what PEFT would save, without asking the hub whether the vocabulary was resized."""
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder
