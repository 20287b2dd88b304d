"""Errors people can act on: where it happened, what was expected, what was found, what to do.

Everything the core refuses is an :class:`ExplorerError`. Its text is one readable sentence or two; the page
puts it on the status line and the command line prints it and exits with code 2. Tracebacks are for bugs only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial


class ExplorerError(Exception):
    """Something that the user can put right.

    Args:
        where: the file, adapter, tensor, field or option concerned.
        problem: what is wrong, as a clause ("is not a safetensors file"); may be empty when `expected`/`found` say it.
        expected: what would have been accepted.
        found: what was there instead.
        fix: the next step for the user.
    """

    def __init__(self, where: str, problem: str = "", *, expected: str = "", found: str = "", fix: str = "") -> None:
        self.where, self.problem, self.expected, self.found, self.fix = where, problem, expected, found, fix
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """The whole message in words, on one line."""
        parts = [f"{self.where}: {self.problem}" if self.problem else f"{self.where}:"]
        if self.expected and self.found:
            parts.append(f"expected {self.expected}, found {self.found}")
        elif self.expected:
            parts.append(f"expected {self.expected}")
        elif self.found:
            parts.append(f"found {self.found}")
        text = (", " if self.problem else " ").join(parts).rstrip(". ")
        whole = f"{text}. {self.fix}" if self.fix else f"{text}."
        return " ".join(whole.split())

    def __reduce__(self) -> tuple[Callable[..., ExplorerError], tuple[str, str]]:
        """How it travels to another process: with its parts, not as one sentence."""
        return partial(type(self), expected=self.expected, found=self.found, fix=self.fix), (self.where, self.problem)


class AdapterFormatError(ExplorerError):
    """An adapter folder, its configuration or its tensors cannot be used as LoRA."""


class LibraryError(ExplorerError):
    """A library (folder, zip, repository) cannot be opened, or does not fit what is asked of it."""


class BaseModelError(ExplorerError):
    """The base model cannot be had, or does not fit the library."""


class PromptError(ExplorerError):
    """The prompt cannot be used: empty, or too long for the model."""


class SettingsError(ExplorerError):
    """A setting or option is out of its bounds, or names something unknown."""


class TaskDataError(ExplorerError):
    """A task file is missing, or one of its rows is not usable."""


class EvaluationError(ExplorerError):
    """An evaluation cannot be made, or a stored one cannot be read."""


class LearningError(ExplorerError):
    """A router cannot learn from these examples, or what one learned cannot be read."""
