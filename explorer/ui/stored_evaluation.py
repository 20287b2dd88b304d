"""The evaluation that lies in a library's folder, read for the page."""

from __future__ import annotations

import os
from pathlib import Path

from explorer.errors import EvaluationError
from explorer.evaluation.record import FILE, read_record
from explorer.ui.evaluation_view import EvaluationView

#: About how much memory one byte of the file takes once it is read.
MEMORY_A_BYTE = 6


def stored_evaluation(folder: Path | None) -> EvaluationView:
    """The evaluation in `folder`; one that cannot be read is told in words, none is no problem."""
    if folder is None or not os.path.lexists(folder / FILE):
        return EvaluationView()
    try:
        return EvaluationView(stored=read_record(folder / FILE))
    except EvaluationError as error:
        return EvaluationView(problem=error.sentence)


def stored_nbytes(folder: Path | None) -> int:
    """About how much memory the evaluation in `folder` takes."""
    try:
        return MEMORY_A_BYTE * (folder / FILE).stat().st_size if folder is not None else 0
    except OSError:
        return 0
