"""A build that is killed again and again, as a program: forks a process for each run, which has torch loaded already.

Usage: killed_builds.py TASKS BASE FOLDER SEED KILLS. Leaves FOLDER/undisturbed, FOLDER/killed and FOLDER/interrupted,
and prints the exit codes of the runs that were not killed, and how often there was a checkpoint after a kill.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import sklearn.cluster  # noqa: F401 - loaded here, once for all runs
import transformers.models.llama.modeling_llama  # noqa: F401

import explorer.training.build
import explorer.training.local_engine  # noqa: F401
from explorer.__main__ import main

OPTIONS = ["--preset", "sample", "--rank", "2", "--learning-rate", "0.02", "--dropout", "0.2", "--clusters", "2"]
OPTIONS += ["--no-mixed-precision", "--max-rows", "24", "--checkpoint-seconds", "0"]


def start(arguments: list[str]) -> int:
    """One run in a process of its own."""
    process = os.fork()
    if process == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os._exit(main(arguments))
    return process


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def wait_for_a_step(folder: Path) -> None:
    """Until there is a checkpoint that was not there before, or for a minute."""
    began, until = time.time(), time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.001)
        for path in folder.glob("*/.*.checkpoint.safetensors"):
            with contextlib.suppress(OSError):  # it is replaced and removed all the time
                if path.stat().st_mtime > began:
                    return


def run() -> None:
    warnings.simplefilter("ignore")
    tasks, base, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    chance, kills = random.Random(int(sys.argv[4])), int(sys.argv[5])

    def command(name: str) -> list[str]:
        return ["build", tasks, "--base", base, "--output", str(folder / name), *OPTIONS]

    codes = [ended(start(command("undisturbed")))]
    killed, checkpoints = [], 0
    for number in range(kills):
        process = start(command("killed"))
        if number % 3 < 2:
            wait_for_a_step(folder / "killed")
        time.sleep(chance.uniform(0.0, 0.05))
        os.kill(process, signal.SIGKILL)
        killed.append(ended(process))
        checkpoints += bool(list((folder / "killed").glob("*/.*.checkpoint.safetensors")))
    codes.append(ended(start(command("killed"))))
    process = start(command("interrupted"))
    wait_for_a_step(folder / "interrupted")
    os.kill(process, signal.SIGINT)
    interrupted = ended(process)
    codes.append(ended(start(command("interrupted"))))
    print(json.dumps({"codes": codes, "killed": killed, "interrupted": interrupted, "checkpoints": checkpoints}))


if __name__ == "__main__":
    run()
