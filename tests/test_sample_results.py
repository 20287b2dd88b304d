"""The README's tables are those of the stored evaluation, which belongs to the shipped libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

import explorer
from explorer.evaluation.record import FILE, EvaluationRecord, read_record
from explorer.evaluation.table import markdown, overview, task_table
from explorer.learning.starting_point import STARTS

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_libraries"


@pytest.fixture(scope="module")
def record() -> EvaluationRecord:
    return read_record(SAMPLES / "smollm2-135m-private" / FILE)


def test_the_tables_in_the_readme_are_those_of_the_record(record: EvaluationRecord) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert markdown(overview(record)) in readme
    assert markdown(task_table(record, "loss", held_out=True)) in readme


def test_the_record_is_of_the_libraries_that_come_along(record: EvaluationRecord) -> None:
    hashes = set()
    for folder in sorted(SAMPLES.iterdir()):
        with explorer.open_library(folder.name) as library:
            hashes.add(library.content_hash)
    used = {method.library_hash: method.library for method in record.methods if method.library}
    assert set(used) > hashes
    made = {name for content, name in used.items() if content not in hashes}
    assert made == {f"few-shot-from-{start}" for start in STARTS}, "those that README's commands make"


def test_every_task_of_the_sample_was_evaluated(record: EvaluationRecord) -> None:
    held_out = [task for task in record.tasks if task.held_out]
    assert (len(record.tasks), len(held_out)) == (53, 9)
    assert record.transfer is not None
    assert len(record.transfer.adapters) == 44


def test_the_sample_libraries_are_small_enough_to_clone() -> None:
    sizes = [path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()]
    assert sum(sizes) < 90e6
