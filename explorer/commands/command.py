"""What a command is, and the parser that answers bad input with one sentence instead of a usage page."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from explorer.errors import SettingsError

Options = argparse.Namespace


class Parser(argparse.ArgumentParser):
    """argparse, except that bad input is a SettingsError and abbreviated options are not guessed at."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed together with its usage.

        Raises:
            SettingsError: always.
        """
        message = re.sub(r"\S{200,}", lambda word: f"{word[0][:40]}...", message)
        raise SettingsError(self.prog, f"{message} (see {self.prog} --help)")


@dataclass(frozen=True)
class Command:
    """One command: its name, its help line, its options and what runs it."""

    name: str
    help: str
    add_options: Callable[[Parser], None]
    run: Callable[[Options], None]


def whole(low: int, high: int) -> Callable[[str], int]:
    """An option's type: a whole number from `low` to `high`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, not {text[:40]!r}")
        return number

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """An option's type: a finite number from `low` to `high`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}, not {text[:40]!r}")
        return value

    return read


def text(value: str) -> str:
    """An option's type: text that is not empty."""
    if not value.strip():
        raise argparse.ArgumentTypeError("is empty")
    return any_text(value)


def any_text(value: str) -> str:
    """An option's type: text of whole characters (a terminal can pass broken ones), which may be empty."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not valid UTF-8 text") from None
    return value


def path(value: str) -> Path:
    """An option's type: a path that is not empty."""
    if "\0" in value:
        raise argparse.ArgumentTypeError("is not a path")
    try:
        return Path(text(value)).expanduser()
    except RuntimeError:  # ~somebody, of whom the system knows no home
        raise argparse.ArgumentTypeError(f"begins with the home of an unknown user: {value[:80]!r}") from None


SEED = whole(0, 2**32 - 1)
