"""What matters of a PEFT `adapter_config.json`, read with distrust.

Scales follow PEFT: alpha / r, or alpha / sqrt(r) with rsLoRA. The rank is read off the tensors (so `rank_pattern`
needs no matching); alpha comes from `alpha_pattern` where one of its patterns fits the module, else from `lora_alpha`.
Fields that change nothing about the update (`target_modules`, unknown newer ones) are not looked at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.adapters.module_patterns import ModulePatterns, read_patterns
from explorer.adapters.wording import clean_line, shown
from explorer.errors import AdapterFormatError

CONFIG = "adapter_config.json"
MAX_BYTES = 4 << 20
MAX_DEPTH = 32
MAX_NUMBER = 1e6
ALTERED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# field -> why an adapter that uses it can be shown on the map but not routed
UNROUTABLE = {
    "use_dora": "it uses DoRA, whose magnitude is not a low-rank update",
    "lora_bias": "it trains a bias beside B",
    "modules_to_save": "it replaces whole modules of the base model",
    "trainable_token_indices": "it changes token embeddings",
    "target_parameters": "it adapts bare parameters instead of linear modules",
    "layer_replication": "it repeats layers of the base model",
    "alora_invocation_tokens": "it is an activated LoRA, which starts at an invocation token",
    "use_qalora": "it uses QALoRA, which pools the input before A",
    "use_bdlora": "it uses block-diagonal factors",
    "kasa_config": "it uses KaSA, which cuts down the base model's weights",
    "arrow_config": "it is a router over other adapters",
}


@dataclass(frozen=True)
class LoraSettings:
    """The fields that decide what an adapter computes.

    Attributes:
        base_model: the name given, "" if none.
        alpha: `lora_alpha`.
        ranks: every rank that the configuration speaks of.
        rslora: whether the scale is alpha / sqrt(r).
        alpha_pattern: alpha by module.
        unroutable: reasons, in words, why routing would not reproduce the adapter.
        warnings: what a user should know of an adapter that can be routed.
        raw: the configuration as read, at most `MAX_DEPTH` deep.
    """

    base_model: str
    alpha: float
    ranks: frozenset[int]
    rslora: bool
    alpha_pattern: ModulePatterns
    unroutable: tuple[str, ...]
    warnings: tuple[str, ...]
    raw: Mapping[str, Any]

    def scales(self, ranks: Mapping[str, int]) -> dict[str, float]:
        """The factor in front of B A at each module, from module -> rank.

        Raises:
            AdapterFormatError: the expressions in `alpha_pattern` take too long to match.
        """
        alphas = self.alpha_pattern.values(ranks, self.alpha)
        return {
            site: alphas[site] / math.sqrt(rank) if self.rslora else alphas[site] / rank for site, rank in ranks.items()
        }


def read_config(folder: Path) -> LoraSettings:
    """Read the configuration in `folder`.

    Raises:
        AdapterFormatError: it is missing, not JSON, not LoRA, or a field that matters has a value it cannot have.
    """
    raw = _object(folder / CONFIG)
    kind = raw.get("peft_type", "LORA")
    if not isinstance(kind, str) or kind.upper() != "LORA":
        raise AdapterFormatError(CONFIG, "is not LoRA", expected="peft_type LORA", found=shown(kind, 30))
    return LoraSettings(
        base_model=clean_line(raw.get("base_model_name_or_path"), 500),
        alpha=_number(raw, "lora_alpha", 8.0),
        ranks=_ranks(raw),
        rslora=_flag(raw, "use_rslora"),
        alpha_pattern=_alpha_pattern(raw.get("alpha_pattern")),
        unroutable=_unroutable(raw),
        warnings=_warnings(raw),
        raw=raw,
    )


def _object(path: Path) -> dict[str, Any]:
    if path.is_symlink():
        raise AdapterFormatError(CONFIG, "is a link, not a file", fix="Copy the file itself.")
    if not path.is_file():
        raise AdapterFormatError(CONFIG, "is missing", fix="Save the adapter with PEFT's save_pretrained.")
    if path.stat().st_size > MAX_BYTES:
        raise AdapterFormatError(CONFIG, "is too large", expected=f"at most {MAX_BYTES >> 20} MB")
    try:
        raw = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AdapterFormatError(CONFIG, "is not JSON") from error
    if not isinstance(raw, dict):
        raise AdapterFormatError(CONFIG, "is not a JSON object")
    if _is_deeper(raw, MAX_DEPTH):
        raise AdapterFormatError(CONFIG, "is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
    return raw


def _is_deeper(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return any(isinstance(item, dict | list) for item in level)


def _number(raw: Mapping[str, Any], field: str, default: float) -> float:
    value = raw.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < abs(value) <= MAX_NUMBER:
        raise AdapterFormatError(
            f"{CONFIG}, field {shown(field, 40)}", expected="a number that is not 0", found=shown(value, 40)
        )
    return float(value)


def _ranks(raw: Mapping[str, Any]) -> frozenset[int]:
    """`r`, which must be a rank, and those of `rank_pattern` that are: only compared with the tensors."""
    rank = raw.get("r", 8)
    if not _is_rank(rank):
        raise AdapterFormatError(f"{CONFIG}, field r", expected="a whole number from 1", found=shown(rank, 40))
    pattern = raw.get("rank_pattern")
    others = pattern.values() if isinstance(pattern, dict) else ()
    return frozenset({int(rank), *(int(value) for value in others if _is_rank(value))})


def _is_rank(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 1 <= value <= MAX_NUMBER and value == int(value)


def _flag(raw: Mapping[str, Any], field: str) -> bool:
    value = raw.get(field)
    if value is not None and not isinstance(value, bool):
        raise AdapterFormatError(f"{CONFIG}, field {field}", expected="true or false", found=shown(value, 40))
    return bool(value)


def _alpha_pattern(value: Any) -> ModulePatterns:
    where = f"{CONFIG}, field alpha_pattern"
    patterns = {} if value is None else value
    if not isinstance(patterns, dict):
        raise AdapterFormatError(where, expected="an object of module names", found=shown(value, 40))
    return read_patterns(where, {key: _number(patterns, key, 1.0) for key in patterns})


def _unroutable(raw: Mapping[str, Any]) -> tuple[str, ...]:
    # an empty list of invocation tokens or of modules is as good as none
    reasons = [reason for field, reason in UNROUTABLE.items() if raw.get(field) not in (None, False, [], {}, 0)]
    if raw.get("bias") not in (None, "none", False):
        reasons.append("it trains biases of the base model")
    return tuple(reasons)


def _warnings(raw: Mapping[str, Any]) -> tuple[str, ...]:
    start = raw.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(ALTERED_BASE):
        return (f"It was initialised with {shown(start, 30)}: its update is relative to an altered base model.",)
    return ()
