"""The weights file of an adapter: read once from end to end for its hash and its soundness, later tensor by tensor.

Tensors are read by their place in the file, not by mapping it into memory: a mapped file that somebody cuts short
ends the whole process.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from explorer.adapters.safetensors_header import TensorHeader
from explorer.adapters.wording import shown
from explorer.errors import AdapterFormatError

if TYPE_CHECKING:
    from hashlib import _Hash

MAX_NORM = 1e6
CHUNK = 1 << 20
TORCH_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
#: For each dtype an unsigned integer of its width, and all of its bits but the sign.
WORDS = {
    "F64": (np.uint64, (1 << 63) - 1),
    "F32": (np.uint32, (1 << 31) - 1),
    "F16": (np.uint16, (1 << 15) - 1),
    "BF16": (np.uint16, (1 << 15) - 1),
}


def read_tensor(file: BinaryIO, header: TensorHeader) -> Tensor:
    """One tensor of an open file, in the dtype it is stored in.

    Raises:
        EOFError: the file ends before the tensor does.
    """
    tensor = torch.empty(header.shape, dtype=TORCH_TYPES[header.dtype])
    file.seek(header.start)
    room = tensor.view(torch.uint8).numpy().data.cast("B")
    while len(room):
        count = file.readinto(room)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the file ends inside a tensor")
        room = room[count:]
    return tensor


def hash_of_sound(path: Path, header: Mapping[str, TensorHeader], factors: Iterable[TensorHeader]) -> _Hash:
    """SHA-256 over the whole file, once the numbers of `factors` are found to be those of a trained adapter.

    One pass serves both wherever the file holds one dtype and nothing odd; else the factors are read once more, each
    by itself.

    Raises:
        AdapterFormatError: a number is NaN, infinite or beyond all reason, or the file was cut meanwhile.
    """
    dtypes = {tensor.dtype for tensor in header.values()}
    alike = dtypes.pop() if len(dtypes) == 1 else ""
    data = min(tensor.start for tensor in header.values())
    end = max(tensor.start + tensor.nbytes for tensor in header.values())
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(data))
            peak = _hash_data(file, digest, end - data, alike if alike in WORDS else "")
            # the norm of a tensor is at most its peak times the root of its length
            longest = max(math.prod(tensor.shape) for tensor in header.values())
            if not peak * math.sqrt(longest) <= MAX_NORM:
                for tensor in factors:
                    _check_numbers(tensor.name, read_tensor(file, tensor), path.name)
    except EOFError as error:
        raise AdapterFormatError(path.name, "was cut off while it was read", fix="Copy it again.") from error
    return digest


def _hash_data(file: BinaryIO, digest: _Hash, count: int, dtype: str) -> float:
    """Hash `count` bytes; returns their largest absolute number as `dtype`, NaN where that is "" or one is NaN."""
    buffer, peak = np.empty(CHUNK, np.uint8), 0
    word, mask = WORDS[dtype] if dtype else (np.uint8, 0)
    while count:
        part = buffer[: min(count, CHUNK)]
        if file.readinto(part.data) != len(part):  # type: ignore[attr-defined]
            raise EOFError("the file ends inside a tensor")
        digest.update(part.data)
        if dtype:
            # without their sign, floats are ordered as their bits are, infinity and NaN above all others
            words = part.view(word)
            words &= word(mask)
            peak = max(peak, int(words.max()))
        count -= len(part)
    return _number(peak, dtype)


def _number(bits: int, dtype: str) -> float:
    if not dtype:
        return math.nan
    if dtype == "BF16":
        return float(np.array(bits << 16, np.uint32).view(np.float32))
    return float(np.array(bits, WORDS[dtype][0]).view({"F64": "f8", "F32": "f4", "F16": "f2"}[dtype]))


def _check_numbers(name: str, tensor: Tensor, where: str) -> None:
    # a NaN or an infinity makes the norm one, and norms beyond MAX_NORM would overflow float32 in the products that
    # similarity and routing form
    norm = float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
    if not math.isfinite(norm):
        raise AdapterFormatError(f"{where}, tensor {shown(name)}", "holds NaN or infinite values")
    if norm > MAX_NORM:
        raise AdapterFormatError(
            f"{where}, tensor {shown(name)}", "holds values too large for a trained adapter", found=f"norm {norm:.3g}"
        )
