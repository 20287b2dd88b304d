"""A library in use: the adapters, what was computed from them, and the same ready for routing.

One holding belongs to one session, except the one a page opens with, which all sessions share and nobody changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from explorer.adapters.library import Library
from explorer.analysis.survey import Survey, survey
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel
from explorer.records.library_record import LibraryRecord, analysed, with_clusters
from explorer.ui.evaluation_view import EvaluationView
from explorer.ui.stored_evaluation import stored_evaluation, stored_nbytes

BYTES_A_NUMBER = 4
#: About what the description of one update takes, and one pair of adapters in the matrices of the analysis.
BYTES_AN_UPDATE, BYTES_A_PAIR = 1_024, 32


class Holding:
    """An open library with its analysis.

    Args:
        library: the library.
        trusted: whether its adapters may name a base model by a folder of this machine.
        record: its analysis, where it was stored earlier.
    """

    def __init__(self, library: Library, *, trusted: bool, record: LibraryRecord | None = None) -> None:
        self.library = library
        self.trusted = trusted
        self._record = record
        self._survey: Survey | None = None
        self._routed: RoutedModel | None = None
        self._evaluation: EvaluationView | None = None
        self._lock = threading.RLock()
        updates = sum(len(adapter.updates) for adapter in library)
        self._shown_nbytes = BYTES_AN_UPDATE * updates + BYTES_A_PAIR * len(library) ** 2
        self._shown_nbytes += stored_nbytes(library.folder)
        #: About how much more memory routing takes: the factors of all adapters, stacked.
        self.routing_nbytes = BYTES_A_NUMBER * sum(adapter.parameters for adapter in library)

    @property
    def nbytes(self) -> int:
        """About how much memory it takes now; the factors stay in their files until the library is routed."""
        return self._shown_nbytes + (self.routing_nbytes if self._routed is not None else 0)

    @property
    def base_model(self) -> str:
        """Name of the base model, "" where no adapter gives one."""
        return self.library.base_model

    def record(self) -> LibraryRecord:
        """The analysis with its default settings, computed on first use."""
        with self._lock:
            if self._record is None:
                self._record = self.analysed("update", 0.5, self.library.clusters)
            return self._record

    def evaluation(self) -> EvaluationView:
        """The evaluation that lies in the library, or why it cannot be read; read on first use."""
        with self._lock:
            if self._evaluation is None:
                self._evaluation = stored_evaluation(self.library.folder)
            return self._evaluation

    def analysed(self, measure: str, sparsity: float, n_clusters: int | None) -> LibraryRecord:
        """The analysis with other settings (see :func:`explorer.records.library_record.library_record`)."""
        with self._lock:
            stored = self._record
            if stored is not None and measure == "update" == stored.similarity.measure:
                return with_clusters(stored, n_clusters)
            if self._survey is None:
                self._survey = survey(self.library.adapters)
            return analysed(self.library, self._survey, measure, sparsity, n_clusters)

    def routed(self, base: BaseModel, progress: Callable[[int, int], None] | None = None) -> RoutedModel:
        """The library on `base`, prepared on first use (raises as RoutedModel does)."""
        with self._lock:
            if self._routed is None or self._routed.base is not base:
                self._routed = None  # lets the older one go before the new one takes memory
                self._routed = RoutedModel(base, self.library, progress)
            return self._routed

    def close(self) -> None:
        """Give memory and files back; a run that goes on keeps what it has read, and can read no more of a zip."""
        self.library.close()
        with self._lock:
            self._routed = None
            self._survey = None
