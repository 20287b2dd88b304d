"""A safetensors file written tensor by tensor, so that a large adapter is never held in memory.

The header stands first in such a file but is known last; room is left for it, and the format allows blanks after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from explorer.errors import SettingsError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
STORED = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
#: An entry is its name and at most so many characters.
ENTRY = 160


class TensorStream:
    """Use as a context manager; the file is complete when it is left without an error.

    Args:
        path: the file.
        names: all tensors that may come; those that do not come are simply not there.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        room = ENTRY + sum(len(json.dumps(name)) + ENTRY for name in names)
        self._room = (room + 7) // 8 * 8
        self._header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self._position = 0
        self._path = path

    def __enter__(self) -> TensorStream:
        self._file = self._path.open("wb")
        self._file.seek(8 + self._room)
        return self

    def add(self, name: str, tensor: Tensor) -> None:
        """Write one tensor, in its own dtype."""
        raw = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        place = [self._position, self._position + len(raw)]
        self._header[name] = {"dtype": STORED[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        self._position += len(raw)
        self._file.write(raw)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                header = json.dumps(self._header).encode().ljust(self._room)
                self._file.write(len(header).to_bytes(8, "little") + header)


def as_stored(tensor: Tensor, dtype: str, where: str) -> Tensor:
    """The tensor in the dtype called `dtype`.

    Raises:
        SettingsError: a number is too large for it.
    """
    stored = tensor.to(DTYPES[dtype])
    if not torch.isfinite(stored).all():
        raise SettingsError(where, f"holds numbers too large for {dtype}", fix="Choose bfloat16 or float32.")
    return stored


def checked_dtype(dtype: str) -> str:
    """The name itself.

    Raises:
        SettingsError: there is no such dtype here.
    """
    if dtype not in DTYPES:
        raise SettingsError("dtype", expected=" or ".join(DTYPES), found=repr(dtype)[:40])
    return dtype
