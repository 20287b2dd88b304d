"""Adapters whose bytes were read and found sound before: content hashes, remembered while the files stay the same.

A second opening of a library would otherwise read all of it again only to find the hash under which its analysis is
stored. What is remembered of one library is one result in the cache (see :mod:`explorer.cache`): for each adapter a
hash over its path, its file's stamp and its configuration, and the content hash. Any change of one of these, or a file
so new that a change might not show, leads to a full reading.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from explorer import cache
from explorer.adapters.stamp import Stamp

FORMAT = 1


class KnownFiles:
    """What is remembered of the adapters in one library.

    Args:
        root: the library's folder.
    """

    def __init__(self, root: Path) -> None:
        self._key = cache.key_of("files", str(FORMAT), str(root.resolve()))
        self._before = self._load()
        self._now: dict[bytes, str] = {}

    def content_hash(self, path: Path, stamp: Stamp, settings: bytes) -> str | None:
        """The hash that the file at `path`, read with these settings (as text), had; None where it is not known."""
        token = _token(path, stamp, settings)
        found = self._before.get(token)
        if found is not None:
            self._now[token] = found
        return found

    def learn(self, path: Path, stamp: Stamp, settings: bytes, content_hash: str, read_at: int) -> None:
        """Remember a file that was read whole and found sound; `read_at` is when reading began, in nanoseconds."""
        if stamp.settled(read_at):
            self._now[_token(path, stamp, settings)] = content_hash

    def save(self) -> None:
        """Store what was asked for and learnt, and forget the rest."""
        if not self._now or self._now == self._before:
            return
        hashes = [bytes.fromhex(content_hash) for content_hash in self._now.values()]
        cache.keep(self._key, {"tokens": _rows(list(self._now)), "hashes": _rows(hashes)})

    def _load(self) -> dict[bytes, str]:
        stored = cache.recall(self._key)
        if stored is None or stored.keys() != {"tokens", "hashes"}:
            return {}
        tokens, hashes = stored["tokens"], stored["hashes"]
        if tokens.dtype != np.uint8 or tokens.ndim != 2 or hashes.shape != tokens.shape or tokens.shape[1] != 32:
            return {}
        return {token.tobytes(): value.tobytes().hex() for token, value in zip(tokens, hashes, strict=True)}


def _token(path: Path, stamp: Stamp, settings: bytes) -> bytes:
    parts = (str(path.resolve()), stamp.size, stamp.modified, stamp.changed, stamp.inode)
    return hashlib.sha256(repr(parts).encode() + settings).digest()


def _rows(digests: list[bytes]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)
