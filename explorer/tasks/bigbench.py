"""BIG-bench's `task.json`: what is in such a file, and the prompt that one of its examples makes.

The format is that of BIG-bench (Srivastava et al., 2022, arXiv 2206.04615): a prefix for the whole task, one before
each input and one before each output, and examples with an `input` and either a `target` (one or several reference
answers) or `target_scores` (choices with a score each). What is missing counts as empty here: no "Q:" is made up.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import TaskDataError
from explorer.tasks.reading import read_bytes
from explorer.tasks.text import half_character

KEYS = {"task_prefix", "example_input_prefix", "example_output_prefix", "choice_prefix", "canary", "examples"}
KEYS |= {"input", "target", "target_scores"}
MOST_BYTES = 1 << 28
CHOICE_PREFIX = "\n  choice: "  # BIG-bench's own, where a task names none


@dataclass(frozen=True)
class BigBenchExample:
    """One example: its row in the file (from 0), the input, every reference or the best choice first, the choices.

    `answers` is empty where the file gives none that is text.
    """

    row: int
    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...]


@dataclass(frozen=True)
class BigBenchTask:
    """A whole file; `canary` is the line by which BIG-bench marks its data."""

    prefix: str
    input_prefix: str
    output_prefix: str
    choice_prefix: str
    canary: str
    examples: tuple[BigBenchExample, ...]


@dataclass(frozen=True)
class Wording:
    """How a prompt is made of an example.

    Args:
        instruction: what comes first; None for the task's own prefix.
        after: of the own prefix only what follows the last of this ("Prompt:" in natural-instructions), if it is there.
        own_prefixes: whether the task's own prefixes stand before the input and the output.
        choices: whether the choices are listed after the input.
    """

    instruction: str | None = None
    after: str = ""
    own_prefixes: bool = True
    choices: bool = False


def prompt_of(task: BigBenchTask, example: BigBenchExample, wording: Wording) -> str:
    """The instruction on its own line, then the input between the task's prefixes."""
    return framed(task, example.text, wording, example.choices if wording.choices else ())


def framed(task: BigBenchTask, text: str, wording: Wording, choices: tuple[str, ...] = ()) -> str:
    """As :func:`prompt_of`, for an input that was cut."""
    before, behind = (task.input_prefix, task.output_prefix) if wording.own_prefixes else ("", "")
    listed = "".join(task.choice_prefix + choice for choice in choices)
    body = (before + text + listed + behind).strip()
    instruction = _instruction(task, wording)
    return f"{instruction}\n{body}" if instruction else body


def _instruction(task: BigBenchTask, wording: Wording) -> str:
    if wording.instruction is not None:
        return wording.instruction.strip()
    return (task.prefix.split(wording.after)[-1] if wording.after else task.prefix).strip()


def read_task_json(path: Path) -> BigBenchTask:
    """Read a `task.json`.

    Raises:
        TaskDataError: it cannot be read, or is not of BIG-bench's format; the example is named, from 1.
    """
    data = _object(path)
    examples = data.get("examples")
    if not isinstance(examples, list) or not examples:
        fix = "Only tasks of the JSON kind can be converted."
        raise TaskDataError(path.name, "has no list 'examples', as BIG-bench's task.json does", fix=fix)
    return BigBenchTask(
        prefix=_text(path.name, data, "task_prefix"),
        input_prefix=_text(path.name, data, "example_input_prefix"),
        output_prefix=_text(path.name, data, "example_output_prefix"),
        choice_prefix=_text(path.name, data, "choice_prefix", CHOICE_PREFIX),
        canary=_text(path.name, data, "canary"),
        examples=tuple(_example(path.name, row, item) for row, item in enumerate(examples)),
    )


def _object(path: Path) -> dict[str, Any]:
    raw = read_bytes(path, MOST_BYTES)
    try:
        data = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unrepeated)
    except _Repeated as error:
        raise TaskDataError(
            path.name, f"has the key {error.args[0][:40]!r} twice in one object", fix="Keep one."
        ) from error
    except (ValueError, RecursionError) as error:
        raise TaskDataError(path.name, "is not JSON in UTF-8", fix="Name a task.json of BIG-bench.") from error
    if not isinstance(data, dict):
        raise TaskDataError(path.name, expected="a JSON object", found=type(data).__name__)
    return data


class _Repeated(Exception):
    """A key stands twice in one object."""


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of whose keys none that is read stands there twice; BIG-bench's own timedial repeats one that is not.

    Without any key of the format's own it is the scores of some choices: all are read.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        read = KEYS & found.keys() or found.keys()
        twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1 and key in read]
        if twice:
            raise _Repeated(twice[0])
    return found


def _example(file: str, row: int, item: object) -> BigBenchExample:
    where = f"{file}, example {row + 1}"
    if not isinstance(item, dict):
        raise TaskDataError(where, expected="a JSON object", found=type(item).__name__)
    scores = _scores(where, item.get("target_scores"))
    return BigBenchExample(row, _text(where, item, "input"), _answers(where, item, scores), tuple(scores))


def _answers(where: str, item: Mapping[str, Any], scores: Mapping[str, float]) -> tuple[str, ...]:
    """The references as they stand, repeated ones included; without any, the choice that scores best."""
    target = item.get("target")
    given = [] if target is None else [target] if isinstance(target, str) else target
    if not isinstance(given, list) or not all(isinstance(answer, str) for answer in given):
        raise TaskDataError(where, "field 'target' must be a text or a list of texts")
    if not given and scores:
        given = [max(scores, key=lambda choice: scores[choice])]
    return tuple(_whole(where, "target", answer).strip() for answer in given if answer.strip())


def _scores(where: str, given: object) -> dict[str, float]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(_finite(score) for score in given.values()):
        raise TaskDataError(where, "field 'target_scores' must give each choice a finite number")
    return {_whole(where, "target_scores", choice): score for choice, score in given.items()}


def _finite(score: object) -> bool:
    """Compared, not asked for by isfinite: that cannot take a whole number of 400 digits."""
    return isinstance(score, int | float) and -math.inf < score < math.inf


def _text(where: str, item: Mapping[str, Any], field: str, default: str = "") -> str:
    text = item.get(field, default)
    if not isinstance(text, str):
        raise TaskDataError(where, f"field {field!r} must be text")
    return _whole(where, field, text)


def _whole(where: str, field: str, text: str) -> str:
    if half_character(text):
        raise TaskDataError(where, f"field {field!r} holds half a character (a lone surrogate)")
    return text
