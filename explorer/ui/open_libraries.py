"""A library that the page has open: its analyses and its routed model, each made once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from explorer.adapters.library import Library
from explorer.analysis.clustering import DEFAULT_SEED
from explorer.analysis.spectra import UpdateShape, update_shape
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel
from explorer.records.library_record import LibraryRecord, analysed, with_clusters

Progress = Callable[[int, int], None]
KEPT_RECORDS = 6


class OpenLibrary:
    """A library with what was computed from it.

    Args:
        library: the adapters; closed with this.
        link: what `?lib=` has to say to open it again ("" where that is not possible, as for an upload).
    """

    def __init__(self, library: Library, link: str = "") -> None:
        self.library = library
        self.link = link
        self._records: dict[tuple[str, float, int], LibraryRecord] = {}
        self._shapes: dict[str, UpdateShape] = {}
        self._routed: RoutedModel | None = None
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """Bytes of the adapters' weights."""
        return sum(adapter.size_bytes for adapter in self.library)

    def record(
        self,
        measure: str = "update",
        sparsity: float = 0.5,
        n_clusters: int | None = None,
        seed: int = DEFAULT_SEED,
    ) -> LibraryRecord:
        """The analysis with these settings; only the clustering is done again for another K."""
        key = (measure, sparsity if measure == "parameters" else 0.0, seed)
        with self._lock:
            if key not in self._records:
                if not self._shapes:
                    self._shapes = {adapter.name: update_shape(adapter) for adapter in self.library}
                while len(self._records) >= KEPT_RECORDS:
                    self._records.pop(next(iter(self._records)))
                self._records[key] = analysed(self.library, self._shapes, measure, sparsity, None, seed)
            record = self._records[key]
        if n_clusters is None or n_clusters == record.clustering.n_clusters:
            return record
        return with_clusters(record, n_clusters, seed)

    def routed(self, base: BaseModel, progress: Progress | None = None) -> RoutedModel:
        """The library on `base`, prepared on first use."""
        with self._lock:
            if self._routed is None or self._routed.base is not base:
                self._routed = RoutedModel(base, self.library, progress)
            return self._routed

    def close(self) -> None:
        """Let go of the weights and remove what was unpacked."""
        self._routed = None
        self._records.clear()
        self.library.close()
