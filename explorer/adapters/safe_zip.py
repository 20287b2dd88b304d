"""Unpacking a zip that somebody else made.

Every entry is judged by its name and its header before a byte is written; while unpacking, the bytes that really
come out are counted, because a header can lie. Only files that a library is made of are written; pickles are noted
(so that the report can say why an adapter is refused) but never written, system debris and harmless files are skipped.
"""

from __future__ import annotations

import errno
import io
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from explorer.adapters.pickles import is_pickle
from explorer.adapters.wording import JOINERS, shown
from explorer.errors import LibraryError

KEPT = (".safetensors", ".json", ".md")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".whl", ".jar")
DEBRIS_FOLDERS = frozenset({"__macosx", ".git", ".cache", ".ipynb_checkpoints"})
DEBRIS_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini", ".gitattributes", ".gitignore"})
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
BLOCK = 1 << 20
MAX_NAME = 200
MAX_DEPTH = 8
ENCRYPTED = 0x1
LOCAL_HEADER = 30
DIRECTORY_BYTES = 320  # of the directory for an entry, on average at most: a header, a name, dates
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class ZipLimits:
    """What a zip may hold: entries, bytes of one file, bytes of all files, unpacked bytes for one packed byte."""

    entries: int = 20_000
    file_bytes: int = 2 << 30
    total_bytes: int = 8 << 30
    ratio: int = 200


@dataclass(frozen=True)
class Unpacked:
    """Where the files are, and the pickles that were left in the zip (paths as the zip names them)."""

    folder: Path
    pickles: tuple[PurePosixPath, ...]


def unpack(path: Path, destination: Path, limits: ZipLimits | None = None) -> Unpacked:
    """Unpack the library in `path` into the existing, empty folder `destination`.

    Raises:
        LibraryError: the zip is broken, or holds something that has no place in a library; `destination` is left empty.
    """
    limits = limits or ZipLimits()
    try:
        if not path.is_file():
            raise LibraryError("The zip", "is not a file")
        with _Measured(path, limits) as file, zipfile.ZipFile(file) as archive:
            entries = list(_judged(archive, limits))
            pickles = tuple(name for name, _ in entries if is_pickle(name.name))
            kept = [(name, info) for name, info in entries if _ends(name, KEPT)]
            if not kept and not pickles:
                raise LibraryError("The zip", "holds no adapter", fix="Zip a folder of PEFT adapter folders.")
            _write(archive, kept, destination, limits)
    except BROKEN as error:
        _empty(destination)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
            raise LibraryError("The zip", f"could not be unpacked ({error.strerror})") from error
        raise LibraryError(
            "The zip", "is broken or not a zip file", fix="Make it again and upload it once more."
        ) from error
    except BaseException:
        _empty(destination)
        raise
    return Unpacked(destination, pickles)


class _Measured(io.BufferedReader):
    """A zip's file that is never read in huge pieces.

    zipfile reads a zip's directory at once, however long its end record (or that of zip64) says it is, and makes an
    object for each entry; both are bounded here, before the memory is taken.
    """

    def __init__(self, path: Path, limits: ZipLimits) -> None:
        super().__init__(io.FileIO(path))
        self._most = max(limits.entries * DIRECTORY_BYTES, BLOCK)
        self._entries = limits.entries

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes (see :class:`io.BufferedReader`)."""
        if size is not None and size > self._most:
            raise _too_many(self._entries)
        return super().read(size)


def _too_many(limit: int, found: str = "") -> LibraryError:
    return LibraryError("The zip", "has too many entries", expected=f"at most {limit}", found=found)


def _judged(archive: zipfile.ZipFile, limits: ZipLimits) -> Iterator[tuple[PurePosixPath, zipfile.ZipInfo]]:
    """Every file worth looking at; all entries have been found harmless once the iterator is exhausted."""
    infos = archive.infolist()
    if len(infos) > limits.entries:
        raise _too_many(limits.entries, str(len(infos)))
    _check_overlaps(infos)
    total, files, folders = 0, set[str](), set[str]()
    for info in infos:
        name = _safe_name(info)
        folded = unicodedata.normalize("NFKC", str(name)).casefold()
        folders.update(str(parent) for parent in PurePosixPath(folded).parents)
        if info.is_dir():
            folders.add(folded)
            continue
        if _is_debris(name):
            continue
        total += info.file_size
        _check_size(info, total, limits)
        if folded in files:
            raise _refusal(info, "stands in the zip twice (letter case does not count)")
        files.add(folded)
        if _ends(name, ARCHIVES):
            raise _refusal(info, "is an archive inside the zip", "Unpack it first.")
        yield name, info
    for both in sorted(files & folders):
        raise LibraryError(f"Zip entry {shown(both)}", "is both a file and a folder", fix="Nothing was opened.")


def _check_overlaps(infos: list[zipfile.ZipInfo]) -> None:
    """Entries that share bytes are how a small zip unpacks to a huge one without any single entry looking odd."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise _refusal(info, "lies over another entry")
        end = info.header_offset + LOCAL_HEADER + info.compress_size


