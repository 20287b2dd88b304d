"""From text to token ids: the model's chat template, or the plain text."""

from __future__ import annotations

from typing import Any

from explorer.errors import PromptError


def has_chat_template(tokenizer: Any) -> bool:
    """Whether `chat=True` changes anything for this tokenizer."""
    return bool(getattr(tokenizer, "chat_template", None))


def encode_prompt(tokenizer: Any, text: str, *, chat: bool, max_tokens: int | None = None) -> list[int]:
    """Token ids of a prompt, ready for the model's answer to follow.

    Args:
        tokenizer: a transformers tokenizer.
        text: what the user typed; it is always one user message, never part of the template.
        chat: apply the chat template (plain text where the tokenizer has none).
        max_tokens: the longest prompt allowed, in tokens.

    Raises:
        PromptError: the text is empty, or longer than `max_tokens`.
    """
    if not text.strip():
        raise PromptError("Prompt", "is empty", fix="Type a prompt first.")
    if chat and has_chat_template(tokenizer):
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer(text)["input_ids"]
    if not ids:
        raise PromptError("Prompt", "has no token that this model knows", fix="Type another prompt.")
    if max_tokens is not None and len(ids) > max_tokens:
        raise PromptError(
            "Prompt", "is too long", expected=f"at most {max_tokens} tokens", found=str(len(ids)), fix="Shorten it."
        )
    return list(ids)


def encode_answer(tokenizer: Any, target: str, *, chat: bool) -> list[int]:
    """Token ids of a reference answer with its end token (where there is one), as they follow :func:`encode_prompt`."""
    lead = "" if chat and has_chat_template(tokenizer) else "\n"
    ids = tokenizer(lead + target, add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [*ids] if end is None else [*ids, end]
