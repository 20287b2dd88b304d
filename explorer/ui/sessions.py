"""The open libraries of all browser sessions: each sees its own only, and what is not used is given back.

A session is found by the hash that Gradio gives to one opened page. The store is bounded twice: by the memory that the
libraries take together (the least recently used goes first) and by the time since a session was last used.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from explorer.errors import LibraryError
from explorer.ui.downloads import Download
from explorer.ui.holding import Holding
from explorer.ui.state import View

MOST_REMEMBERED = 1_000
MOST_SESSIONS = 500


class Run:
    """One routing or generation in progress: told to stop by one event, heard to be over by another."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.done = threading.Event()


class Session:
    """One opened page: its view, its own library (None: the shared one) and one that waits for a decision.

    Work may still end after the page was closed; a closed session takes no library any more.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.own: Holding | None = None
        self.candidate: Holding | None = None
        self.closed = False
        self.download: Download | None = None
        self.lock = threading.RLock()
        self._run = Run()
        self._run.done.set()

    def change(self, update: Callable[[View], View]) -> View:
        """Replace the view by what `update` makes of it; returns the new one."""
        with self.lock:
            self.view = update(self.view)
            return self.view

    def begin(self) -> Run:
        """A new run begins; the one before it ends."""
        with self.lock:
            self._run.stop.set()
            self._run = Run()
            return self._run

    def stop(self) -> Run:
        """Tell the latest run to stop."""
        with self.lock:
            self._run.stop.set()
            return self._run

    def offer(self, candidate: Holding | None) -> None:
        """Keep a newly read library for the user's decision, in place of an earlier one; closed, give it back."""
        with self.lock:
            old, self.candidate = self.candidate, None if self.closed else candidate
            unwanted = {old, candidate} - {self.candidate, None}
        for holding in unwanted:
            if holding is not None:
                holding.close()

    def adopt(self, expected: Holding) -> Holding | None:
        """Make the candidate the session's library and close the old one.

        None, and nothing is changed, where the candidate is not `expected` (any more).
        """
        with self.lock:
            if self.closed or self.candidate is not expected:
                return None
            old, self.own, self.candidate = self.own, expected, None
        if old is not None:
            old.close()
        return expected

    def drop_own(self) -> None:
        """Go back to the shared library."""
        with self.lock:
            old, self.own = self.own, None
        if old is not None:
            old.close()

    def hand_out(self, download: Download | None) -> None:
        """Keep a file for the visitor to fetch, in place of an earlier one; closed, remove it."""
        with self.lock:
            old, self.download = self.download, None if self.closed else download
        for file in {old, download} - {self.download, None}:
            if file is not None:
                file.close()

    @property
    def nbytes(self) -> int:
        """Memory of its libraries, of the text it routed and of the rows it gave."""
        libraries = sum(holding.nbytes for holding in (self.own, self.candidate) if holding is not None)
        routed, file = self.view.routed, self.view.evaluation.file
        libraries += file.nbytes if file is not None else 0
        if routed is None or self.view.stored:
            return libraries
        return libraries + routed.trace.weights.nbytes + routed.trace.scores.nbytes

    def close(self) -> None:
        """Stop what runs and give everything back."""
        with self.lock:
            self.closed = True
        self.stop()
        self.offer(None)
        self.hand_out(None)
        self.drop_own()
        self.view = View()


class Sessions:
    """All sessions of a page.

    Args:
        fresh: the view of a new session.
        most_bytes: bound on the libraries' memory.
        idle_seconds: how long an unused session lives.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        fresh: Callable[[], View],
        *,
        most_bytes: int,
        idle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fresh, self._most_bytes, self._idle, self._clock = fresh, most_bytes, idle_seconds, clock
        self._sessions: OrderedDict[str, tuple[Session, float]] = OrderedDict()
        self._expired: deque[str] = deque(maxlen=MOST_REMEMBERED)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: str) -> Session:
        """The session called `key`, made on first use.

        Raises:
            LibraryError: it was closed because it was not used for long, or to make room; the next call starts afresh.
        """
        self.sweep()
        with self._lock:
            if key in self._expired:
                self._expired.remove(key)
                raise LibraryError(
                    "This page's session",
                    "has expired and its library was closed",
                    fix="Reload the page, then open the library again.",
                )
            session = self._sessions[key][0] if key in self._sessions else Session(self._fresh())
            self._sessions[key] = (session, self._clock())
            self._sessions.move_to_end(key)
            return session

    def close(self, key: str) -> None:
        """The page was closed: free what its session holds."""
        with self._lock:
            session, _ = self._sessions.pop(key, (None, 0.0))
        if session is not None:
            session.close()

    def sweep(self, keep: Session | None = None) -> None:
        """Close sessions that were idle too long; then, while memory is short, those least recently used."""
        with self._lock:
            now = self._clock()
            gone = [key for key, (_, used) in self._sessions.items() if now - used > self._idle]
            alive = [key for key in self._sessions if key not in gone]
            total = sum(self._sessions[key][0].nbytes for key in alive)
            for key in alive:
                session = self._sessions[key][0]
                crowded = len(self._sessions) - len(gone) > MOST_SESSIONS
                if session is keep or not (crowded or (total > self._most_bytes and session.nbytes)):
                    continue
                total -= session.nbytes
                gone.append(key)
            closing = [(key, self._sessions.pop(key)[0]) for key in gone]
            self._expired.extend(key for key, session in closing if session.nbytes)
        for _, session in closing:
            session.close()

    def make_room(self, session: Session) -> None:
        """After `session` has read a library: free others for it, or refuse it where it alone is too large.

        Raises:
            LibraryError: the libraries of this session alone do not fit.
        """
        if session.nbytes > self._most_bytes:
            session.offer(None)
            raise LibraryError(
                "The library", f"needs more than the {self._most_bytes >> 20:,} MB that a page may use", fix="Split it."
            )
        self.sweep(keep=session)
