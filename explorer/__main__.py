"""`python -m explorer`: the page, and the same work as commands. Bad input: one sentence, exit code 2."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from io import TextIOWrapper

from explorer.commands import (
    build,
    cluster,
    evaluate,
    export,
    generate,
    inspect,
    learn,
    record,
    results,
    route,
    tasks,
    train,
    ui,
)
from explorer.commands.command import Options, Parser
from explorer.commands.terminal import printable
from explorer.errors import ExplorerError

MODULES = (ui, inspect, cluster, route, generate, evaluate, results, learn, export, tasks, train, build, record)
COMMANDS = [module.COMMAND for module in MODULES]
BAD_INPUT, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 when it worked and 2 when the input was bad."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words = ["ui", *words]
    try:
        options = _parse(words)
        options.run(options)
    except ExplorerError as error:
        return _refuse(error.sentence)
    except BrokenPipeError:  # the reader of a pipe has seen enough; a second failure at exit would be noise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _refuse(f"{error.filename or 'The system'}: {error.strerror or error}.")
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parse(words: list[str]) -> Options:
    parser = Parser(prog="python -m explorer", description="See into a library of LoRA adapters.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        sub.set_defaults(run=command.run)
        command.add_options(sub)
    options, rest = parser.parse_known_args(words)
    if rest:
        _take_more_routers(parser, options, words, rest)
    return options


def _take_more_routers(parser: Parser, options: Options, words: list[str], rest: list[str]) -> None:
    """`--router base arrow`: argparse hands back the second name, as it cannot know that it is no argument."""
    given = getattr(options, "router", None)
    if not isinstance(given, list) or not given or any(word.startswith("-") for word in rest):
        parser.error(f"does not know {' '.join(rest)}")
    places = {word.removeprefix("--router="): place for place, word in enumerate(words)}
    options.router = sorted([*given, *rest], key=lambda name: places[name])


def _refuse(sentence: str) -> int:
    print(printable(sentence), file=sys.stderr)
    return BAD_INPUT


def _start() -> int:
    """Settings of this process: what libraries would say on stderr is not for users, and odd characters print."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return main()
    except SystemExit as ended:  # --help, and a page that was told to end
        return ended.code if isinstance(ended.code, int) else 0


def _end(code: int) -> None:
    """End the process; where work goes on in the background, without taking the interpreter down under it.

    A thread inside torch or UMAP that comes back to an interpreter which is being taken down aborts the process.
    """
    if threading.active_count() > 1:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _end(_start())
