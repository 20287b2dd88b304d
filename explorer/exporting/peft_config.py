"""`adapter_config.json` for PEFT such that exactly the exported modules are adapted, each with a scale of exactly 1.

PEFT takes a name in `target_modules` for the whole name of a module or for its end, and for each module the first key
of `rank_pattern` and `alpha_pattern` that matches the name or its end. Whole names everywhere leave nothing open, save
where one module's whole name is another one's end: `^` then says that a key is meant from the beginning.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from explorer.adapters.adapter import Adapter
from explorer.adapters.lora_config import CONFIG
from explorer.adapters.module_patterns import PLAIN


def peft_config(base_model: str, alphas: Mapping[str, tuple[int, float]], *, fan_in_fan_out: bool) -> dict[str, Any]:
    """The configuration of an adapter.

    Args:
        base_model: as the library names it.
        alphas: module -> (rank, alpha); PEFT multiplies by alpha / rank.
        fan_in_fan_out: whether the base model's modules are GPT-2's Conv1D (PEFT finds out by itself, with a warning).
    """
    (rank, alpha), _ = Counter(alphas.values()).most_common(1)[0]
    ends = {end for name in alphas for end in _ends(name)}
    keys = {name: _key(name, ends) for name in alphas}
    return {
        "alpha_pattern": {keys[name]: own[1] for name, own in alphas.items() if own != (rank, alpha)},
        "base_model_name_or_path": base_model or None,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {keys[name]: own[0] for name, own in alphas.items() if own != (rank, alpha)},
        "target_modules": list(alphas),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `adapter_config.json`."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def for_conv1d(adapters: Iterable[Adapter]) -> bool:
    """Whether these adapters were trained on GPT-2's Conv1D, as far as their configurations say so."""
    return any(adapter.config.get("fan_in_fan_out") is True for adapter in adapters)


def _ends(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(1, len(parts))]


def _key(name: str, ends: set[str]) -> str:
    """A module's name as a pattern that matches it and no other exported module."""
    plain = name if PLAIN.fullmatch(name) else re.escape(name)
    return f"^{plain}" if name in ends else plain
