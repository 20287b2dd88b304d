"""Results kept between runs in the user's cache folder, each under a hash of everything it was computed from.

A file holds named arrays of numbers (safetensors, nothing that could run), behind a SHA-256 over its own key and
content: one that was cut, damaged, renamed or written by something else counts as absent, and is replaced. Nothing
here ever fails aloud: a cache that cannot be read or written only costs the time that it would have saved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from explorer.settings import cache_folder

Arrays = Mapping[str, NDArray[Any]]
Result = TypeVar("Result")
ENDING = ".result"
#: Bounds on all results together, in bytes and in files, and on a single one in bytes.
MOST_BYTES, MOST_FILES, LARGEST = 1 << 30, 4_096, 256 << 20
DIGEST = hashlib.sha256().digest_size
#: A file half written for so many seconds belongs to a process that was killed.
ABANDONED = 3_600


def results_folder() -> Path:
    """Where results lie. It may not exist yet."""
    return cache_folder() / "results"


def key_of(kind: str, *parts: str | bytes) -> str:
    """A name for the result of `kind` that depends on `parts`, fit for a file."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return f"{kind}-{digest.hexdigest()[:40]}"


def kept(
    key: str | None,
    compute: Callable[[], Result],
    to_arrays: Callable[[Result], Arrays],
    from_arrays: Callable[[Arrays], Result],
) -> Result:
    """The result under `key`, computed and stored where there is none.

    Args:
        key: of :func:`key_of`; None for a result that must not be kept.
        compute: makes it anew.
        to_arrays: what is stored of it.
        from_arrays: the way back; it raises (KeyError, TypeError, ValueError) where the arrays are not such a result.
    """
    if key is None:
        return compute()
    stored = recall(key)
    if stored is not None:
        with contextlib.suppress(KeyError, TypeError, ValueError, ArithmeticError, RecursionError):
            return from_arrays(stored)
    result = compute()
    keep(key, to_arrays(result))
    return result


def recall(key: str) -> Arrays | None:
    """The arrays under `key`, None where there are none that can be trusted."""
    from safetensors import SafetensorError  # noqa: PLC0415 - this module is imported where nothing heavy may be
    from safetensors.numpy import load  # noqa: PLC0415

    path = results_folder() / f"{key}{ENDING}"
    try:
        if not DIGEST < path.stat().st_size <= LARGEST:
            return None
        raw = path.read_bytes()
        content = raw[DIGEST:]
        if raw[:DIGEST] != _digest(key, content):
            return None
        arrays = load(content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # what was used last is removed last
    return arrays


def keep(key: str, arrays: Arrays) -> None:
    """Store arrays under `key`, whole or not at all, and remove the results used longest ago where space is short."""
    from safetensors.numpy import save  # noqa: PLC0415

    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    if DIGEST + len(content) > LARGEST:
        return
    folder = results_folder()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{key}{ENDING}", _digest(key, content) + content)
        _tidy(folder)


def to_numbers(value: Any) -> NDArray[np.uint8]:
    """Plain data (lists, texts, numbers) as an array, by way of JSON; floats come back exactly."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def from_numbers(array: NDArray[Any]) -> Any:
    """The data that `to_numbers` was given; TypeError or ValueError where the array holds none, or a NaN."""
    return json.loads(array.astype(np.uint8, casting="no").tobytes(), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a result")


def _digest(key: str, content: bytes) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(content)
    return digest.digest()


def _write(path: Path, raw: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _tidy(folder: Path) -> None:
    """Keep within the bounds; two processes that tidy at once only remove the same files."""
    found, now = [], time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if entry.name.endswith(ENDING):
                found.append((status.st_mtime_ns, status.st_size, entry.path))
            elif entry.name.startswith(".") and now - status.st_mtime > ABANDONED:
                Path(entry.path).unlink(missing_ok=True)
    found.sort(reverse=True)
    total = 0
    for count, (_, size, path) in enumerate(found, start=1):
        total += size
        if total > MOST_BYTES or count > MOST_FILES:
            Path(path).unlink(missing_ok=True)