def _safe_name(info: zipfile.ZipInfo) -> PurePosixPath:
    # orig_filename: zipfile itself cuts names at a NUL and turns the system's separators round
    name = info.orig_filename
    if info.flag_bits & ENCRYPTED:
        raise _refusal(info, "is encrypted", "Make the zip without a password.")
    if not name or "\\" in name or any(map(_is_control, name)):
        raise _refusal(info, "has a backslash or a control character in its name")
    parts = name.split("/")
    if name.startswith("/"):
        raise _refusal(info, "has an absolute path")
    if ":" in name:
        raise _refusal(info, "has a drive letter or a colon in its name")
    if ".." in parts:
        raise _refusal(info, "leads out of its folder with '..'")
    path = PurePosixPath(name)
    if len(name) > MAX_NAME or len(path.parts) > MAX_DEPTH:
        raise _refusal(info, "has too long or too deep a name")
    if not path.name and not name.endswith("/"):
        raise _refusal(info, "has no name")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(info, "is a link or a device, not a file")
    return path


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter).startswith("C") and letter not in JOINERS


def _check_size(info: zipfile.ZipInfo, total: int, limits: ZipLimits) -> None:
    if info.compress_type not in METHODS:
        raise _refusal(info, "is compressed in an unusual way", "Make the zip with the usual method (deflate).")
    if info.file_size > limits.file_bytes:
        raise _refusal(info, f"is larger than {limits.file_bytes >> 20} MB")
    if info.file_size > max(info.compress_size, 1) * limits.ratio and info.file_size > BLOCK:
        raise _refusal(info, f"would unpack to over {limits.ratio} times its size")
    if total > limits.total_bytes:
        raise LibraryError("The zip", f"would unpack to over {limits.total_bytes >> 20} MB")


def _write(
    archive: zipfile.ZipFile, kept: list[tuple[PurePosixPath, zipfile.ZipInfo]], destination: Path, limits: ZipLimits
) -> None:
    written = 0
    for name, info in kept:
        target = destination.joinpath(*name.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, target.open("xb") as sink:
            size = 0
            while block := source.read(BLOCK):
                size, written = size + len(block), written + len(block)
                if size > info.file_size or written > limits.total_bytes:
                    raise _refusal(info, "unpacks to more than it says")
                sink.write(block)
        if size != info.file_size:
            raise _refusal(info, "unpacks to less than it says")


def _ends(name: PurePosixPath, endings: tuple[str, ...]) -> bool:
    return name.name.lower().endswith(endings)


def _is_debris(name: PurePosixPath) -> bool:
    parts = [part.lower() for part in name.parts]
    return bool(DEBRIS_FOLDERS.intersection(parts)) or parts[-1] in DEBRIS_FILES or parts[-1].startswith("._")


def _refusal(info: zipfile.ZipInfo, problem: str, fix: str = "") -> LibraryError:
    return LibraryError(f"Zip entry {shown(info.orig_filename)}", problem, fix=fix or "Nothing was opened.")


def _empty(folder: Path) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            shutil.rmtree(item)
        else:
            item.unlink()
