"""A prompt as the model sees it and as a reader should: ids, readable pieces, and what the user really typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.models.chat import chat_text, encode_prompt, has_chat_template

INCOMPLETE = "\ufffd"  # what a decoder gives for a part of a character
PROBE = "\ue000\ue001"  # private use: in no template, so it shows where a user's text goes
WORD_START = "\u2581"  # sentencepiece's mark for a space before a word, lost when a token is decoded alone

CONTEXT = 8  # tokens


@dataclass(frozen=True)
class PromptTokens:
    """Token ids with their texts; `typed` is false for tokens that the chat template or the tokenizer added."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    typed: tuple[bool, ...]


def read_prompt(tokenizer: Any, text: str, *, chat: bool, max_tokens: int) -> PromptTokens:
    """Encode a prompt (see :func:`explorer.models.chat.encode_prompt`) and keep track of the user's own part."""
    ids = tuple(encode_prompt(tokenizer, text, chat=chat, max_tokens=max_tokens))
    pieces = tuple(piece(tokenizer, token) for token in ids)
    return PromptTokens(ids, pieces, _typed(tokenizer, text, ids, chat and has_chat_template(tokenizer)))


def piece(tokenizer: Any, token: int) -> str:
    """The text of one token by itself, its leading space kept; a part of a character shows as U+FFFD."""
    text = str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    symbol = str(tokenizer.convert_ids_to_tokens(token) or "")
    return f" {text}" if symbol.startswith(WORD_START) and not text.startswith(" ") else text


def _typed(tokenizer: Any, text: str, ids: tuple[int, ...], chat: bool) -> tuple[bool, ...]:
    """Which tokens overlap the user's text (all, where that cannot be told)."""
    everything = (True,) * len(ids)
    if not tokenizer.is_fast:
        return everything
    whole, start, end = text, 0, len(text)
    if chat:
        whole = chat_text(tokenizer, text)
        start = chat_text(tokenizer, PROBE).find(PROBE)
        body = next((body for body in (text, text.strip()) if start >= 0 and whole.startswith(body, start)), None)
        if body is None:
            return everything
        end = start + len(body)
    offsets = tokenizer(whole, add_special_tokens=not chat, return_offsets_mapping=True)["offset_mapping"]
    if len(offsets) != len(ids):
        return everything
    return tuple(first < end and start < last and first < last for first, last in offsets)


class TextStream:
    """Turns token ids into text as they come, holding back characters that are not complete yet.

    Only the tokens since the last whole character are decoded again, after a few that give them their context
    (whether a word starts with a space depends on what stands before it).
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []
        self._held: list[int] = []
        self.text = ""

    def push(self, token: int) -> str:
        """Add one token; returns what it adds to the text."""
        self._held.append(token)
        added = self._added()
        return "" if added.endswith(INCOMPLETE) else self._take(added)

    def finish(self) -> str:
        """Whatever was held back."""
        return self._take(self._added()) if self._held else ""

    def _take(self, added: str) -> str:
        self.text += added
        self._context, self._held = (self._context + self._held)[-CONTEXT:], []
        return added

    def _added(self) -> str:
        return self._decode(self._context + self._held)[len(self._decode(self._context)) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
