"""What was scored already, on disk: one small file for each method and task, so that a stopped evaluation goes on."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explorer.errors import EvaluationError
from explorer.evaluation.record import LARGEST
from explorer.evaluation.scoring import RowScore

FOLDER = "cells"
FORMAT = 1


class CellStore:
    """Scores of rows in a folder, by a key that stands for everything they depend on.

    Args:
        folder: where they are kept; made when needed.

    Raises:
        EvaluationError: it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as error:
            raise EvaluationError(str(folder), "cannot be used as output folder", fix="Choose another one.") from error

    def recall(self, key: str, rows: int) -> list[RowScore] | None:
        """The scores under `key`, None where there are none of so many rows that can be read."""
        try:
            data = json.loads((self._folder / f"{key}.json").read_bytes())
            scores = [_score(entry) for entry in data["scores"]] if data["format"] == FORMAT else []
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return None
        return scores if len(scores) == rows else None

    def keep(self, key: str, method: str, task: str, scores: Sequence[RowScore]) -> None:
        """Write scores, whole or not at all; method and task are for a reader of the file.

        Raises:
            EvaluationError: the disk does not take them.
        """
        entries = ",\n".join(json.dumps(vars(score), ensure_ascii=False) for score in scores)
        about = f'"format": {FORMAT}, "method": {json.dumps(method)}, "task": {json.dumps(task)}'
        scratch: str | None = None
        try:
            handle, scratch = tempfile.mkstemp(dir=self._folder, prefix=".")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f'{{{about}, "scores": [\n{entries}\n]}}\n')
            os.replace(scratch, self._folder / f"{key}.json")
        except OSError as error:
            raise EvaluationError(str(self._folder), f"cannot take a result ({error.strerror})") from error
        finally:
            if scratch:
                with contextlib.suppress(OSError):
                    os.unlink(scratch)  # there only if it was not renamed


def _score(entry: Any) -> RowScore:
    loss, tokens, answer, share = (entry[name] for name in ("loss", "tokens", "answer", "own_share"))
    if not isinstance(tokens, int) or not isinstance(answer, str | None) or not isinstance(share, dict):
        raise TypeError(entry)
    return RowScore(
        _number(loss, least=0.0),
        tokens,
        answer,
        {str(layer): _number(value, least=-LARGEST) for layer, value in share.items()},
    )


def _number(value: Any, least: float) -> float:
    """A number that a record may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= LARGEST:
        raise TypeError(value)
    return float(value)
