"""Options that are several names with commas between."""

from __future__ import annotations

from explorer.errors import SettingsError


def listed(names: str) -> tuple[str, ...]:
    """Comma-separated names.

    Raises:
        SettingsError: there are commas but no name.
    """
    found = tuple(name.strip() for name in names.split(",") if name.strip())
    if names and not found:
        raise SettingsError("A list of names", expected="names with commas between", found=repr(names[:40]))
    return found
