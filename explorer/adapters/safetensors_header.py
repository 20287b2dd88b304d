"""The header of a safetensors file, read and checked before any tensor is touched.

Layout: 8 bytes little-endian length N, N bytes of JSON {name: {dtype, shape, data_offsets}}, then the data. The
`safetensors` library checks much of this too; it is done here so that each fault gets a sentence of its own, and so
that the shapes can be compared with each other and with the base model before anything is read.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.adapters.wording import shown
from explorer.errors import AdapterFormatError

MAX_HEADER = 16 << 20
MAX_TENSORS = 100_000
MAX_DIMENSION = 1 << 31
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Name, dtype and shape of one stored tensor, and its first byte, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        """Its length in the file."""
        return math.prod(self.shape) * BYTES[self.dtype]


def read_header(path: Path) -> Mapping[str, TensorHeader]:
    """Read and check the header of `path`.

    Raises:
        AdapterFormatError: the file is not a safetensors file, or its header contradicts itself or the file's size.
    """
    where = path.name
    if path.is_symlink() or not path.is_file():  # a pipe would keep a reader waiting for ever
        raise AdapterFormatError(where, "is not a plain file")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length < 2 or length > size - 8:
            raise AdapterFormatError(where, "is not a safetensors file, or was cut off", fix="Copy the file again.")
        if length > MAX_HEADER:
            raise AdapterFormatError(where, "has too large a header", expected=f"at most {MAX_HEADER} bytes")
        raw = file.read(length)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except AdapterFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise AdapterFormatError(where, "has a header that is not JSON", fix="Copy the file again.") from error
    if not isinstance(header, dict):
        raise AdapterFormatError(where, "has a header that is not a JSON object")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise AdapterFormatError(
            where, "has too many tensors", expected=f"at most {MAX_TENSORS}", found=str(len(header))
        )
    tensors, spans = {}, []
    for name, entry in header.items():
        tensor = _entry(where, name, entry, 8 + length)
        tensors[name] = tensor
        spans.append((tensor.start, tensor.start + tensor.nbytes, name))
    _check_spans(where, spans, 8 + length, size)
    return tensors


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise AdapterFormatError("safetensors header", "names a tensor twice", fix="Save the adapter again.")
    return result


def _entry(where: str, name: str, entry: Any, data: int) -> TensorHeader:
    place = f"{where}, tensor {shown(name)}"
    if not isinstance(entry, dict):
        raise AdapterFormatError(place, "has no proper entry in the header")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise AdapterFormatError(place, "has a dtype that is not supported", found=shown(dtype))
    if not isinstance(shape, list) or len(shape) > 8 or not all(_is_count(value) for value in shape):
        raise AdapterFormatError(place, "has a shape that is not a list of sizes", found=shown(shape))
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(value, 1 << 62) for value in offsets):
        raise AdapterFormatError(place, "has data offsets that are not two positions")
    begin, end = offsets
    if end - begin != math.prod(shape) * BYTES[dtype]:
        raise AdapterFormatError(place, "has a size that does not fit its shape", found=f"{end - begin} bytes")
    return TensorHeader(name, sys.intern(dtype), tuple(shape), data + begin)


def _is_count(value: Any, limit: int = MAX_DIMENSION) -> bool:
    return type(value) is int and 0 <= value < limit


def _check_spans(where: str, spans: list[tuple[int, int, str]], position: int, size: int) -> None:
    """Check that the tensors fill the file from `position` to its end, each byte belonging to one of them."""
    for begin, end, name in sorted(spans):
        if begin != position or end > size:
            raise AdapterFormatError(f"{where}, tensor {shown(name)}", "lies outside the file or over another tensor")
        position = end
    if position != size:
        raise AdapterFormatError(where, "has bytes that belong to no tensor, or was cut off", fix="Copy it again.")
