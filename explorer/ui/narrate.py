"""Slow work told line by line: it runs in a thread while its handler yields what it says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

from explorer.ui.answers import status_html
from explorer.ui.pictures import Updates

T = TypeVar("T")
Say = Callable[[str], None]
TURN = 0.2


class Stopped(Exception):
    """The user pressed Stop."""


class _Work(Generic[T]):
    """One piece of work in its thread: its latest line, then its result or its error."""

    def __init__(self, work: Callable[[Say], T], discard: Callable[[T], None]) -> None:
        self.line = ""
        self.result: T | None = None
        self.error: BaseException | None = None
        self._discard, self._left = discard, False
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, args=(work,), name="narrated work", daemon=True)

    def _run(self, work: Callable[[Say], T]) -> None:
        try:
            result = work(self._say)
        except BaseException as error:
            self.error = error
            return
        with self._lock:
            left, self.result = self._left, result
        if left:
            self._discard(result)

    def _say(self, line: str) -> None:
        self.line = line

    def leave(self) -> None:
        """Nobody waits any more: what has come, or still comes, is discarded."""
        with self._lock:
            self._left, result = True, self.result
        if result is not None:
            self._discard(result)


def _forget(_: object) -> None:
    """Most results hold nothing that has to be given back."""


def narrated(
    first_line: str,
    work: Callable[[Say], T],
    stop: threading.Event | None = None,
    discard: Callable[[T], None] = _forget,
) -> Generator[Updates, None, T]:
    """Yield status lines until `work` is done; the value is its result.

    Args:
        first_line: said if it takes longer than a moment.
        work: gets a function that it may tell a line.
        stop: when set, the work is left behind to end by itself.
        discard: gets the result of work that was left behind, also when the page was closed.

    Raises:
        Stopped: `stop` was set.
    """
    running = _Work(work, discard)
    running.line = first_line
    running.thread.start()
    try:
        yield from _lines(running, stop)
    except BaseException:  # GeneratorExit among them: the page was closed
        running.leave()
        raise
    if running.error is not None:
        raise running.error
    return running.result  # type: ignore[return-value]


def _lines(running: _Work[T], stop: threading.Event | None) -> Iterator[Updates]:
    """What the work says, until it is done."""
    shown = ""
    while running.thread.is_alive():
        running.thread.join(TURN)
        if stop is not None and stop.is_set() and running.thread.is_alive():
            raise Stopped
        if running.thread.is_alive() and running.line != shown:
            shown = running.line
            yield {"status": status_html("busy", shown)}
