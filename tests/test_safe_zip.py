"""Zips made by others: what is unpacked, what is refused in which words, and that nothing is left behind."""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from adapter_files import adapter_members, write_adapter, write_zip, zip_folder

from explorer.adapters.safe_zip import Unpacked, ZipLimits, unpack
from explorer.errors import ExplorerError, LibraryError

SMALL = {"one/adapter_config.json": b"{}"}


def opened(path: Path, limits: ZipLimits | None = None) -> Unpacked:
    destination = path.parent / "out"
    destination.mkdir()
    return unpack(path, destination, limits)


def refused(path: Path, limits: ZipLimits | None = None) -> str:
    """The sentence, once it is certain that nothing was written anywhere."""
    destination = path.parent / "out"
    destination.mkdir(exist_ok=True)
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(LibraryError) as caught:
        unpack(path, destination, limits)
    assert sorted(path.parent.rglob("*")) == before
    assert list(destination.iterdir()) == []
    return str(caught.value)


def files(unpacked: Unpacked) -> list[str]:
    return sorted(item.relative_to(unpacked.folder).as_posix() for item in unpacked.folder.rglob("*") if item.is_file())


def test_a_good_zip(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "library" / "one")
    unpacked = opened(zip_folder(tmp_path / "library", tmp_path / "a.zip", top="top"))
    assert files(unpacked) == ["top/one/adapter_config.json", "top/one/adapter_model.safetensors"]
    assert unpacked.pickles == ()
    written = unpacked.folder / "top/one/adapter_model.safetensors"
    assert written.read_bytes() == (folder / written.name).read_bytes()
    assert stat.S_IMODE(written.stat().st_mode) & 0o111 == 0


def test_debris_and_harmless_files_are_left_out(tmp_path: Path) -> None:
    harmless = ("__MACOSX/one/._x.json", "one/.DS_Store", "one/._a.json", "Thumbs.db", "one/desktop.ini")
    harmless += (".git/config.json", "LICENSE", "one/picture.png", "one/run.py", "one/notes.txt")
    path = write_zip(tmp_path / "a.zip", [*SMALL.items(), *((name, b"x") for name in harmless), ("one/", b"")])
    assert files(opened(path)) == ["one/adapter_config.json"]


def test_pickles_are_noted_and_never_written(tmp_path: Path) -> None:
    endings = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".PICKLE", ".meta")
    path = write_zip(tmp_path / "a.zip", {**SMALL, **{f"one/w{end}": b"\x80\x04." for end in endings}})
    unpacked = opened(path)
    assert files(unpacked) == ["one/adapter_config.json"]
    assert unpacked.pickles == tuple(PurePosixPath(f"one/w{end}") for end in endings)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/x.json", "Zip entry /etc/x.json: has an absolute path. Nothing was opened."),
        ("//host/x.json", "Zip entry //host/x.json: has an absolute path. Nothing was opened."),
        ("../x.json", "Zip entry ../x.json: leads out of its folder with '..'. Nothing was opened."),
        ("one/../../x.json", "Zip entry one/../../x.json: leads out of its folder with '..'. Nothing was opened."),
        ("../", "Zip entry ../: leads out of its folder with '..'. Nothing was opened."),
        ("C:/x.json", "Zip entry C:/x.json: has a drive letter or a colon in its name. Nothing was opened."),
        ("one/x.json:stream", "Zip entry one/x.json:stream: has a drive letter or a colon in its name."),
        ("..\\x.json", "Zip entry ..\\x.json: has a backslash or a control character in its name."),
        ("one/\x00x.json", "Zip entry one/\\x00x.json: has a backslash or a control character in its name."),
        ("one/\n.json", "Zip entry one/\\n.json: has a backslash or a control character in its name."),
        ("one/\u202ex.json", "Zip entry one/\\u202ex.json: has a backslash or a control character in its name."),
        ("x" * 250 + ".json", "has too long or too deep a name"),
        ("/".join("abcdefghij") + "/x.json", "Zip entry a/b/c/d/e/f/g/h/i/j/x.json: has too long or too deep a name."),
        (".", "Zip entry .: has no name. Nothing was opened."),
        ("one/inner.zip", "Zip entry one/inner.zip: is an archive inside the zip. Unpack it first."),
        ("one/inner.TAR.GZ", "Zip entry one/inner.TAR.GZ: is an archive inside the zip. Unpack it first."),
        ("ONE/Adapter_Config.json", "stands in the zip twice (letter case does not count). Nothing was opened."),
        ("one/./adapter_config.json", "stands in the zip twice (letter case does not count). Nothing was opened."),
        ("one//adapter_config.json", "stands in the zip twice (letter case does not count). Nothing was opened."),
        ("one/adapter_conﬁg.json", "stands in the zip twice (letter case does not count). Nothing was opened."),
        ("one/adapter_config.json/x.json", "Zip entry one/adapter_config.json: is both a file and a folder."),
        ("one/adapter_config.json/", "Zip entry one/adapter_config.json: is both a file and a folder."),
    ],
)
def test_names_that_have_no_place_in_a_library(tmp_path: Path, name: str, reason: str) -> None:
    assert reason in refused(write_zip(tmp_path / "a.zip", [*SMALL.items(), (name, b"{}")]))


