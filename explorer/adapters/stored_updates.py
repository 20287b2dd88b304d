"""The updates of an adapter in a folder: their shapes at hand, their numbers in the file until somebody asks.

A library of a thousand adapters is several gigabytes of factors, of which any computation needs a few at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from explorer.adapters.factors import Pair
from explorer.adapters.low_rank import Form, LowRank
from explorer.adapters.stamp import Stamp
from explorer.adapters.weights_file import read_tensor
from explorer.errors import LibraryError


class StoredUpdates(Mapping[str, LowRank]):
    """site -> update, each read from the file when it is asked for and kept by nobody; iterating reads nothing.

    Args:
        path: the weights file.
        stamp: of the file when its header and its numbers were checked.
        pairs: where A and B of each site stand, in natural order of the sites.
        scales: of each site.
        identity: a hash of everything that the updates depend on.
        name: the adapter's, for messages.

    Reading raises:
        KeyError: there is no such site.
        LibraryError: the file is no longer the one that was opened.
    """

    def __init__(
        self,
        path: Path,
        stamp: Stamp,
        pairs: Mapping[str, Pair],
        scales: Mapping[str, float],
        *,
        identity: str,
        name: str,
    ) -> None:
        self._path, self._stamp, self._pairs, self._name = path, stamp, pairs, name
        self.identity = identity
        #: site -> shape, rank and scale, without reading anything
        self.forms: Mapping[str, Form] = {
            site: Form((pair.b.shape[0], pair.a.shape[1]), pair.rank, scales[site]) for site, pair in pairs.items()
        }

    def __getitem__(self, site: str) -> LowRank:
        pair, form = self._pairs[site], self.forms[site]
        try:
            self._check()  # first of all: a pipe in the file's place would keep a reader waiting for ever
            with self._path.open("rb", buffering=0) as file:
                update = LowRank(read_tensor(file, pair.a), read_tensor(file, pair.b), form.scale)
            self._check()
        except FileNotFoundError as error:
            raise self._lost("is no longer there") from error
        except EOFError as error:
            raise self._lost("has changed") from error
        except OSError as error:
            raise self._lost(f"can no longer be read ({os.strerror(error.errno or 0)})") from error
        return update

    def __iter__(self) -> Iterator[str]:
        return iter(self.forms)

    def __len__(self) -> int:
        return len(self.forms)

    def __contains__(self, site: object) -> bool:
        return site in self.forms

    def only(self, wanted: Callable[[str], bool]) -> StoredUpdates:
        """The same updates at the sites that are wanted."""
        pairs = {site: pair for site, pair in self._pairs.items() if wanted(site)}
        scales = {site: self.forms[site].scale for site in pairs}
        identity = "\n".join([self.identity, *pairs])
        return StoredUpdates(self._path, self._stamp, pairs, scales, identity=identity, name=self._name)

    def _check(self) -> None:
        if Stamp.of(self._path) != self._stamp:
            raise self._lost("has changed")

    def _lost(self, what: str) -> LibraryError:
        return LibraryError(
            f"Adapter {self._name!r}", f"its file {what} since the library was opened", fix="Open the library again."
        )
