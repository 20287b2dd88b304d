"""A prompt that was really run: its routing trace and the answers of several routers, kept as two small files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from explorer.routing.trace import RoutingTrace

FORMAT = 1
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
    trace = record.trace
    data = {
        "format": FORMAT,
        "prompt": record.prompt,
        "chat": record.chat,
        "library_hash": record.library_hash,
        "base_model": record.base_model,
        "answers": [asdict(answer) for answer in record.answers],
        "trace": {
            "sites": trace.sites,
            "tokens": trace.tokens,
            "token_ids": trace.token_ids,
            "names": trace.names,
            "prompt_length": trace.prompt_length,
            "typed": trace.typed,
            "router": trace.router,
        },
    }
    (folder / TEXT).write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
    np.savez_compressed(
        folder / NUMBERS, weights=trace.weights.astype(np.float16), scores=trace.scores.astype(np.float16)
    )


def read_prompt_record(folder: Path) -> PromptRecord:
    """Read what `write_prompt_record` wrote (ValueError where the files do not fit together)."""
    try:
        data = json.loads((folder / TEXT).read_text(encoding="utf-8"))
        with np.load(folder / NUMBERS, allow_pickle=False) as arrays:
            weights, scores = arrays["weights"].astype(np.float32), arrays["scores"].astype(np.float32)
        named = data["trace"]
        lists = {key: tuple(named[key]) for key in ("sites", "tokens", "token_ids", "names", "typed")}
        trace = RoutingTrace(
            **lists,
            weights=weights,
            scores=scores,
            prompt_length=named["prompt_length"],
            router=named["router"],
        )
        shape = (len(trace.sites), len(trace.tokens), len(trace.names))
        if data["format"] != FORMAT or weights.shape != shape or scores.shape != shape:
            raise ValueError("a prompt record whose parts do not fit together")
        answers = tuple(Answer(**answer) for answer in data["answers"])
        return PromptRecord(data["prompt"], data["chat"], trace, answers, data["library_hash"], data["base_model"])
    except (KeyError, TypeError) as error:
        raise ValueError("not a prompt record") from error
