"""BIG-bench's task files, out of its release on the package index: fetched once, checked by hash, kept in the cache.

The archive (358 MB) is downloaded to a scratch folder, compared with the hash of the release and removed again; only
the wanted files stay, each under a name of our own. None of the package's code is ever run.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from explorer.errors import TaskDataError
from explorer.settings import cache_folder
from explorer.tasks.package_index import Web, addresses, pip_settings

Report = Callable[[str], None]
BLOCK = 1 << 20
MOST_MEMBER_BYTES = 64 << 20
LINES = 10  # of progress, for a whole download


@dataclass(frozen=True)
class Release:
    """A release's archive: project, file name, SHA-256, size in bytes, first folder of the tasks, address."""

    project: str
    file: str
    sha256: str
    size: int
    folder: str
    url: str

    def member(self, path: str) -> str:
        """The task file's name in the archive."""
        return f"{self.folder}/{path}/task.json"


BIG_BENCH = Release(
    project="bigbench",
    file="bigbench-1.0.0.tar.gz",
    sha256="1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
    size=358_249_635,
    folder="bigbench-1.0.0/bigbench/benchmark_tasks",
    url="https://files.pythonhosted.org/packages/95/f8/"
    "c019b3579df548a04cac12342cfcb878e50ddf6cfcd7fddba8cfc721c157/bigbench-1.0.0.tar.gz",
)


def kept_files(release: Release, paths: tuple[str, ...]) -> dict[str, Path]:
    """Where the task file of each path lies, or will lie."""
    folder = cache_folder() / "tasks" / f"{release.project}-{release.sha256[:12]}"
    return {path: folder / f"{path.replace('/', '__')}.json" for path in paths}


def task_files(
    release: Release, paths: tuple[str, ...], report: Report, archive: Path | None = None
) -> dict[str, Path]:
    """The task file of each path, from the cache or, the first time, from the release.

    Args:
        release: what to fetch.
        paths: all that may ever be asked for: they are unpacked together, and then the archive goes.
        report: called with one line of text as each slow step goes on.
        archive: the release's file, where it has been downloaded by other means.

    Raises:
        TaskDataError: it cannot be fetched, is not the expected file, or lacks one of them.
    """
    files = kept_files(release, paths)
    if all(file.is_file() for file in files.values()):
        return files
    folder = next(iter(files.values())).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
        found = archive or _download(release, Path(scratch) / "archive", report)
        if archive:
            report(f"Checking {archive.name}")
            _check(release, archive)
        report(f"Unpacking {len(paths)} task files")
        ready = Path(scratch) / "ready"
        ready.mkdir()
        _unpack(release, found, {release.member(path): ready / file.name for path, file in files.items()})
        _put(ready, folder)
    return files


def _put(ready: Path, folder: Path) -> None:
    """Move each file into place; a file that is there already, from another process or from before, is as good."""
    folder.mkdir(exist_ok=True)
    for file in ready.iterdir():
        file.replace(folder / file.name)


def _download(release: Release, target: Path, report: Report) -> Path:
    """The first sound copy: from the indexes that pip knows, then from the release's own address.

    Raises:
        TaskDataError: none could be had; the last reason is given.
    """
    settings = pip_settings()
    web = Web(settings)
    reason = ""
    for url in _places(web, settings, release):
        try:
            with web.open(url) as answer, target.open("wb") as sink:
                digest = _copied(answer, sink, release, report)
        except (OSError, HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
            continue
        if digest == release.sha256:
            return target
        reason = "what came is not the file of the release"
    fix = "Check the connection and pip's settings, or download the file elsewhere and name it with --sdist."
    raise TaskDataError(release.file, f"could not be downloaded ({' '.join(reason.split())[:200]})", fix=fix)


def _places(web: Web, settings: Mapping[str, str], release: Release) -> Iterator[str]:
    yield from addresses(web, settings, release.project, release.file)
    yield release.url


def _copied(source: IO[bytes], sink: IO[bytes], release: Release, report: Report) -> str:
    """Copy at most the release's size and a little; the SHA-256 of what came."""
    digest, done, step = hashlib.sha256(), 0, max(1, release.size // LINES)
    report(f"Downloading {release.file} ({release.size / 1e6:.0f} MB, once)")
    while done <= release.size and (block := source.read(BLOCK)):
        digest.update(block)
        sink.write(block)
        if done // step != (done + len(block)) // step:
            report(f"Downloading {release.file}: {100 * (done + len(block)) // release.size} %")
        done += len(block)
    return digest.hexdigest()


def _check(release: Release, archive: Path) -> None:
    """Refuse a file that is not the release's.

    Raises:
        TaskDataError: as said.
    """
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TaskDataError(str(archive), f"cannot be read ({error.strerror or error})") from error
    if found != release.sha256:
        raise TaskDataError(
            str(archive), "is not the file of the release", expected=release.sha256[:16], found=found[:16]
        )


def _unpack(release: Release, archive: Path, wanted: Mapping[str, Path]) -> None:
    """Write the members that are wanted, and nothing else; their names in the archive lead nowhere.

    Raises:
        TaskDataError: it cannot be read, or one is missing, too large or no plain file.
    """
    left = dict(wanted)
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                target = left.pop(member.name, None)
                if target:
                    _write(opened, member, target)
                if not left:
                    return
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise TaskDataError(release.file, "is damaged", fix="Fetch it again.") from error
    raise TaskDataError(release.file, f"lacks {next(iter(left))}")


def _write(opened: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = opened.extractfile(member) if member.isreg() and member.size <= MOST_MEMBER_BYTES else None
    if source is None:
        raise TaskDataError(member.name, "is no plain file of a size that a task has")
    with source, target.open("wb") as sink:
        while block := source.read(BLOCK):
            sink.write(block)
