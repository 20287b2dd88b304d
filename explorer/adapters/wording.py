"""Text from outside made fit to be kept and shown: names, titles, values quoted in messages.

Files come with control characters, halves of surrogate pairs and marks that turn the writing direction round. Such
text breaks encodings and misleads readers, so it is cleaned once, where it enters. (Escaping for a page is the page's
business.)
"""

from __future__ import annotations

JOINERS = "\u200c\u200d"  # unprintable by Unicode, but needed by some scripts and by emoji


def shown(value: object, limit: int = 80) -> str:
    """A value from outside, short and on one line, for use in a message."""
    text = str(value)
    text = repr(text[: 4 * limit])[1:-1] if not text.isprintable() else text
    return text if len(text) <= limit else text[: limit - 3] + "..."


def clean_text(value: object, limit: int) -> str:
    """At most `limit` characters of a text of several lines; anything but text gives ""."""
    if not isinstance(value, str):
        return ""
    kept = (letter if letter in "\n\t" else _clean(letter) for letter in value[:limit].replace("\r\n", "\n"))
    return "".join(kept).strip()


def clean_line(value: object, limit: int) -> str:
    """At most `limit` characters of a text on one line; anything but text gives ""."""
    return " ".join(clean_text(value, limit).split())


def _clean(letter: str) -> str:
    if letter.isprintable() or letter in JOINERS:
        return letter
    return " " if letter.isspace() else "\ufffd"
