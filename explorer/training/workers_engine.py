"""Training on this machine in several processes, each with its share of the cores."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import final

from explorer.errors import SettingsError
from explorer.training.engine import LOST_WORKERS, Engine, longest_first, threads_of
from explorer.training.events import AdapterTrained, StepDone
from explorer.training.trainer import Job
from explorer.training.worker import Refused, serve

GOODBYE = 5.0  # seconds for a worker to end


@dataclass
class _Worker:
    """A process, the pipe to it, and the job it has."""

    process: SpawnProcess
    pipe: Connection
    job: Job | None = None


@final
class WorkersEngine(Engine):
    """Some processes that take one adapter after another.

    Args:
        base_model: its name; each process loads it.
        workers: how many.
    """

    def __init__(self, base_model: str, workers: int) -> None:
        self._base_model = base_model
        self._count = workers
        self._workers: list[_Worker] = []

    def run(self, jobs: Sequence[Job]) -> Generator[StepDone | AdapterTrained]:
        """Train the jobs, the longest first. A job whose worker dies is given to a new one, from its checkpoint."""
        waiting, lost = deque(longest_first(jobs)), Counter[str]()
        try:
            while waiting or any(worker.job for worker in self._workers):
                self._hand_out(waiting)
                for worker in self._with_news():
                    try:
                        event = worker.pipe.recv()
                    except (EOFError, OSError):
                        waiting.appendleft(self._bury(worker, lost))
                        continue
                    if isinstance(event, Refused):
                        worker.job = None
                        raise event.error
                    if isinstance(event, AdapterTrained):
                        worker.job = None
                    yield event
        finally:
            if any(worker.job for worker in self._workers):  # closed in the middle: nobody listens any more
                self.close()

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.job:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(GOODBYE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def _hand_out(self, waiting: deque[Job]) -> None:
        """Give each idle worker a job; start workers while there are more jobs than idle ones."""
        while waiting and len(self._workers) < self._count and all(worker.job for worker in self._workers):
            self._workers.append(self._start())
            self._give(self._workers[-1], waiting)
        for worker in self._workers:
            if waiting and worker.job is None:
                self._give(worker, waiting)

    def _give(self, worker: _Worker, waiting: deque[Job]) -> None:
        worker.job = waiting.popleft()
        with contextlib.suppress(OSError):  # it died: the end of its pipe will say so
            worker.pipe.send(worker.job)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._base_model, threads_of(self._count)), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _with_news(self) -> list[_Worker]:
        ready = wait([worker.pipe for worker in self._workers if worker.job])
        return [worker for worker in self._workers if worker.pipe in ready]

    def _bury(self, worker: _Worker, lost: Counter[str]) -> Job:
        """Take a dead worker out of the list; its job is to be done by another."""
        job = worker.job
        assert job is not None
        worker.pipe.close()
        worker.process.join(GOODBYE)
        self._workers.remove(worker)
        lost[job.chosen.name] += 1
        if lost[job.chosen.name] > LOST_WORKERS:
            code = worker.process.exitcode
            raise SettingsError(
                job.chosen.name,
                f"lost its worker {LOST_WORKERS + 1} times (exit code {code})",
                fix="Memory may be short: use fewer workers, and run the same command again.",
            )
        return job
