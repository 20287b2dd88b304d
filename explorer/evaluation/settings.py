"""How an evaluation is made: every setting, validated at birth and kept in its record."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.errors import SettingsError

MOST_ROWS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings that decide what an evaluation finds.

    Args:
        rows: of each task's test part, from its beginning.
        max_new_tokens: longest greedy answer.
        answers: write greedy answers (for exact match and ROUGE-L); without them only the loss is measured.
        chat: wrap prompts in the chat template.

    Raises:
        SettingsError: a number is out of its bounds.
    """

    rows: int = 32
    max_new_tokens: int = 32
    answers: bool = True
    chat: bool = True

    def __post_init__(self) -> None:
        for name, value, high in (("rows", self.rows, MOST_ROWS), ("max_new_tokens", self.max_new_tokens, 4096)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
                raise SettingsError(name, expected=f"a whole number from 1 to {high}", found=repr(value)[:40])

    def as_dict(self) -> dict[str, object]:
        """What all cells of one record share, as plain data; the rows of each task stand beside the task."""
        return {"max_new_tokens": self.max_new_tokens, "chat": self.chat}
