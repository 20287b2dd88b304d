"""From a library's name on the command line to a library, and to one attached to its base model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import explorer
from explorer.commands.command import Parser, text
from explorer.commands.terminal import report
from explorer.errors import BaseModelError

if TYPE_CHECKING:
    from explorer.adapters.library import Library
    from explorer.models.base import BaseModel

LIBRARY_HELP = "'sample', a sample's name, a folder, a .zip file, or a hub repository"


def add_library(parser: Parser) -> None:
    """Add the argument that every command on a library begins with."""
    parser.add_argument("library", metavar="LIBRARY", type=text, help=LIBRARY_HELP)


def add_prompt(parser: Parser) -> None:
    """Add the prompt and how it is wrapped and run."""
    parser.add_argument("prompt", metavar="PROMPT", type=text, help="the text to run")
    parser.add_argument("--plain", action="store_true", help="no chat template: the text as it stands")
    parser.add_argument("--base", metavar="MODEL", type=text, help="base model, by default the one the library names")


def base_for(library: Library, named: str | None) -> BaseModel:
    """Load the base model that the library's adapters name, or the one named on the command line.

    Raises:
        BaseModelError: neither names one, or it cannot be had.
    """
    name = named or library.base_model
    if not name:
        raise BaseModelError(library.title, "names no base model", fix="Give one with --base MODEL.")
    return explorer.load_base_model(name, report=report)
