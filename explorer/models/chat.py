"""From text to token ids: the model's chat template, or the plain text."""

from __future__ import annotations

from typing import Any

from explorer.adapters.wording import shown
from explorer.errors import PromptError


def has_chat_template(tokenizer: Any) -> bool:
    """Whether `chat=True` changes anything for this tokenizer."""
    return bool(getattr(tokenizer, "chat_template", None))


def chat_text(tokenizer: Any, text: str) -> str:
    """`text` as one user message in the chat template, ready for the model's answer to follow.

    Raises:
        PromptError: the template fails.
    """
    message = [{"role": "user", "content": text}]
    try:
        return str(tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False))
    except Exception as error:  # a template is a program that came with the model: it can fail in any way
        raise PromptError(
            "The model's chat template",
            f"cannot be used ({shown(error) or type(error).__name__})",
            fix="Choose plain text (--plain).",
        ) from error


def encode_prompt(tokenizer: Any, text: str, *, chat: bool, max_tokens: int | None = None) -> list[int]:
    """Token ids of a prompt, ready for the model's answer to follow.

    Args:
        tokenizer: a transformers tokenizer.
        text: what the user typed; it is always one user message, never part of the template.
        chat: apply the chat template (plain text where the tokenizer has none).
        max_tokens: the longest prompt allowed, in tokens.

    Raises:
        PromptError: the text is empty, no text, or longer than `max_tokens`, or the chat template fails.
    """
    if not _whole_text("Prompt", text).strip():
        raise PromptError("Prompt", "is empty", fix="Type a prompt first.")
    if chat and has_chat_template(tokenizer):
        ids = tokenizer(chat_text(tokenizer, text), add_special_tokens=False)["input_ids"]
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
    """Token ids of a reference answer with its end token (where there is one), as they follow :func:`encode_prompt`.

    Raises:
        PromptError: it is no text.
    """
    lead = "" if chat and has_chat_template(tokenizer) else "\n"
    ids = tokenizer(lead + _whole_text("Reference answer", target), add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [*ids] if end is None else [*ids, end]


def _whole_text(where: str, text: object) -> str:
    """`text` if it is text that can be encoded (halves of surrogate pairs cannot)."""
    if not isinstance(text, str):
        raise PromptError(where, expected="text", found=type(text).__name__)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PromptError(where, "is not valid text", fix="Type it again.") from None
    return text