def test_the_same_name_twice(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "b.zip", [("a.json", b"{}"), ("b.json", b"{}")])
    path.write_bytes(path.read_bytes().replace(b"b.json", b"a.json"))
    assert refused(path) == (
        "Zip entry a.json: stands in the zip twice (letter case does not count). Nothing was opened."
    )


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices(tmp_path: Path, kind: int) -> None:
    path = write_zip(tmp_path / "a.zip", {"one/x.json": b"/etc/passwd"}, mode=kind | 0o777)
    assert refused(path) == "Zip entry one/x.json: is a link or a device, not a file. Nothing was opened."


def changed_headers(path: Path, offset_local: int, offset_central: int, value: bytes) -> Path:
    """Overwrite one field in every local and every central header."""
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", offset_local), (b"PK\x01\x02", offset_central)):
        place = raw.find(signature)
        while place >= 0:
            raw[place + offset : place + offset + len(value)] = value
            place = raw.find(signature, place + 4)
    path.write_bytes(raw)
    return path


def test_encrypted_entries(tmp_path: Path) -> None:
    path = changed_headers(write_zip(tmp_path / "a.zip", SMALL), 6, 8, struct.pack("<H", 1))
    assert refused(path) == ("Zip entry one/adapter_config.json: is encrypted. Make the zip without a password.")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_unusual_compression(tmp_path: Path, method: int) -> None:
    path = changed_headers(write_zip(tmp_path / "a.zip", SMALL), 8, 10, struct.pack("<H", method))
    assert refused(path) == (
        "Zip entry one/adapter_config.json: is compressed in an unusual way. "
        "Make the zip with the usual method (deflate)."
    )


def test_a_bomb_by_its_ratio(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"one/x.json": bytes(5 << 20)})
    assert path.stat().st_size < 10_000
    assert refused(path) == "Zip entry one/x.json: would unpack to over 200 times its size. Nothing was opened."


def test_limits_on_one_file_on_all_and_on_their_number(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{index}.json": os.urandom(2 << 20) for index in range(3)})
    assert refused(path, ZipLimits(file_bytes=1 << 20)) == "Zip entry 0.json: is larger than 1 MB. Nothing was opened."
    assert refused(path, ZipLimits(total_bytes=5 << 20)) == "The zip: would unpack to over 5 MB."
    assert refused(path, ZipLimits(entries=2)) == "The zip: has too many entries, expected at most 2, found 3."


def with_directory_of(path: Path, size: int, *, zip64: bool) -> Path:
    """A file of mostly nothing (and no blocks on disk) whose end record says that its directory takes `size` bytes."""
    with path.open("wb") as file:
        file.seek(size)
        if zip64:
            file.write(struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, 0))
            file.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, size, 1))
        small = 0xFFFFFFFF if zip64 else size
        file.write(struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, small, 0, 0))
    return path


@pytest.mark.parametrize("zip64", [False, True])
def test_a_huge_directory_is_refused_before_it_is_read(tmp_path: Path, zip64: bool) -> None:
    path = with_directory_of(tmp_path / "a.zip", 300 << 20, zip64=zip64)
    tracemalloc.start()
    try:
        assert refused(path) == "The zip: has too many entries, expected at most 20000."
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_names_with_joined_emoji_and_letters(tmp_path: Path) -> None:
    names = ["\U0001f469\u200d\U0001f52c/adapter_config.json", "\u0645\u06cc\u200c\u062e\u0648/adapter_config.json"]
    path = write_zip(tmp_path / "a.zip", dict.fromkeys(names, b"{}"))
    assert files(opened(path)) == sorted(names)


