"""Slow work told line by line: it runs in a thread while its handler yields what it says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
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

    def __init__(self, work: Callable[[Say], T]) -> None:
        self.line = ""
        self.result: T | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(work,), name="narrated work", daemon=True)

    def _run(self, work: Callable[[Say], T]) -> None:
        try:
            self.result = work(self._say)
        except BaseException as error:
            self.error = error

    def _say(self, line: str) -> None:
        self.line = line


def narrated(
    first_line: str, work: Callable[[Say], T], stop: threading.Event | None = None
) -> Generator[Updates, None, T]:
    """Yield status lines until `work` is done; the value is its result.

    Args:
        first_line: said if it takes longer than a moment.
        work: gets a function that it may tell a line.
        stop: when set, the work is left behind to end by itself.

    Raises:
        Stopped: `stop` was set.
    """
    running = _Work(work)
    running.line = first_line
    running.thread.start()
    shown = ""
    while running.thread.is_alive():
        running.thread.join(TURN)
        if stop is not None and stop.is_set() and running.thread.is_alive():
            raise Stopped
        if running.thread.is_alive() and running.line != shown:
            shown = running.line
            yield {"status": status_html("busy", shown)}
    if running.error is not None:
        raise running.error
    return running.result  # type: ignore[return-value]
