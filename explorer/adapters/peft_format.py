"""One PEFT adapter folder -> one Adapter, or the reason why not.

Sites come from the tensors' keys (see :mod:`explorer.adapters.factors`), never from `target_modules`, which is
written in too many ways. Everything that can be judged from the header is judged before a tensor is read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from explorer.adapters.adapter import Adapter, AdapterNotes, Status, Verdict
from explorer.adapters.factors import WEIGHTS, Factors, find_factors
from explorer.adapters.known_files import KnownFiles
from explorer.adapters.lora_config import LoraSettings, read_config
from explorer.adapters.low_rank import Form
from explorer.adapters.pickles import is_pickle, pickle_error, pickle_warnings
from explorer.adapters.safetensors_header import TensorHeader, read_header
from explorer.adapters.stamp import Stamp
from explorer.adapters.stored_updates import StoredUpdates
from explorer.adapters.weights_file import hash_of_sound
from explorer.adapters.wording import shown
from explorer.errors import AdapterFormatError

MAX_WEIGHTS = 4 << 30
Shapes = Mapping[str, tuple[int, int]]
ShapesOf = Callable[[str], Shapes | None]


def read_adapter(
    folder: Path,
    name: str,
    *,
    notes: AdapterNotes | None = None,
    shapes_of: ShapesOf | None = None,
    pickles: Sequence[str] = (),
    known: KnownFiles | None = None,
) -> Adapter | Verdict:
    """Read the adapter in `folder`; a refused one comes back as its Verdict.

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        name: what the library calls it.
        notes: task, family and so on.
        shapes_of: (d_out, d_in) of a base model's linear modules, by the base model's name.
        pickles: names of pickles that belong to this folder but were not put there.
        known: where the hashes of files that were read before are remembered.
    """
    try:
        return _read(folder, name, notes or AdapterNotes(), shapes_of, pickles, known)
    except AdapterFormatError as error:
        return Verdict(name, Status.REFUSED, error.sentence)
    except OSError as error:
        return Verdict(name, Status.REFUSED, f"It cannot be read ({error.strerror or type(error).__name__}).")


def _read(
    folder: Path,
    name: str,
    notes: AdapterNotes,
    shapes_of: ShapesOf | None,
    pickles: Sequence[str],
    known: KnownFiles | None,
) -> Adapter:
    files = sorted(file.name for file in folder.iterdir())
    pickles = [*(file for file in files if is_pickle(file)), *pickles]
    path = _weights_file(folder, files, pickles)
    settings = read_config(folder)
    began, stamp = time.time_ns(), Stamp.of(path)
    header = read_header(path)
    factors = find_factors(header)
    shapes = shapes_of(settings.base_model) if shapes_of and settings.base_model else None
    scales = settings.scales({site: pair.rank for site, pair in factors.pairs.items()})
    text = json.dumps(settings.raw, sort_keys=True).encode()
    content_hash = known.content_hash(path, stamp, text) if known else None
    if content_hash is None:
        content_hash = _hash(path, header, factors, text)
    if Stamp.of(path) != stamp:
        raise AdapterFormatError(path.name, "changed while it was read", fix="Open the library again.")
    if known:
        known.learn(path, stamp, text, content_hash, began)
    updates = StoredUpdates(path, stamp, factors.pairs, scales, identity=content_hash, name=name)
    return Adapter(
        name=name,
        path=folder,
        base_model=settings.base_model,
        updates=updates,
        verdict=_verdict(name, settings, factors, updates.forms, shapes, pickles),
        alpha=settings.alpha,
        content_hash=content_hash,
        size_bytes=stamp.size,
        notes=notes,
        config=settings.raw,
    )


def _hash(path: Path, header: Mapping[str, TensorHeader], factors: Factors, settings: bytes) -> str:
    """Of weights and configuration, the weights checked on the way."""
    numbers = (tensor for pair in factors.pairs.values() for tensor in (pair.a, pair.b))
    digest = hash_of_sound(path, header, numbers)
    digest.update(settings)
    return digest.hexdigest()


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


def _verdict(
    name: str,
    settings: LoraSettings,
    factors: Factors,
    forms: Mapping[str, Form],
    shapes: Shapes | None,
    pickles: Sequence[str],
) -> Verdict:
    warnings = (*settings.warnings, *_other_ranks(settings, forms), *pickle_warnings(pickles))
    # a field of the configuration says more than the tensors it leads to
    reasons = [*settings.unroutable, *(factors.kinds if settings.unroutable else factors.reasons)]
    reasons += _misfits(forms, shapes)
    if not reasons:
        return Verdict(name, Status.ACCEPTED, warnings=warnings)
    return Verdict(name, Status.MAP_ONLY, f"It cannot be routed: {'; '.join(dict.fromkeys(reasons))}.", warnings)


def _other_ranks(settings: LoraSettings, forms: Mapping[str, Form]) -> tuple[str, ...]:
    odd = sorted({form.rank for form in forms.values()} - settings.ranks)
    if not odd:
        return ()
    return (f"Its factors have rank {odd[0]}, which its configuration does not mention; the factors count.",)


def _misfits(forms: Mapping[str, Form], shapes: Shapes | None) -> list[str]:
    """Compare with the base model where its shapes are known; a wrong shape refuses the adapter."""
    if shapes is None:
        return []
    for site, form in forms.items():
        fits = shapes.get(site)
        if fits is not None and fits != form.shape:
            raise AdapterFormatError(
                f"module {shown(site)}", "does not fit the base model", expected=f"{fits}", found=f"{form.shape}"
            )
    absent = [site for site in forms if site not in shapes]
    return [f"the base model has no linear module {shown(absent[0])}"] if absent else []
