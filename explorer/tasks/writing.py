"""Tasks written as a folder that :func:`~explorer.tasks.folder.read_tasks` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from explorer.tasks.task import SPLITS, Example, Task

LICENCE = """Derived from BIG-bench 1.0.0 (Apache-2.0; single tasks keep the terms of their source data).
Keep this folder out of version control and of training corpora. What was trained on it, the adapters of the sample
library among it, has no BIG-bench score that means anything.
"""


def write_task(path: Path, task: Task) -> None:
    """Write one task as JSON lines, in the order train, validation, test."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines_of(task))


def lines_of(task: Task) -> Iterable[str]:
    """Each row as one line; `refs` is left out where there is only one answer."""
    for split in SPLITS:
        for example in getattr(task, split):
            yield json.dumps(_row(task, split, example), ensure_ascii=False) + "\n"


def _row(task: Task, split: str, example: Example) -> dict[str, object]:
    row: dict[str, object] = {"task": task.name, "family": task.family, "split": split}
    row |= {"prompt": example.prompt, "target": example.target}
    return row | ({"refs": list(example.others)} if example.others else {})


def write_notice(folder: Path, canary: str) -> None:
    """Write where the rows come from, with the line by which BIG-bench asks crawlers to leave its data out."""
    (folder / "README").write_text(f"{LICENCE}{canary}\n", encoding="utf-8")
