"""A worker: a process of this machine that trains the jobs it is sent and sends back how they go.

It ends with the process that started it, however that ends: nobody else would know that it is still writing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

import torch

from explorer.errors import ExplorerError
from explorer.models.base import BaseModel, load_base_model
from explorer.training.fresh_adapter import check_targets
from explorer.training.trainer import Job, train


@dataclass(frozen=True)
class Refused:
    """The job cannot be done."""

    error: ExplorerError | OSError


def serve(connection: Connection, base_model: str, threads: int) -> None:
    """Train what comes until the other side closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group; the parent decides
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    base: BaseModel | None = None
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        try:
            base = base or load_base_model(base_model)
            check_targets(base, job.recipe)
            for event in train(base, job):
                connection.send(event)
        except (ExplorerError, OSError) as error:
            connection.send(Refused(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
