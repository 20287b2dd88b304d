"""One PEFT adapter folder -> one Adapter, or the reason why not.

Sites come from the tensors' keys (`base_model.model.<site>.lora_A.weight`), never from `target_modules`, which is
written in too many ways. Everything that can be judged from the header is judged before a tensor is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from explorer.adapters.adapter import Adapter, AdapterNotes, Status, Verdict
from explorer.adapters.library import natural_key
from explorer.adapters.lora_config import LoraSettings, read_config
from explorer.adapters.low_rank import LowRank
from explorer.adapters.safetensors_header import FLOATS, TensorHeader, read_header, shown
from explorer.errors import AdapterFormatError

WEIGHTS = "adapter_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".meta")
MAX_WEIGHTS = 4 << 30
FACTOR = re.compile(r"(?P<site>.+)\.lora_(?P<factor>[AB])(?:\.[^.]+)?\.weight")
PREFIX = "base_model.model."
Shapes = Mapping[str, tuple[int, int]]
ShapesOf = Callable[[str], Shapes | None]
PICKLE_FIX = "Where you trust it, load it with PEFT and save it with safe_serialization=True."


@dataclass
class Factors:
    """The pairs found in a header, and why the adapter may not be routed."""

    a: dict[str, TensorHeader] = field(default_factory=dict)
    b: dict[str, TensorHeader] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


def read_adapter(
    folder: Path, name: str, *, notes: AdapterNotes | None = None, shapes_of: ShapesOf | None = None
) -> Adapter | Verdict:
    """Read the adapter in `folder`; a refused one comes back as its Verdict."""
    try:
        return _read(folder, name, notes or AdapterNotes(), shapes_of)
    except AdapterFormatError as error:
        return Verdict(name, Status.REFUSED, error.sentence)
    except OSError as error:
        return Verdict(name, Status.REFUSED, f"It cannot be read ({error.strerror or type(error).__name__}).")


def _read(folder: Path, name: str, notes: AdapterNotes, shapes_of: ShapesOf | None) -> Adapter:
    path = _weights_file(folder)
    settings = read_config(folder)
    factors = _factors(read_header(path))
    sites = sorted(factors.a, key=natural_key)
    base_shapes = shapes_of(settings.base_model) if shapes_of and settings.base_model else None
    reasons = [*settings.unroutable, *factors.reasons, *_misfits(factors, sites, base_shapes)]
    raw = path.read_bytes()
    tensors = _tensors(raw, path.name)
    updates = {}
    for site in sites:
        a, b = tensors[factors.a[site].name], tensors[factors.b[site].name]
        updates[site] = LowRank(a, b, settings.scale_of(site, a.shape[0]))
    digest = hashlib.sha256(raw)
    digest.update(json.dumps(settings.raw, sort_keys=True, default=str).encode())
    verdict = Verdict(name, Status.ACCEPTED, warnings=settings.warnings)
    if reasons:
        verdict = Verdict(name, Status.MAP_ONLY, f"It cannot be routed: {'; '.join(reasons)}.", settings.warnings)
    return Adapter(
        name=name,
        path=folder,
        base_model=settings.base_model,
        updates=updates,
        verdict=verdict,
        alpha=settings.alpha,
        content_hash=digest.hexdigest(),
        size_bytes=len(raw),
        notes=notes,
        config=settings.raw,
    )


def _weights_file(folder: Path) -> Path:
    path = folder / WEIGHTS
    if path.is_file() or path.is_symlink():
        if path.stat().st_size > MAX_WEIGHTS:
            raise AdapterFormatError(WEIGHTS, "is too large", expected=f"at most {MAX_WEIGHTS >> 30} GB")
        return path
    files = sorted(file.name for file in folder.iterdir())
    pickles = [file for file in files if file.lower().endswith(PICKLES)]
    if pickles:
        raise AdapterFormatError(
            shown(pickles[0]), "is a pickle, which can run code when it is opened, and is never read", fix=PICKLE_FIX
        )
    if any(file.endswith(".safetensors") for file in files):
        raise AdapterFormatError(WEIGHTS, "is missing", fix="Sharded or renamed weights: save them as this one file.")
    raise AdapterFormatError(WEIGHTS, "is missing", fix="Save the adapter with PEFT's save_pretrained.")


def _factors(header: Mapping[str, TensorHeader]) -> Factors:
    """Sort the tensors into A and B by site, and check that they belong together."""
    found = Factors()
    for name, tensor in header.items():
        match = FACTOR.fullmatch(name)
        if match is None:
            _add_reason(found, _reason_for(name))
        elif len(tensor.shape) == 4:
            _add_reason(found, "it adapts convolutions")
        else:
            site = match["site"].removeprefix(PREFIX)
            place = f"{WEIGHTS}, tensor {shown(name)}"
            if tensor.dtype not in FLOATS:
                raise AdapterFormatError(place, expected="a floating-point dtype", found=tensor.dtype)
            if len(tensor.shape) != 2 or 0 in tensor.shape:
                raise AdapterFormatError(place, expected="a matrix", found=f"shape {tensor.shape}")
            side = found.a if match["factor"] == "A" else found.b
            if site in side:
                raise AdapterFormatError(place, "stands there twice for one module")
            side[site] = tensor
    for site in sorted(found.a.keys() ^ found.b.keys()):
        raise AdapterFormatError(f"{WEIGHTS}, module {shown(site)}", "has one of lora_A and lora_B without the other")
    if not found.a:
        raise AdapterFormatError(WEIGHTS, "holds no lora_A and lora_B of a linear module")
    for site, a in found.a.items():
        b = found.b[site]
        if a.shape[0] != b.shape[1]:
            raise AdapterFormatError(
                f"{WEIGHTS}, module {shown(site)}",
                "has factors of different rank",
                found=f"lora_A {a.shape} and lora_B {b.shape}",
            )
    return found


def _reason_for(name: str) -> str:
    if "lora_embedding_" in name:
        return "it adapts an embedding"
    if "lora_magnitude_vector" in name:
        return "it uses DoRA, whose magnitude is not a low-rank update"
    if ".lora_" in name:
        return f"it holds a LoRA tensor of an unknown kind ({shown(name, 60)})"
    return f"it replaces a tensor of the base model ({shown(name, 60)})"


def _add_reason(found: Factors, reason: str) -> None:
    kind = reason.split(" (")[0]
    if not any(known.startswith(kind) for known in found.reasons):
        found.reasons.append(reason)


def _misfits(factors: Factors, sites: list[str], base_shapes: Shapes | None) -> list[str]:
    """Compare with the base model where its shapes are known; a wrong shape refuses the adapter."""
    if base_shapes is None:
        return []
    absent = [site for site in sites if site not in base_shapes]
    for site in sites:
        fits = base_shapes.get(site)
        found = (factors.b[site].shape[0], factors.a[site].shape[1])
        if fits is not None and fits != found:
            raise AdapterFormatError(
                f"module {shown(site)}", "does not fit the base model", expected=f"{fits}", found=f"{found}"
            )
    if absent:
        return [f"the base model has no linear module {shown(absent[0])}"]
    return []


def _tensors(raw: bytes, where: str) -> dict[str, Tensor]:
    try:
        tensors = load_tensors(raw)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise AdapterFormatError(where, "is not a valid safetensors file") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise AdapterFormatError(f"{where}, tensor {shown(name)}", "holds NaN or infinite values")
    return tensors
