"""What all handlers of one running page share: the visitors, the base models, the library that everyone starts with."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

import explorer
from explorer.adapters.sources import open_zip
from explorer.errors import ExplorerError, LibraryError
from explorer.models.base import BaseModel
from explorer.models.shapes import known_shapes
from explorer.ui.engine import Engine
from explorer.ui.open_libraries import OpenLibrary
from explorer.ui.sessions import Session, Sessions
from explorer.ui.stored import StoredView, read_stored_view

SAMPLE = "sample"


class Workplace:
    """Made once per page.

    Args:
        library: what the page opens with.
        allow_local: whether visitors may name folders of this machine.
    """

    def __init__(self, library: str = SAMPLE, *, allow_local: bool = True) -> None:
        self.first_source = library
        self.allow_local = allow_local
        self.engine = Engine(allow_local=allow_local)
        self.stored: StoredView | None = read_stored_view() if library == SAMPLE else None
        self.sessions = Sessions(self._fresh)
        self._first: Future[OpenLibrary] = Future()
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Open the first library, load its base model and wake UMAP, one after the other, in the background."""
        with self._starting:
            if not self._started:
                self._started = True
                threading.Thread(target=self._start, daemon=True).start()

    def first(self) -> OpenLibrary:
        """The library that everyone starts with (shared, read-only); waits until it is open."""
        self.start()
        return self._first.result()

    def library_of(self, session: Session) -> OpenLibrary:
        """The library that this visitor looks at."""
        return session.own if session.own is not None else self.first()

    def base_for(self, library: OpenLibrary) -> Future[BaseModel]:
        """The base model of `library`, loading or loaded."""
        return self.engine.begin(library.library.base_model)

    def base_name(self, session: Session) -> str:
        """The base model that the shown library names."""
        return session.record.base_model if session.record is not None else ""

    def open_source(self, source: str) -> OpenLibrary:
        """A library by name, folder or repository (see :func:`explorer.open_library`)."""
        if not source.strip():
            raise LibraryError("Library", "has no name", fix="Type a folder or a hub repository (owner/name).")
        return OpenLibrary(explorer.open_library(source.strip(), allow_local=self.allow_local), link=source.strip())

    def open_upload(self, path: str, name: str) -> OpenLibrary:
        """An uploaded zip; its adapters may not name folders of this machine as their base model."""
        return OpenLibrary(
            open_zip(Path(path), name=name, shapes_of=lambda base: known_shapes(base, allow_local=False))
        )

    def _fresh(self) -> Session:
        session = Session()
        if self.stored is not None:
            session.record, session.trace = self.stored.library, self.stored.prompt.trace
        return session

    def _start(self) -> None:
        try:
            self._first.set_result(OpenLibrary(explorer.open_library(self.first_source), link=self.first_source))
        except ExplorerError as error:
            self._first.set_exception(error)
            return
        self.engine.begin(self._first.result().library.base_model)
        self._first.result().record()
