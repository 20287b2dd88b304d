"""What was learned as a folder: `learned.json` for what it is, `learned.safetensors` for the numbers.

Such a folder may come from anybody: nothing in it is run or unpickled, and whatever is not as expected ends in one
sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from explorer.adapters.library import Library
from explorer.adapters.safetensors_header import read_header
from explorer.adapters.wording import clean_line, shown
from explorer.errors import AdapterFormatError, LearningError
from explorer.exporting.whole_folder import whole_folder
from explorer.learning.centroids import LearnedCentroids
from explorer.learning.gates import LearnedGates
from explorer.learning.layer_mixture import LearnedMixture
from explorer.learning.learned import Facts, Learned, check_library
from explorer.learning.lorahub import LoraHub
from explorer.learning.task_predictor import TaskPredictor
from explorer.training.whole_files import sha256_of

FORMAT = 1
FACTS, NUMBERS = "learned.json", "learned.safetensors"
MAX_FACTS, MAX_NUMBERS = 8 << 20, 8 << 30
MAX_LINE = 300
KINDS: dict[str, type[Learned]] = {
    kind.key: kind for kind in (LearnedCentroids, TaskPredictor, LearnedGates, LoraHub, LearnedMixture)
}


def save_learned(learned: Learned, folder: Path) -> Path:
    """Write what was learned; the folder appears whole or not at all, and must not be there yet (or be empty).

    Raises:
        SettingsError: the folder is taken or cannot be written.
    """
    tensors = {name: value.float().contiguous().clone() for name, value in learned.tensors().items()}
    with whole_folder(folder, sum(value.nbytes for value in tensors.values())) as scratch:
        (scratch / NUMBERS).write_bytes(save(tensors))  # save_file would make it a private file
        facts = {
            "format": FORMAT,
            "router": learned.key,
            **asdict(learned.facts),
            "sha256": sha256_of(scratch / NUMBERS),
        }
        (scratch / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return folder


def load_learned(folder: str | Path, library: Library) -> Learned:
    """Read what :func:`save_learned` wrote, for the library that it was learned on (in any order).

    Raises:
        LearningError: there is no such folder, it is damaged, or it was learned on adapters of other content.
    """
    place = Path(folder)
    data = _facts_file(place)
    try:
        kind, facts, digest = KINDS[data["router"]], _facts(data), _text(data["sha256"])
        if data["format"] != FORMAT:
            raise ValueError(data["format"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(place / FACTS, "is not what `learn` writes") from error
    check_library(shown(place.name), facts, library)
    if not facts.names or sorted([*facts.names, *facts.left_out]) != sorted(one.name for one in library.routable):
        raise _damaged(place / FACTS, "does not name each of the library's adapters once")
    try:
        return kind.of_tensors(facts, _numbers(place / NUMBERS, digest), library)
    except ValueError as error:
        raise _damaged(place / NUMBERS, str(error)) from error


def _facts_file(place: Path) -> dict[str, Any]:
    path = place / FACTS
    try:
        usable = not path.is_symlink() and path.is_file() and path.stat().st_size <= MAX_FACTS
        if not usable:
            raise LearningError(shown(place), f"holds no {FACTS}", fix="Name a folder that `learn` wrote.")
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, "cannot be read as JSON") from error
    if not isinstance(data, dict):
        raise _damaged(path, "is not a JSON object")
    return data


def _facts(data: Mapping[str, Any]) -> Facts:
    return Facts(
        names=tuple(_typed(name, str) for name in _typed(data["names"], list)),
        left_out=tuple(_typed(name, str) for name in _typed(data["left_out"], list)),
        library_hash=_text(data["library_hash"]),
        base_model=_text(data["base_model"]),
        target=_text(data["target"]),
        data_hashes={_text(task): _text(found) for task, found in _typed(data["data_hashes"], dict).items()},
        settings={_text(name): _plain(value) for name, value in _typed(data["settings"], dict).items()},
        results={_text(name): _number(value) for name, value in _typed(data["results"], dict).items()},
        versions={_text(name): _text(found) for name, found in _typed(data["versions"], dict).items()},
        base_hash=_text(data.get("base_hash", "")),
    )


def _numbers(path: Path, digest: str) -> dict[str, Tensor]:
    """Every tensor, float32 and finite.

    Raises:
        LearningError: the file is damaged, or is not the one that was written with its facts.
        ValueError: a tensor is not of this kind.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_NUMBERS:
            raise _damaged(path, "is missing or too large")
        header = read_header(path)
        if sha256_of(path) != digest:
            raise _damaged(path, f"is not the file that {FACTS} was written for")
    except AdapterFormatError as error:
        raise _damaged(path, error.problem or "is not a safetensors file") from error
    except OSError as error:
        raise _damaged(path, "cannot be read") from error
    for name, entry in header.items():
        if entry.dtype != "F32":
            raise ValueError(f"has an array {shown(name)!r} of dtype {entry.dtype}, not F32")
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"has an array {shown(name)!r} with values that are not finite")
    return tensors


def _damaged(path: Path, problem: str) -> LearningError:
    return LearningError(
        shown(f"{path.parent.name}/{path.name}"), shown(problem, 200), fix="Make it anew with `learn`."
    )


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(value)
    return value


def _text(value: Any) -> str:
    return clean_line(_typed(value, str), MAX_LINE)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(value)
    return float(value)


def _plain(value: Any) -> Any:
    """A setting: text, a number, or true or false."""
    if isinstance(value, str):
        return _text(value)
    return value if isinstance(value, bool) else int(value) if isinstance(value, int) else _number(value)
