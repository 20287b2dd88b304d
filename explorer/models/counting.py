"""How long texts are in a base model's tokens, without loading the model."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.errors import BaseModelError
from explorer.models.base import find_base_model
from explorer.models.bundled import Report

TEXTS_AT_ONCE = 1_000


def token_counts(name: str, texts: Sequence[str], report: Report) -> list[int]:
    """The number of tokens of each text by itself, without special tokens.

    Args:
        name: of a base model, as for :func:`~explorer.models.base.load_base_model`.
        texts: any number of them.
        report: called with one line as each slow step begins.

    Raises:
        BaseModelError: the model cannot be found, or its tokenizer not be read.
    """
    folder = find_base_model(name, report=report)
    import transformers  # noqa: PLC0415 - seconds to import

    report(f"Counting the tokens of {len(texts)} texts")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds for files it cannot use
        raise BaseModelError(name, "has no tokenizer that can be read", fix="Check the model's files.") from error
    counts: list[int] = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        batch = list(texts[start : start + TEXTS_AT_ONCE])
        counts += [len(ids) for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]]
    return counts
