"""What all sessions of one running page share: its settings, the base models, the library it opens with."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import explorer
from explorer.adapters.library import Library
from explorer.adapters.sources import DEFAULT_SAMPLE, SAMPLES
from explorer.analysis.projection import warm_up
from explorer.errors import ExplorerError, LibraryError
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel
from explorer.records.library_record import LibraryRecord, from_json
from explorer.records.prompt_record import read_prompt_record
from explorer.ui.assets_files import FOLDER
from explorer.ui.engine import Engine, ModelState
from explorer.ui.holding import Holding
from explorer.ui.options import PageOptions
from explorer.ui.sessions import Session, Sessions
from explorer.ui.state import FirstView, View, stored_view, view_of
from explorer.ui.stored_evaluation import stored_evaluation

LOG = logging.getLogger(__name__)
FIRST_VIEW = FOLDER / "first_view"
#: Seconds that preparing waits for a first visitor, and then for the browser to draw.
PATIENCE, DRAWING = 8.0, 2.5
SAMPLE_SOURCES = ("sample", DEFAULT_SAMPLE)


class Desk:
    """The shared part of a page; the shared library is opened once, in the background or by the first who needs it.

    Args:
        options: how the page was started.
        engine: base models.
        first_view: folder of the stored run; it is used only where the page opens with the sample.
    """

    def __init__(self, options: PageOptions, engine: Engine | None = None, first_view: Path = FIRST_VIEW) -> None:
        self.options = options
        self.engine = engine or Engine()
        self.first = read_first_view(first_view) if options.library in SAMPLE_SOURCES else None
        self.shared_problem = ""
        self._visited = threading.Event()
        self._shared: Holding | None = None
        self._lock = threading.Lock()
        self.sessions = Sessions(self.fresh_view, most_bytes=options.store_bytes, idle_seconds=options.idle_seconds)

    def fresh_view(self) -> View:
        """The view of a session that has done nothing yet."""
        shared = self._shared
        if self.first is not None and (shared is None or shared.library.content_hash == self.first.record.content_hash):
            return stored_view(self.first)
        return view_of(shared.record(), shared.evaluation()) if shared is not None else View()

    @property
    def settled(self) -> bool:
        """Whether the shared library is open, or is known not to open."""
        return self._shared is not None or bool(self.shared_problem)

    def shared(self) -> Holding:
        """The library that the page opens with.

        Raises:
            ExplorerError: it cannot be opened.
        """
        with self._lock:
            if self._shared is None:
                library = explorer.open_library(self.options.library)
                record = self._stored_record(library)
                holding = Holding(library, trusted=True, record=record)
                holding.record()
                holding.evaluation()
                self._shared = holding
            return self._shared

    def _stored_record(self, library: Library) -> LibraryRecord | None:
        if self.first is not None and self.first.record.content_hash == library.content_hash:
            return self.first.record
        return None

    def holding(self, session: Session) -> Holding:
        """The library of a session: its own, or the shared one."""
        return session.own or self.shared()

    def open_names(self, session: Session) -> tuple[str, ...]:
        """What a link may call the library that a session has open; the first is what its own links say."""
        if session.own is not None:
            return (session.own.library.source,)
        if self.options.library in SAMPLE_SOURCES:
            return SAMPLE_SOURCES
        opened = (self._shared.library.source,) if self._shared is not None else ()
        return (*opened, Path(self.options.library).name or self.options.library, self.options.library)

    def base_name(self, session: Session) -> tuple[str, bool]:
        """Name of the session's base model as far as it is known by now, and whether it is trusted."""
        if session.own is not None:
            return session.own.base_model, session.own.trusted
        if self._shared is not None:
            return self._shared.base_model, True
        return (self.first.record.base_model if self.first is not None else ""), True

    def model_state(self, session: Session) -> ModelState:
        """Where the base model of a session's library stands."""
        name, trusted = self.base_name(session)
        if not name and not self.settled:
            return ModelState("loading", "Opening the library")
        return self.engine.state(name, trusted=trusted)

    def routed(self, session: Session, waiting: Callable[[str], None] | None = None) -> RoutedModel:
        """The session's library on its base model, both made ready if need be.

        Raises:
            ExplorerError: the library, its base model or both cannot be had, or do not fit.
        """
        holding = self.holding(session)
        self._check_room(session)
        base = self._base(holding, waiting)

        def progress(done: int, total: int) -> None:
            if waiting is not None:
                waiting(f"Preparing update {done:,} of {total:,} for routing")

        model = holding.routed(base, progress)
        self.sessions.sweep(keep=session)
        return model

    def _check_room(self, session: Session) -> None:
        """Refuse to route a visitor's library that alone is larger than all of them together may be."""
        needed, room = session.own.routing_nbytes if session.own is not None else 0, self.options.store_bytes
        if needed > room:
            raise LibraryError(
                "The library",
                f"needs {needed >> 20:,} MB to be routed, more than the {room >> 20:,} MB that a page may use",
                fix="Its map and clusters can be looked at; to route, open a part of it.",
            )

    def _base(self, holding: Holding, waiting: Callable[[str], None] | None) -> BaseModel:
        return self.engine.model(holding.base_model, trusted=holding.trusted, waiting=waiting)

    def start(self) -> None:
        """Open the shared library, load its base model and wake UMAP, all in the background.

        Where there is a stored run to look at, this waits for the first visitor's page to be drawn: on two cores the
        two would slow each other by half. Whoever presses a button earlier does not wait for it.
        """
        threading.Thread(target=self._prepare, name="prepare the page", daemon=True).start()

    def welcome(self) -> None:
        """A page was opened."""
        self._visited.set()

    def _prepare(self) -> None:
        if self.first is not None and self._visited.wait(PATIENCE):
            time.sleep(DRAWING)
        try:
            shared = self.shared()
            self.engine.model(shared.base_model, trusted=True)
            warm_up()
        except ExplorerError as error:
            if self._shared is None:  # a missing base model is told where it matters, beside the buttons
                self.shared_problem = error.sentence
        except Exception:
            LOG.exception("opening %s", self.options.library)
            self.shared_problem = "The library could not be opened; the reason was logged."

    def read(self, source: str) -> Holding:
        """Read the library that a user names, for the report; nothing is replaced yet.

        Raises:
            LibraryError: nothing can be opened under that name here.
        """
        source = source.strip()
        if not source:
            raise LibraryError("The library", "is not named", fix="Type a folder or a hub repository as owner/name.")
        if source in SAMPLE_SOURCES and self.options.library in SAMPLE_SOURCES:
            return Holding(self.shared().library, trusted=True, record=self.shared().record())
        allow_local = self.options.allow_local
        library = explorer.open_library(source, allow_local=allow_local)
        return Holding(library, trusted=allow_local and Path(source).expanduser().is_dir())


def read_first_view(folder: Path) -> FirstView | None:
    """The stored run in `folder`, None where there is none that can be read."""
    if not folder.is_dir():
        return None
    try:
        record = from_json((folder / "library.json").read_text(encoding="utf-8"))
        return FirstView(record, read_prompt_record(folder), stored_evaluation(SAMPLES / DEFAULT_SAMPLE))
    except (OSError, ValueError) as error:
        LOG.warning("the stored first view cannot be used: %s", error)
        return None
