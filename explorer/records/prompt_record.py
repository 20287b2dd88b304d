"""A prompt that was really run: its routing trace and the answers of several routers, kept as two small files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from explorer.routing.trace import Array, RoutingTrace

FORMAT = 1
LISTS = ("sites", "tokens", "token_ids", "names", "typed")
TEXT, NUMBERS = "prompt.json", "prompt.npz"


@dataclass(frozen=True)
class Answer:
    """What one router's model said, with the time it took in that run."""

    router: str
    text: str
    tokens: int
    seconds: float


@dataclass(frozen=True, eq=False)
class PromptRecord:
    """One prompt on one library."""

    prompt: str
    chat: bool
    trace: RoutingTrace
    answers: tuple[Answer, ...]
    library_hash: str
    base_model: str


def write_prompt_record(record: PromptRecord, folder: Path) -> None:
    """Write `prompt.json` and `prompt.npz` (float16: three digits are more than a reader can see)."""
    data = {
        "format": FORMAT,
        "prompt": record.prompt,
        "chat": record.chat,
        "library_hash": record.library_hash,
        "base_model": record.base_model,
        "answers": [asdict(answer) for answer in record.answers],
        "trace": {key: getattr(record.trace, key) for key in (*LISTS, "prompt_length", "router")},
    }
    entries = (f"{_line(key)}: {_line(value)}" for key, value in data.items())
    (folder / TEXT).write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")
    np.savez_compressed(folder / NUMBERS, weights=_small(record.trace.weights), scores=_small(record.trace.scores))


def read_prompt_record(folder: Path) -> PromptRecord:
    """Read what `write_prompt_record` wrote.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: the files are not such a record, or do not fit together.
    """
    try:
        data = json.loads((folder / TEXT).read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ValueError("a prompt record of another format")
        with (folder / NUMBERS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            trace = _trace(data["trace"], arrays["weights"].astype(np.float32), arrays["scores"].astype(np.float32))
        answers = tuple(Answer(**answer) for answer in data["answers"])
        return PromptRecord(data["prompt"], data["chat"], trace, answers, data["library_hash"], data["base_model"])
    except (KeyError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise ValueError("not a prompt record") from error


def _trace(named: dict[str, Any], weights: Array, scores: Array) -> RoutingTrace:
    lists = {key: tuple(named[key]) for key in LISTS}
    count = len(lists["tokens"])
    shape = (len(lists["sites"]), count, len(lists["names"]))
    lengths = {len(lists["token_ids"]), len(lists["typed"])}
    if weights.shape != shape or scores.shape != shape or lengths != {count}:
        raise ValueError("a prompt record whose parts do not fit together")
    if not 0 <= named["prompt_length"] <= count or not np.isfinite(weights).all():
        raise ValueError("a prompt record with impossible numbers")
    return RoutingTrace(
        **lists, weights=weights, scores=scores, prompt_length=named["prompt_length"], router=named["router"]
    )


def _small(values: Array) -> NDArray[np.float16]:
    """As float16; scores beyond its range stop at its end (NaN stays)."""
    largest = float(np.finfo(np.float16).max)
    return np.clip(values, -largest, largest).astype(np.float16)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
