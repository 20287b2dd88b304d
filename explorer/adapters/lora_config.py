"""What matters of a PEFT `adapter_config.json`, read with distrust.

Scales follow PEFT: alpha / r, or alpha / sqrt(r) with rsLoRA. The rank is read off the tensors (so `rank_pattern`
needs no reading); alpha comes from `alpha_pattern` where a pattern ends the module's name, else from `lora_alpha`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.adapters.safetensors_header import shown
from explorer.errors import AdapterFormatError

CONFIG = "adapter_config.json"
MAX_CONFIG = 4 << 20
MAX_PATTERN = 500
ALTERED_BASE = ("pissa", "olora", "corda", "loftq")
# field -> why an adapter that uses it can be shown on the map but not routed
UNROUTABLE = {
    "use_dora": "it uses DoRA, whose magnitude is not a low-rank update",
    "lora_bias": "it trains a bias beside B",
    "modules_to_save": "it replaces whole modules of the base model",
    "trainable_token_indices": "it changes token embeddings",
    "target_parameters": "it adapts bare parameters instead of linear modules",
    "layer_replication": "it repeats layers of the base model",
    "alora_invocation_tokens": "it is an activated LoRA, which starts at an invocation token",
}


@dataclass(frozen=True)
class LoraSettings:
    """The fields that decide what an adapter computes."""

    base_model: str
    alpha: float
    rank: int
    rslora: bool
    alpha_pattern: tuple[tuple[str, float], ...]
    unroutable: tuple[str, ...]
    warnings: tuple[str, ...]
    raw: Mapping[str, Any]

    def alpha_of(self, site: str) -> float:
        """The alpha of one module, as PEFT's `get_pattern_key` finds it: the first pattern that ends the name."""
        for pattern, alpha in self.alpha_pattern:
            if re.fullmatch(rf"(.*\.)?({pattern})", site):
                return alpha
        return self.alpha

    def scale_of(self, site: str, rank: int) -> float:
        """The factor in front of B A at one module."""
        alpha = self.alpha_of(site)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def read_config(folder: Path) -> LoraSettings:
    """Read the configuration in `folder`.

    Raises:
        AdapterFormatError: it is missing, not JSON, not LoRA, or a field that matters has a value it cannot have.
    """
    path = folder / CONFIG
    if path.is_symlink() or not path.is_file():
        raise AdapterFormatError(CONFIG, "is missing", fix="Save the adapter with PEFT's save_pretrained.")
    if path.stat().st_size > MAX_CONFIG:
        raise AdapterFormatError(CONFIG, "is too large", expected=f"at most {MAX_CONFIG} bytes")
    try:
        raw = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AdapterFormatError(CONFIG, "is not JSON") from error
    if not isinstance(raw, dict):
        raise AdapterFormatError(CONFIG, "is not a JSON object")
    if str(raw.get("peft_type", "LORA")).upper() != "LORA":
        raise AdapterFormatError(CONFIG, "is not LoRA", expected="peft_type LORA", found=shown(raw["peft_type"], 30))
    base = raw.get("base_model_name_or_path")
    return LoraSettings(
        base_model=base.strip()[:500] if isinstance(base, str) else "",
        alpha=_number(raw, "lora_alpha", 8.0),
        rank=int(_number(raw, "r", 8)),
        rslora=_flag(raw, "use_rslora"),
        alpha_pattern=_patterns(raw.get("alpha_pattern")),
        unroutable=_unroutable(raw),
        warnings=_warnings(raw),
        raw=raw,
    )


def _number(raw: Mapping[str, Any], field: str, default: float) -> float:
    value = raw.get(field, default)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < abs(value) < 1e9:
        raise AdapterFormatError(f"{CONFIG}, field {field}", expected="a number that is not 0", found=shown(value, 40))
    if field == "r" and value < 1:
        raise AdapterFormatError(f"{CONFIG}, field r", expected="at least 1", found=shown(value, 40))
    return float(value)


def _flag(raw: Mapping[str, Any], field: str) -> bool:
    value = raw.get(field)
    if value not in (None, True, False):
        raise AdapterFormatError(f"{CONFIG}, field {field}", expected="true or false", found=shown(value, 40))
    return bool(value)


def _patterns(value: Any) -> tuple[tuple[str, float], ...]:
    """PEFT treats each key as a regular expression; a hostile one could run for ever, so only plain ones pass."""
    if value in (None, {}):
        return ()
    where = f"{CONFIG}, field alpha_pattern"
    if not isinstance(value, dict) or len(value) > MAX_PATTERN:
        raise AdapterFormatError(where, expected="an object of module names", found=shown(type(value).__name__))
    patterns = []
    for key in value:
        cleaned = key.removeprefix("^").removesuffix("$")
        if not re.fullmatch(r"[A-Za-z0-9_.\\|()\[\]-]{1,300}", cleaned):
            raise AdapterFormatError(where, "has a pattern that is not supported", found=shown(key))
        try:
            re.compile(cleaned)
        except re.error as error:
            raise AdapterFormatError(
                where, "has a pattern that is not a regular expression", found=shown(key)
            ) from error
        patterns.append((key if key.startswith("^") else cleaned, _number(value, key, 1.0)))
    return tuple(patterns)


def _unroutable(raw: Mapping[str, Any]) -> tuple[str, ...]:
    reasons = [reason for field, reason in UNROUTABLE.items() if raw.get(field) not in (None, False, [], {}, 0)]
    if raw.get("bias") not in (None, "none", False):
        reasons.append("it trains biases of the base model")
    return tuple(reasons)


def _warnings(raw: Mapping[str, Any]) -> tuple[str, ...]:
    start = raw.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(ALTERED_BASE):
        return (f"it was initialised with {shown(start, 30)}: its update is relative to an altered base model",)
    return ()
