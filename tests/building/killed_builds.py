"""A build that is killed again and again, as a program: forks a process for each run, which has torch loaded already.

Usage: killed_builds.py TASKS BASE FOLDER SEED KILLS. Leaves FOLDER/undisturbed, FOLDER/killed and FOLDER/interrupted,
and prints the exit codes of the runs that were not killed, and how often there was a checkpoint after a kill.
"""

from __future__ import annotations

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


def run() -> None:
    warnings.simplefilter("ignore")
    tasks, base, folder = sys.argv[1:4]
    chance, kills = random.Random(int(sys.argv[4])), int(sys.argv[5])

    def command(name: str) -> list[str]:
        return ["build", tasks, "--base", base, "--output", str(Path(folder) / name), *OPTIONS]

    started = time.monotonic()
    codes = [ended(start(command("undisturbed")))]
    span = time.monotonic() - started
    killed, checkpoints = [], 0
    for _ in range(kills):
        process = start(command("killed"))
        time.sleep(chance.uniform(0.1, 0.5) * span)
        os.kill(process, signal.SIGKILL)
        killed.append(ended(process))
        checkpoints += bool(list((Path(folder) / "killed").glob("*/.*.checkpoint.safetensors")))
    codes.append(ended(start(command("killed"))))
    process = start(command("interrupted"))
    time.sleep(0.5 * span)
    os.kill(process, signal.SIGINT)
    interrupted = ended(process)
    codes.append(ended(start(command("interrupted"))))
    print(json.dumps({"codes": codes, "killed": killed, "interrupted": interrupted, "checkpoints": checkpoints}))


if __name__ == "__main__":
    run()