BROKEN = "The zip: is broken or not a zip file. Make it again and upload it once more."
SHORT = "Zip entry one/x.json: unpacks to less than it says. Nothing was opened."


@pytest.mark.parametrize(
    ("claimed", "reason"), [(0, BROKEN), (1, BROKEN), (49_999, BROKEN), (50_001, SHORT), (1 << 20, SHORT)]
)
def test_a_size_that_lies_never_gets_through(tmp_path: Path, claimed: int, reason: str) -> None:
    path = write_zip(tmp_path / "a.zip", {"one/x.json": os.urandom(50_000)})
    changed_headers(path, 22, 24, struct.pack("<I", claimed))
    assert refused(path) == reason


def test_entries_that_share_their_bytes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.json": b"{}" * 50, "b.json": b"{}" * 50})
    raw = bytearray(path.read_bytes())
    second = raw.rfind(b"PK\x01\x02")
    raw[second + 42 : second + 46] = struct.pack("<I", 0)
    path.write_bytes(raw)
    assert refused(path) == "Zip entry b.json: lies over another entry. Nothing was opened."


@pytest.mark.parametrize("raw", [b"", b"PK", b"not a zip at all" * 100, b"PK\x03\x04" + bytes(200), bytes(22)])
def test_what_is_no_zip(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(raw)
    assert refused(tmp_path / "a.zip") == (
        "The zip: is broken or not a zip file. Make it again and upload it once more."
    )


@pytest.mark.parametrize("members", [{}, {"notes.txt": b"x"}, {"__MACOSX/x.json": b"{}"}])
def test_a_zip_without_anything_for_a_library(tmp_path: Path, members: dict[str, bytes]) -> None:
    assert refused(write_zip(tmp_path / "a.zip", members)) == (
        "The zip: holds no adapter. Zip a folder of PEFT adapter folders."
    )


def test_a_missing_file_a_folder_and_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "folder", "pipe"):
        assert refused(tmp_path / name) == "The zip: is not a file."


def test_a_refusal_after_some_files_leaves_none_of_them(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a/x.json": os.urandom(5000), "b/y.json": os.urandom(5000)})
    raw = bytearray(path.read_bytes())
    place = raw.find(b"b/y.json") + 100
    raw[place : place + 50] = bytes(50)  # the checksum of the second file fails, the first was written by then
    path.write_bytes(raw)
    assert refused(path).startswith("The zip: is broken")


def test_a_zip_after_other_bytes_still_opens(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", SMALL)
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert files(opened(path)) == ["one/adapter_config.json"]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_bytes_only_our_errors_come_out(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    members = {**adapter_members(write_adapter(tmp_path / "one", {"x": (1, 2, 2)})), "two/adapter_config.json": b"{}"}
    good = write_zip(tmp_path / "good.zip", members).read_bytes()
    buffer = io.BytesIO(good)
    directory = zipfile.ZipFile(buffer).start_dir
    path, out = tmp_path / "a.zip", tmp_path / "out"
    out.mkdir()
    outside = {item for item in tmp_path.rglob("*") if out not in item.parents} | {path}
    failures = 0
    for _ in range(300):
        raw = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 6))):
            place = chance.randrange(chance.choice((0, directory)), len(raw))
            raw[place] = chance.choice((0, 1, 0xFF, 0x2F, 0x2E, chance.randrange(256)))
        if chance.random() < 0.1:
            del raw[chance.randrange(len(raw)) :]
        path.write_bytes(raw)
        try:
            unpack(path, out, ZipLimits(total_bytes=1 << 20))
        except ExplorerError:
            failures += 1
            assert list(out.iterdir()) == []
        for item in sorted(out.rglob("*"), reverse=True):
            assert not item.is_symlink()
            item.rmdir() if item.is_dir() else item.unlink()
        assert {item for item in tmp_path.rglob("*") if out not in item.parents} == outside
    assert failures > 100
