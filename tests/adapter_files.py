"""Adapters, safetensors files and zips for tests: valid ones, and the raw means to make hostile ones."""

from __future__ import annotations

import json
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
Q_PROJ = "model.layers.0.self_attn.q_proj"
V_PROJ = "model.layers.0.self_attn.v_proj"
SITES = {Q_PROJ: (4, 16, 16), V_PROJ: (4, 16, 8)}


def factors(
    sites: Mapping[str, tuple[int, int, int]] | None = None, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """PEFT's tensors for `sites` (site -> (rank, d_in, d_out)), random from `seed`, B included."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for site, (rank, d_in, d_out) in (SITES if sites is None else sites).items():
        a = torch.randn(rank, d_in, generator=generator) / d_in**0.5
        b = torch.randn(d_out, rank, generator=generator) / rank**0.5
        tensors[f"{PREFIX}{site}.lora_A.weight"] = a.to(dtype)
        tensors[f"{PREFIX}{site}.lora_B.weight"] = b.to(dtype)
    return tensors


def config_of(*, rank: int = 4, alpha: float = 8, base_model: str = "tiny/model", **extra: Any) -> dict[str, Any]:
    """A plain LoRA configuration as PEFT writes it, with `extra` fields over it."""
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "task_type": "CAUSAL_LM",
        **extra,
    }


def write_adapter(
    folder: Path,
    sites: Mapping[str, tuple[int, int, int]] | None = None,
    *,
    alpha: float = 8,
    seed: int = 0,
    config_extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    base_model: str = "tiny/model",
    tensors_extra: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write a PEFT adapter folder and return it.

    Args:
        folder: made with its parents.
        sites: site -> (rank, d_in, d_out); the configuration's `r` is the first site's rank.
        alpha: `lora_alpha`.
        seed: of the random A and B.
        config_extra: fields put over the plain configuration.
        dtype: of the stored tensors.
        base_model: `base_model_name_or_path`.
        tensors_extra: more tensors by their full key.
    """
    sites = SITES if sites is None else sites
    folder.mkdir(parents=True, exist_ok=True)
    rank = next(iter(sites.values()))[0] if sites else 4
    write_config(folder, config_of(rank=rank, alpha=alpha, base_model=base_model, **dict(config_extra or {})))
    tensors = {**factors(sites, seed=seed, dtype=dtype), **(tensors_extra or {})}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def write_config(folder: Path, config: Any) -> Path:
    """Write `config` (an object to be dumped, or raw text or bytes) as the folder's adapter_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CONFIG
    if isinstance(config, bytes):
        path.write_bytes(config)
    else:
        path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return path


def header_bytes(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """The bytes of a safetensors file with exactly this header (object, text or bytes); `length` may lie."""
    raw = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(shape: Any, begin: int = 0, *, dtype: str = "F32", end: int | None = None) -> dict[str, Any]:
    """A header entry for a float32 tensor that starts at byte `begin`."""
    count = 4
    for size in shape:
        count *= size
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, begin + count if end is None else end]}


def zip_folder(folder: Path, path: Path, *, top: str = "") -> Path:
    """Zip the files of `folder` into `path`, below the folder `top` inside the zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{top}/{file.relative_to(folder)}" if top else str(file.relative_to(folder)))
    return path


def write_zip(path: Path, members: Mapping[str, bytes] | list[tuple[str, bytes]], *, mode: int | None = None) -> Path:
    """A zip with exactly these names, safe or not; `mode` sets the Unix type of all of them (stat.S_IFLNK ...)."""
    items = members.items() if isinstance(members, Mapping) else members
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in items:
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name  # set late: the constructor cuts and turns separators
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = ((stat.S_IFREG | 0o644) if mode is None else mode) << 16
            archive.writestr(info, data)
    return path


def adapter_members(folder: Path, top: str = "one") -> dict[str, bytes]:
    """The files of an adapter folder as zip members below `top`."""
    return {f"{top}/{file.name}": file.read_bytes() for file in sorted(folder.iterdir())}
