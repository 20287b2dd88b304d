"""Small files of BIG-bench's format, and a release's archive of them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from explorer.tasks.sdist import Release

CANARY = "this is a canary"
FOLDER = "bigbench-1.0.0/bigbench/benchmark_tasks"


def task_json(examples: list[dict[str, object]], **fields: object) -> bytes:
    return json.dumps({"canary": CANARY, "examples": examples, **fields}).encode()


def release_of(archive: Path, url: str = "file:///nowhere/bigbench-1.0.0.tar.gz") -> Release:
    raw = archive.read_bytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    return Release("bigbench", "bigbench-1.0.0.tar.gz", sha256, len(raw), FOLDER, url)


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    """A .tar.gz with a task.json of each path, and other members."""
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in {
            "../evil": b"x",
            **{f"{FOLDER}/{task}/task.json": raw for task, raw in files.items()},
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path
