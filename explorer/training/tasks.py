"""Task files: one JSON object a line with `task`, `family`, `prompt`, `target` and optionally `split`.

A folder of such files is what `train` (and later evaluation) reads. Rows are grouped by their `task`; rows whose
`split` is "test" or "validation" never train anything.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from explorer.errors import TaskDataError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Example:
    """One prompt and its reference answer."""

    prompt: str
    target: str


@dataclass(frozen=True)
class Task:
    """All examples of one task, by split, in file order."""

    name: str
    family: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def data_hash(self) -> str:
        """SHA-256 over name and every example, so that a card can say what an adapter was trained on."""
        payload = json.dumps(
            [self.name, [[e.prompt, e.target] for e in self.train], [[e.prompt, e.target] for e in self.test]]
        )
        return hashlib.sha256(payload.encode()).hexdigest()


def read_tasks(folder: Path, names: tuple[str, ...] = ()) -> tuple[Task, ...]:
    """Read every `*.jsonl` below `folder`; keep the tasks called `names`, in that order (all, sorted, if empty).

    Raises:
        TaskDataError: no such folder, no files, a row that is not usable (file and line are named), or an unknown name.
    """
    if not folder.is_dir():
        raise TaskDataError(str(folder), "is not a folder", fix="Name a folder of .jsonl task files.")
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise TaskDataError(str(folder), "holds no .jsonl file", fix="Each task is a file of JSON lines.")
    rows: dict[str, dict[str, list[Example]]] = defaultdict(lambda: {split: [] for split in SPLITS})
    families: dict[str, str] = {}
    for path in files:
        for task, family, split, example in _rows(path):
            rows[task][split].append(example)
            if families.setdefault(task, family) != family:
                raise TaskDataError(
                    f"{path.name} ({task})", "has two families", found=f"{families[task]!r} and {family!r}"
                )
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise TaskDataError(str(folder), f"has no task {unknown[0]!r}", fix=f"It has: {', '.join(sorted(rows))}.")
    return tuple(
        Task(name, families[name], tuple(rows[name]["train"]), tuple(rows[name]["test"]))
        for name in (names or sorted(rows))
    )


def _rows(path: Path) -> Iterator[tuple[str, str, str, Example]]:
    """Yield (task, family, split, example) for each line that is not blank."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskDataError(path.name, f"cannot be read as UTF-8 text ({error})") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TaskDataError(where, "is not JSON", fix="Each line is one JSON object.") from error
        if not isinstance(row, dict):
            raise TaskDataError(where, expected="a JSON object", found=type(row).__name__)
        for field in ("prompt", "target"):
            if not isinstance(row.get(field), str) or not row[field].strip():
                raise TaskDataError(where, f"field {field!r} must be text that is not empty")
        task, family = row.get("task", path.stem), row.get("family", "")
        split = row.get("split", "train")
        if not isinstance(task, str) or not _is_plain_name(task):
            raise TaskDataError(
                where, "field 'task' is not a usable name", fix="Use letters, digits, '_', '-' and '.' only."
            )
        if not isinstance(family, str) or split not in SPLITS:
            raise TaskDataError(where, f"'family' must be text and 'split' one of {', '.join(SPLITS)}")
        yield task, family, split, Example(row["prompt"], row["target"])


def _is_plain_name(name: str) -> bool:
    """A task's name becomes a folder's name, so it must be harmless as one."""
    return 0 < len(name) <= 80 and not name.startswith(".") and all(c.isalnum() or c in "_-." for c in name)
