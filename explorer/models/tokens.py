"""A prompt as the model sees it and as a reader should: ids, readable pieces, and what the user really typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.models.chat import encode_prompt, has_chat_template


@dataclass(frozen=True)
class PromptTokens:
    """Token ids with their texts; `typed` is false for tokens that the chat template added."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    typed: tuple[bool, ...]


def read_prompt(tokenizer: Any, text: str, *, chat: bool, max_tokens: int) -> PromptTokens:
    """Encode a prompt (see :func:`explorer.models.chat.encode_prompt`) and keep track of the user's own part."""
    ids = tuple(encode_prompt(tokenizer, text, chat=chat, max_tokens=max_tokens))
    typed = (True,) * len(ids)
    if chat and has_chat_template(tokenizer):
        typed = _typed(tokenizer, text, ids)
    return PromptTokens(ids, tuple(piece(tokenizer, token) for token in ids), typed)


def piece(tokenizer: Any, token: int) -> str:
    """The text of one token by itself; a part of a character shows as the replacement character."""
    return str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _typed(tokenizer: Any, text: str, ids: tuple[int, ...]) -> tuple[bool, ...]:
    """Which tokens overlap the user's text in the rendered template (all, where that cannot be told)."""
    if not tokenizer.is_fast:
        return (True,) * len(ids)
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
    )
    body = text if text in rendered else text.strip()
    start = rendered.rfind(body)
    offsets = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if start < 0 or len(offsets) != len(ids):
        return (True,) * len(ids)
    end = start + len(body)
    return tuple(first < end and last > start and last > first for first, last in offsets)


class TextStream:
    """Turns token ids into text as they come, holding back characters that are not complete yet."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self.text = ""

    def push(self, token: int) -> str:
        """Add one token; returns what it adds to the text."""
        self._ids.append(token)
        whole = self._decode()
        if whole.endswith("\ufffd") or not whole.startswith(self.text):
            return ""
        return self._take(whole)

    def finish(self) -> str:
        """Whatever was held back."""
        return self._take(self._decode())

    def _take(self, whole: str) -> str:
        added = whole[len(self.text) :]
        self.text = whole
        return added

    def _decode(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
