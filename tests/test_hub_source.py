"""A repository on the hub as a library: fetched within limits, refused in words, gone when closed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from adapter_files import (
    config_of,
    write_adapter,
    write_config,
)

from explorer.adapters.adapter import Status
from explorer.adapters.library import Library
from explorer.adapters.sources import open_library
from explorer.errors import LibraryError


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders are made in here, so that a test can see whether they go away."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def failure(source: Any, **options: Any) -> str:
    with pytest.raises(LibraryError) as caught:
        open_library(source, **options)
    return str(caught.value)


def statuses(library: Library) -> dict[str, str]:
    return {verdict.name: str(verdict.status) for verdict in library.verdicts}


class Hub:
    """The two calls that are made of huggingface_hub, answered from a folder."""

    def __init__(self, folder: Path, size: int = 10) -> None:
        self.folder, self.size = folder, size

    def model_info(self, name: str, **_: Any) -> SimpleNamespace:
        files = [item for item in sorted(self.folder.rglob("*")) if item.is_file()]
        siblings = [
            SimpleNamespace(rfilename=item.relative_to(self.folder).as_posix(), size=self.size) for item in files
        ]
        return SimpleNamespace(siblings=siblings, sha="abc")

    def snapshot_download(self, name: str, *, revision: str, allow_patterns: list[str], local_dir: Path) -> None:
        assert revision == "abc"
        shutil.copytree(self.folder, local_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bin"))


def use(monkeypatch: pytest.MonkeyPatch, hub: Any) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)


def test_a_repository(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapter(tmp_path / "repo/one")
    write_config(tmp_path / "repo/two", config_of())
    (tmp_path / "repo/two/adapter_model.bin").write_bytes(b"x")
    use(monkeypatch, Hub(tmp_path / "repo"))
    with open_library("owner/name", allow_local=False) as library:
        assert library.title == "owner/name"
        assert statuses(library) == {"one": Status.ACCEPTED, "two": Status.REFUSED}
    assert list(temporary.iterdir()) == []


def test_a_repository_without_adapters_or_too_large(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repo").mkdir()
    use(monkeypatch, Hub(tmp_path / "repo"))
    assert failure("owner/name") == ("owner/name: holds no adapter_config.json. Name a repository of PEFT adapters.")
    write_adapter(tmp_path / "repo/one")
    use(monkeypatch, Hub(tmp_path / "repo", size=9 << 30))
    assert failure("owner/name") == "owner/name: is too large to open (over 8 GB or too many files)."
    assert list(temporary.iterdir()) == []


def test_a_hub_out_of_reach(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable(Hub):
        def model_info(self, name: str, **_: Any) -> SimpleNamespace:
            raise type("ConnectError", (Exception,), {})("no route")

    use(monkeypatch, Unreachable(temporary))
    assert failure("owner/name") == (
        "owner/name: could not be fetched from the model hub. Check the name and the connection."
    )
    assert list(temporary.iterdir()) == []
