"""`record LIBRARY PROMPT --output DIR`: the stored, real run that the page opens with."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import explorer
from explorer.commands.command import Command, Options, Parser, path, text, whole
from explorer.commands.files import resolved
from explorer.commands.opening import add_library, add_prompt, base_for
from explorer.commands.terminal import say
from explorer.errors import SettingsError

if TYPE_CHECKING:
    from explorer.adapters.library import Library
    from explorer.models.base import BaseModel
    from explorer.records.prompt_record import PromptRecord

LIBRARY_FILE = "library.json"
RECORD_FILES = frozenset({LIBRARY_FILE, "prompt.json", "prompt.npz"})


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    add_library(parser)
    add_prompt(parser)
    parser.add_argument("--output", metavar="DIR", type=path, required=True, help="folder that takes the record")
    parser.add_argument(
        "--adapter", metavar="NAME", type=text, help="the single adapter to answer (the one Arrow weighs most)"
    )
    parser.add_argument("--max-new-tokens", metavar="N", type=whole(1, 4096), default=40, help="longest answer (40)")


def run(options: Options) -> None:
    """Analyse the library, route and answer the prompt, and write both records."""
    options.output = resolved(options.output)  # a link to an older record stays a link
    _check_place(options.output)
    with explorer.open_library(options.library) as library:
        if options.adapter:
            explorer.routers.Single(options.adapter).check(tuple(adapter.name for adapter in library.routable))
        base = base_for(library, options.base)
        prompt = prompt_record(base, library, options)
        _write(library, prompt, options.output)
    for answer in prompt.answers:
        say(f"{answer.router}: {answer.text}")


def prompt_record(base: BaseModel, library: Library, options: Options) -> PromptRecord:
    """Route the prompt with Arrow (top 4) and answer it greedily with base, Arrow, uniform and one adapter alone."""
    from explorer.models.events import Finished
    from explorer.records.prompt_record import Answer, PromptRecord
    from explorer.routers import Arrow, Base, Single, Uniform

    chat = not options.plain
    with explorer.RoutedModel(base, library) as routed:
        trace = routed.route(options.prompt, Arrow(), chat=chat)
        alone = options.adapter or trace.names[int(trace.weights[:, list(trace.typed)].sum(axis=(0, 1)).argmax())]
        routers = (Base(), Arrow(), Uniform(), Single(alone))
        events = routed.generate(options.prompt, routers, chat=chat, max_new_tokens=options.max_new_tokens)
        ended = {event.row: event for event in events if isinstance(event, Finished)}
    answers = tuple(
        Answer(router.label, ended[row].text, ended[row].tokens, round(ended[row].seconds, 3))
        for row, router in enumerate(routers)
    )
    return PromptRecord(options.prompt, chat, trace, answers, library.content_hash, base.name)


def _write(library: Library, prompt: PromptRecord, folder: Path) -> None:
    """Write into a folder beside `folder` and rename it into place, an older record making way."""
    from explorer.records.library_record import library_record, to_json
    from explorer.records.prompt_record import write_prompt_record

    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:40]}."))
    try:
        (scratch / LIBRARY_FILE).write_text(to_json(library_record(library)) + "\n", encoding="utf-8")
        write_prompt_record(prompt, scratch)
        scratch.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_place(folder: Path) -> None:
    """Refuse to write where the parent folder is missing, and to replace anything but an older record.

    Raises:
        SettingsError: as said.
    """
    if not folder.parent.is_dir():
        raise SettingsError("--output", f"lies in {folder.parent}, which is not a folder", fix="Make the folder first.")
    if not folder.exists():
        return
    if not folder.is_dir() or {item.name for item in folder.iterdir()} - RECORD_FILES:
        raise SettingsError("--output", f"{folder} is there and is no record", fix="Name a new folder.")


COMMAND = Command("record", "store a real run for the page to open with", add_options, run)
