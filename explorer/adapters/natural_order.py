"""The order in which people count: `layers.2` before `layers.10`."""

from __future__ import annotations

import re


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts `layers.2` before `layers.10`."""
    return tuple(
        (0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part
    )
