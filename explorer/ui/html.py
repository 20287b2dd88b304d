"""Text from users, files and models made safe: for HTML, and for the small markup that plotly reads in its texts."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_INVISIBLE = {"\n": "↵", "\r": "␍", "\t": "⇥", "\u00a0": "⍽"}


def text(value: object) -> str:
    """`value` as HTML text; safe inside elements and inside quoted attributes."""
    return escape(str(value), quote=True)


def figure_text(value: object) -> str:
    """`value` for a label, tick or hover text of a plotly figure, which reads tags and entities."""
    return escape(" ".join(str(value).split()), quote=False).replace("$", "&#36;")


def shortened(value: str, length: int) -> str:
    """`value` cut to `length` characters, the last one an ellipsis where something is left out. Not escaped."""
    return value if len(value) <= length else value[: length - 1] + "…"


def short_name(name: str, length: int = 12) -> str:
    """`name` cut to `length` characters with the ellipsis inside, as names often begin alike. Not escaped."""
    if len(name) <= length:
        return name
    end = (length - 1) // 2
    return f"{name[: length - 1 - end]}…{name[len(name) - end :]}"


def visible(token: str) -> str:
    """A token's text with blanks and line ends as symbols where they would be lost, "∅" for nothing. Not escaped."""
    shown = "".join(_INVISIBLE.get(character, character) for character in token)
    if not shown:
        return "∅"
    stripped = shown.strip(" ")
    if not stripped:
        return "␣" * len(shown)
    left = len(shown) - len(shown.lstrip(" "))
    right = len(shown) - len(shown.rstrip(" "))
    # One blank before a word is what nearly every token has: it is shown as a blank by the strip's own spacing.
    return "␣" * (left if left > 1 else 0) + stripped + "␣" * right


def size_text(count: int) -> str:
    """A number of bytes in words."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def count_text(count: int, one: str, many: str = "") -> str:
    """`1 adapter`, `2 adapters`, with thousands set apart."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def remarks_html(remarks: Iterable[str]) -> str:
    """Sentences on a library as a whole, each a paragraph of its own."""
    return "".join(f'<p class="lx-verdict warn">{text(remark)}</p>' for remark in remarks)
