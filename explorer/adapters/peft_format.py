"""One PEFT adapter folder -> one Adapter, or the reason why not.

Sites come from the tensors' keys (see :mod:`explorer.adapters.factors`), never from `target_modules`, which is
written in too many ways. Everything that can be judged from the header is judged before a tensor is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from explorer.adapters.adapter import Adapter, AdapterNotes, Status, Verdict
from explorer.adapters.factors import WEIGHTS, Factors, find_factors
from explorer.adapters.lora_config import LoraSettings, read_config
from explorer.adapters.low_rank import LowRank
from explorer.adapters.pickles import is_pickle, pickle_error, pickle_warnings
from explorer.adapters.safetensors_header import read_header
from explorer.adapters.wording import shown
from explorer.errors import AdapterFormatError

MAX_WEIGHTS = 4 << 30
MAX_NORM = 1e6
Shapes = Mapping[str, tuple[int, int]]
ShapesOf = Callable[[str], Shapes | None]


def read_adapter(
    folder: Path,
    name: str,
    *,
    notes: AdapterNotes | None = None,
    shapes_of: ShapesOf | None = None,
    pickles: Sequence[str] = (),
) -> Adapter | Verdict:
    """Read the adapter in `folder`; a refused one comes back as its Verdict.

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        name: what the library calls it.
        notes: task, family and so on.
        shapes_of: (d_out, d_in) of a base model's linear modules, by the base model's name.
        pickles: names of pickles that belong to this folder but were not put there.
    """
    try:
        return _read(folder, name, notes or AdapterNotes(), shapes_of, pickles)
    except AdapterFormatError as error:
        return Verdict(name, Status.REFUSED, error.sentence)
    except OSError as error:
        return Verdict(name, Status.REFUSED, f"It cannot be read ({error.strerror or type(error).__name__}).")


def _read(folder: Path, name: str, notes: AdapterNotes, shapes_of: ShapesOf | None, pickles: Sequence[str]) -> Adapter:
    files = sorted(file.name for file in folder.iterdir())
    pickles = [*(file for file in files if is_pickle(file)), *pickles]
    path = _weights_file(folder, files, pickles)
    settings = read_config(folder)
    factors = find_factors(read_header(path))
    shapes = shapes_of(settings.base_model) if shapes_of and settings.base_model else None
    raw = path.read_bytes()
    updates = _updates(factors, _tensors(raw, path.name), settings)
    digest = hashlib.sha256(raw)
    digest.update(json.dumps(settings.raw, sort_keys=True).encode())
    return Adapter(
        name=name,
        path=folder,
        base_model=settings.base_model,
        updates=updates,
        verdict=_verdict(name, settings, factors, updates, shapes, pickles),
        alpha=settings.alpha,
        content_hash=digest.hexdigest(),
        size_bytes=len(raw),
        notes=notes,
        config=settings.raw,
    )


def _weights_file(folder: Path, files: Sequence[str], pickles: Sequence[str]) -> Path:
    path = folder / WEIGHTS
    if path.is_symlink():
        raise AdapterFormatError(WEIGHTS, "is a link, not a file", fix="Copy the file itself.")
    if path.is_file():
        if path.stat().st_size > MAX_WEIGHTS:
            raise AdapterFormatError(WEIGHTS, "is too large", expected=f"at most {MAX_WEIGHTS >> 30} GB")
        return path
    if pickles:
        raise pickle_error(pickles[0])
    others = [file for file in files if file.endswith((".safetensors", ".safetensors.index.json"))]
    if any("-of-" in file or file.endswith(".index.json") for file in others):
        raise AdapterFormatError(WEIGHTS, "is split into several files", fix="Save the adapter again as this one file.")
    if others:
        raise AdapterFormatError(WEIGHTS, "is missing", found=shown(others[0]), fix=f"Rename it to {WEIGHTS}.")
    raise AdapterFormatError(WEIGHTS, "is missing", fix="Save the adapter with PEFT's save_pretrained.")


def _tensors(raw: bytes, where: str) -> dict[str, Tensor]:
    try:
        return load_tensors(raw)
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError, AssertionError) as error:
        raise AdapterFormatError(where, "is not a valid safetensors file") from error


def _updates(factors: Factors, tensors: Mapping[str, Tensor], settings: LoraSettings) -> dict[str, LowRank]:
    """The updates by site, their values checked.

    Raises:
        AdapterFormatError: a value is NaN, infinite or beyond all reason.
    """
    for pair in factors.pairs.values():
        for header in (pair.a, pair.b):
            _check_values(header.name, tensors[header.name])
    scales = settings.scales({site: pair.rank for site, pair in factors.pairs.items()})
    return {
        site: LowRank(tensors[pair.a.name], tensors[pair.b.name], scales[site]) for site, pair in factors.pairs.items()
    }


def _check_values(name: str, tensor: Tensor) -> None:
    # one pass finds all three faults: a NaN or an infinity makes the norm one, and norms beyond MAX_NORM would
    # overflow float32 in the products that similarity and routing form
    norm = float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
    if not math.isfinite(norm):
        raise AdapterFormatError(f"{WEIGHTS}, tensor {shown(name)}", "holds NaN or infinite values")
    if norm > MAX_NORM:
        raise AdapterFormatError(
            f"{WEIGHTS}, tensor {shown(name)}", "holds values too large for a trained adapter", found=f"norm {norm:.3g}"
        )


def _verdict(
    name: str,
    settings: LoraSettings,
    factors: Factors,
    updates: Mapping[str, LowRank],
    shapes: Shapes | None,
    pickles: Sequence[str],
) -> Verdict:
    warnings = (*settings.warnings, *_other_ranks(settings, updates), *pickle_warnings(pickles))
    # a field of the configuration says more than the tensors it leads to
    reasons = [*settings.unroutable, *(factors.kinds if settings.unroutable else factors.reasons)]
    reasons += _misfits(updates, shapes)
    if not reasons:
        return Verdict(name, Status.ACCEPTED, warnings=warnings)
    return Verdict(name, Status.MAP_ONLY, f"It cannot be routed: {'; '.join(dict.fromkeys(reasons))}.", warnings)


def _other_ranks(settings: LoraSettings, updates: Mapping[str, LowRank]) -> tuple[str, ...]:
    odd = sorted({update.rank for update in updates.values()} - settings.ranks)
    if not odd:
        return ()
    return (f"Its factors have rank {odd[0]}, which its configuration does not mention; the factors count.",)


def _misfits(updates: Mapping[str, LowRank], shapes: Shapes | None) -> list[str]:
    """Compare with the base model where its shapes are known; a wrong shape refuses the adapter."""
    if shapes is None:
        return []
    for site, update in updates.items():
        fits = shapes.get(site)
        if fits is not None and fits != update.shape:
            raise AdapterFormatError(
                f"module {shown(site)}", "does not fit the base model", expected=f"{fits}", found=f"{update.shape}"
            )
    absent = [site for site in updates if site not in shapes]
    return [f"the base model has no linear module {shown(absent[0])}"] if absent else []
