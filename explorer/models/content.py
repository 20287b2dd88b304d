"""What a base model in a folder of this machine consists of, as one digest.

A name from the hub or a wheel stands for fixed content; a folder keeps its name when its files change.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from explorer.errors import BaseModelError

WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
SETTINGS = ("config.json", "generation_config.json")
TOKENIZER = ("tokenizer*", "*.model", "*.jinja", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens*")


def content_of(folder: Path) -> str:
    """SHA-256 (hex) over names and bytes of the weights, the settings and the tokenizer's files in `folder`.

    About a second for a model of 135M parameters in float32; a file of the same size and time is not read again.

    Raises:
        BaseModelError: one of them cannot be read.
    """
    patterns = (*WEIGHTS, *SETTINGS, *TOKENIZER)
    try:
        files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
        listed = [f"{_digest(path, *_stamp(path))} {path.name}" for path in files]
    except OSError as error:
        raise BaseModelError(str(folder), "has files that cannot be read", fix="Check the model's files.") from error
    return hashlib.sha256("\n".join(listed).encode(errors="surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()  # of what a link leads to: the hub's cache is made of links
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
