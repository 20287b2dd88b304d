"""Training on a Ray cluster: one task per adapter, GPUs as resources, retries where a worker is lost.

The output folder must be one that every machine of the cluster sees: adapters appear there, and a task that is tried
again goes on from the checkpoint there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, final

from explorer.adapters.wording import shown
from explorer.errors import ExplorerError, SettingsError
from explorer.training.engine import LOST_WORKERS, Engine, longest_first, threads_of
from explorer.training.events import AdapterTrained, StepDone
from explorer.training.trainer import Job

PATIENCE = 10.0  # seconds for the cluster to answer
POLL = 0.5  # seconds between two looks at what has come in
CORES_OF_A_TASK = 4  # where nobody says how many tasks there may be


@final
class RayEngine(Engine):
    """Ray tasks, on the cluster that `RAY_ADDRESS` names, or on this machine.

    Args:
        base_model: its name; each task loads it.
        workers: how many tasks at once where there are no GPUs (with GPUs: one for each GPU).

    Raises:
        SettingsError: Ray is not installed, or cannot be started.
    """

    def __init__(self, base_model: str, workers: int | None = None) -> None:
        self._base_model = base_model
        self._ray = _import_ray()
        self._own = not self._ray.is_initialized()
        if self._own:
            self._start(workers)
        resources = self._ray.cluster_resources()
        self._gpus = resources.get("GPU", 0) >= 1
        cores = int(resources.get("CPU", 1))
        self._cores = max(1, cores // (workers or max(1, cores // CORES_OF_A_TASK)))

    def _start(self, workers: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = os.environ.get("RAY_ADDRESS", "")
        _check_reachable(address)
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        here = {} if address else {"num_cpus": workers, "include_dashboard": False}
        try:
            self._ray.init(**quiet, **here)
        except Exception as error:  # Ray raises many kinds when it cannot start or find a cluster
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise SettingsError("Ray", f"cannot be started ({reason})", fix="Check RAY_ADDRESS.") from error

    def run(self, jobs: Sequence[Job]) -> Generator[StepDone | AdapterTrained]:
        """Train the jobs, the longest first."""
        ray = self._ray
        if not jobs:
            return
        mailbox = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Mailbox).remote()
        resources = {"num_gpus": 1} if self._gpus else {"num_cpus": self._cores}
        task = ray.remote(max_retries=LOST_WORKERS, **resources)(train_remotely)
        threads = threads_of(1) if self._gpus else self._cores
        pending = {}
        for job in longest_first(jobs):
            absolute = replace(job, output=job.output.absolute())  # a task has a working folder of its own
            pending[task.remote(absolute, self._base_model, threads, mailbox)] = job.chosen.name
        try:
            while pending:
                ready, _ = ray.wait(list(pending), timeout=POLL)
                yield from ray.get(mailbox.take.remote())
                for reference in ready:
                    yield self._result(reference, pending.pop(reference))
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)
            ray.kill(mailbox)

    def _result(self, reference: Any, name: str) -> AdapterTrained:
        try:
            result: AdapterTrained | ExplorerError | OSError = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:  # what the task itself raised: a bug, to be seen as it is
            raise
        except self._ray.exceptions.RayError as error:
            raise _lost(name, error) from error
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._own and self._ray.is_initialized():
            self._ray.shutdown()


class Mailbox:
    """What the tasks tell on their way; an actor of the cluster."""

    def __init__(self) -> None:
        self._events: list[StepDone] = []

    def put(self, event: StepDone) -> None:
        """Add one event."""
        self._events.append(event)

    def take(self) -> list[StepDone]:
        """All events since the last call."""
        events, self._events = self._events, []
        return events


def train_remotely(job: Job, base_model: str, threads: int, mailbox: Any) -> AdapterTrained | ExplorerError | OSError:
    """Train one adapter in a task of the cluster."""
    import torch  # noqa: PLC0415 - in the task's own process

    from explorer.models.base import load_base_model  # noqa: PLC0415
    from explorer.training.fresh_adapter import check_targets  # noqa: PLC0415
    from explorer.training.trainer import train  # noqa: PLC0415

    ray = _import_ray()
    torch.set_num_threads(threads)
    told: Any = []
    try:
        if not job.output.is_dir():
            raise SettingsError(
                str(job.output),
                "is not seen by a machine of the cluster",
                fix="Choose a folder that all of them share.",
            )
        base = load_base_model(base_model)
        check_targets(base, job.recipe)
        for event in train(base, job):
            if isinstance(event, AdapterTrained):
                ray.get(told)  # they arrive in order: when the last is there, all are
                return event
            told = mailbox.put.remote(event)
    except (ExplorerError, OSError) as error:
        return error
    raise AssertionError("a training ends with its adapter")


def _lost(name: str, error: Exception) -> SettingsError:
    return SettingsError(
        name,
        f"lost its worker {LOST_WORKERS + 1} times ({type(error).__name__})",
        fix="Memory may be short: use fewer workers, and run the same command again.",
    )


def _check_reachable(address: str) -> None:
    """Refuse a `host:port` where nothing listens at once; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # "auto", "local", "ray://...": Ray knows what to do
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise SettingsError(
            "Ray", f"cannot be reached at {shown(address)}", fix="Start it there, or correct RAY_ADDRESS."
        ) from error


def _import_ray() -> Any:
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.exceptions  # noqa: PLC0415
    except ImportError as error:
        fix = "Install it: pip install 'lora-library-explorer[ray]'."
        raise SettingsError("Engine 'ray'", "needs Ray, which is not installed", fix=fix) from error
    return ray
