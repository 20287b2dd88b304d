"""From the tensor names of a PEFT file to pairs of A and B by site.

Keys read `base_model.model.<site>.lora_A.weight` (r, d_in) and `.lora_B.weight` (d_out, r), the same for GPT-2's
Conv1D; some tools leave the prefix away, or keep the adapter's name (`.lora_A.default.weight`). Everything else in the
file is a reason why the pairs are not the whole adapter.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from explorer.adapters.natural_order import natural_key
from explorer.adapters.safetensors_header import FLOATS, TensorHeader
from explorer.adapters.wording import shown
from explorer.errors import AdapterFormatError

WEIGHTS = "adapter_model.safetensors"
FACTOR = re.compile(r"(?P<site>.+)\.lora_(?P<factor>[AB])(?:\.[^.]+)?\.weight")
PREFIX = "base_model.model."
MAX_SITE = 300
MAX_RANK = 4096
# part of a tensor's name -> what the adapter does that A and B do not say
KINDS = {
    "lora_embedding_": "it adapts an embedding",
    "lora_magnitude_vector": "it uses DoRA, whose magnitude is not a low-rank update",
    ".lora_B.bias": "it trains a bias beside B",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """The headers of one site's A (rank, d_in) and B (d_out, rank)."""

    a: TensorHeader
    b: TensorHeader

    @property
    def rank(self) -> int:
        """The rank that A and B agree on."""
        return self.a.shape[0]


@dataclass(frozen=True)
class Factors:
    """What a file holds.

    Attributes:
        pairs: site -> A and B, in natural order of the sites.
        kinds: reasons why routing the pairs would not reproduce the adapter, from tensors of a known kind.
        reasons: those, and the first tensor of no known kind.
    """

    pairs: Mapping[str, Pair]
    kinds: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def find_factors(header: Mapping[str, TensorHeader]) -> Factors:
    """Sort the tensors of a file into pairs, and check that A and B belong together.

    Raises:
        AdapterFormatError: a factor is missing, doubled or of a wrong shape or dtype, or there is no pair.
    """
    sides: dict[str, dict[str, TensorHeader]] = {"A": {}, "B": {}}
    kinds: dict[str, None] = {}
    unknown: list[str] = []
    for name, tensor in header.items():
        match = FACTOR.fullmatch(name)
        if match is None:
            kind = next((reason for part, reason in KINDS.items() if part in name), None)
            if kind is None:
                unknown.append(name)
            else:
                kinds[kind] = None
        elif len(tensor.shape) > 2:
            kinds["it adapts convolutions"] = None
        else:
            site = _site(name, match["site"])
            if site in sides[match["factor"]]:
                raise AdapterFormatError(f"{WEIGHTS}, tensor {shown(name)}", "stands there twice for one module")
            sides[match["factor"]][site] = _checked(tensor)
    reasons = (*kinds, *(_unknown_reason(name) for name in unknown[:1]))
    return Factors(_pairs(sides["A"], sides["B"], reasons), tuple(kinds), reasons)


def _site(name: str, site: str) -> str:
    site = site.removeprefix(PREFIX)
    if len(site) > MAX_SITE or not site.isprintable() or not all(site.split(".")):
        raise AdapterFormatError(f"{WEIGHTS}, tensor {shown(name)}", "does not name a module")
    return sys.intern(site)  # most adapters of a library have the same sites


def _checked(tensor: TensorHeader) -> TensorHeader:
    place = f"{WEIGHTS}, tensor {shown(tensor.name)}"
    if tensor.dtype not in FLOATS:
        raise AdapterFormatError(place, expected="a floating-point dtype", found=tensor.dtype)
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        raise AdapterFormatError(place, expected="a matrix", found=f"shape {tensor.shape}")
    return tensor


def _pairs(
    a_side: Mapping[str, TensorHeader], b_side: Mapping[str, TensorHeader], reasons: tuple[str, ...]
) -> dict[str, Pair]:
    for site in sorted(a_side.keys() ^ b_side.keys(), key=natural_key):
        raise AdapterFormatError(f"{WEIGHTS}, module {shown(site)}", "has one of lora_A and lora_B without the other")
    if not a_side:
        why = f" ({'; '.join(reasons)})" if reasons else ""
        raise AdapterFormatError(WEIGHTS, f"holds no lora_A and lora_B of a linear module{why}")
    pairs = {site: Pair(a_side[site], b_side[site]) for site in sorted(a_side, key=natural_key)}
    for site, pair in pairs.items():
        if pair.a.shape[0] != pair.b.shape[1]:
            raise AdapterFormatError(
                f"{WEIGHTS}, module {shown(site)}",
                "has factors of different rank",
                found=f"lora_A {pair.a.shape} and lora_B {pair.b.shape}",
            )
        if pair.rank > MAX_RANK:
            raise AdapterFormatError(
                f"{WEIGHTS}, module {shown(site)}", expected=f"a rank up to {MAX_RANK}", found=f"{pair.rank}"
            )
    return pairs


def _unknown_reason(name: str) -> str:
    if ".lora_" in name:
        return f"it holds a LoRA tensor of an unknown kind ({shown(name, 60)})"
    return f"it replaces a tensor of the base model ({shown(name, 60)})"
