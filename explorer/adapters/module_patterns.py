r"""PEFT's `rank_pattern` and `alpha_pattern`: module name -> value, where a name may be a regular expression.

PEFT takes the first key for which `re.match(rf"(.*\.)?({key})$", module)` holds (`get_pattern_key`). Nearly all keys
are plain module names or their ends; these are looked up. The rest are matched as expressions against the clock, since
somebody else wrote them and a few characters suffice to keep a matcher busy for ever.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import regex

from explorer.adapters.wording import shown
from explorer.errors import AdapterFormatError

MAX_NAMES = 20_000
MAX_EXPRESSIONS = 50
MAX_LENGTH = 300
SECONDS = 1.0
PLAIN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
# no braces: a few nested repeat counts compile to gigabytes
EXPRESSION = re.compile(r"[\w.\\|()\[\]*+?^$-]+", re.ASCII)


@dataclass(frozen=True)
class _Expression:
    position: int
    matcher: Any
    value: float


@dataclass(frozen=True)
class ModulePatterns:
    """Patterns in the order of the configuration, made by :func:`read_patterns`."""

    where: str
    names: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    expressions: tuple[_Expression, ...] = ()

    def values(self, modules: Iterable[str], default: float) -> dict[str, float]:
        """The value of each module: that of the first pattern that matches its name or its end, else `default`.

        Raises:
            AdapterFormatError: the expressions take too long.
        """
        deadline = time.monotonic() + SECONDS
        return {module: self._value(module, default, deadline) for module in modules}

    def _value(self, module: str, default: float, deadline: float) -> float:
        parts = module.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts))]
        known = min((self.names[end] for end in (f"^{module}", *ends) if end in self.names), default=None)
        for expression in self.expressions:
            if known is not None and known[0] < expression.position:
                break
            if self._matches(expression, module, deadline):
                return expression.value
        return default if known is None else known[1]

    def _matches(self, expression: _Expression, module: str, deadline: float) -> bool:
        try:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            return expression.matcher.fullmatch(module, timeout=left) is not None
        except TimeoutError as error:
            raise AdapterFormatError(
                self.where, "has an expression that takes too long to match", fix="Write the modules' names out."
            ) from error


def read_patterns(where: str, values: Mapping[str, float]) -> ModulePatterns:
    """Sort the keys of a pattern field into plain names and expressions.

    Args:
        where: the field's name, for messages.
        values: pattern -> value, the values already checked.

    Raises:
        AdapterFormatError: too many patterns, or one that is not supported.
    """
    names: dict[str, tuple[int, float]] = {}
    expressions = []
    for position, (key, value) in enumerate(values.items()):
        anchored = key.startswith("^")
        plain = key.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if PLAIN.fullmatch(plain):
            names.setdefault(f"^{plain}" if anchored else plain, (position, value))
        else:
            expressions.append(_Expression(position, _compiled(where, key), value))
        if len(names) > MAX_NAMES or len(expressions) > MAX_EXPRESSIONS:
            raise AdapterFormatError(where, "has too many patterns", found=f"{len(values)}")
    return ModulePatterns(where, names, tuple(expressions))


def _compiled(where: str, key: str) -> Any:
    body = key.replace("(?:", "(")
    if len(key) > MAX_LENGTH or "(?" in body or not EXPRESSION.fullmatch(body):
        raise AdapterFormatError(where, "has a pattern that is not supported", found=shown(key))
    try:
        re.compile(key)  # PEFT reads it with `re`: what is no expression there is none here
        return regex.compile(rf"(.*\.)?({key})", regex.VERSION0)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise AdapterFormatError(where, "has a pattern that is not a regular expression", found=shown(key)) from error
