"""How good an answer is: exact match and ROUGE-L, against the best of several references; means with their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from explorer.evaluation.record import Measure


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if the answer is one of the references, white space at the ends aside, else 0."""
    return float(answer.strip() in {reference.strip() for reference in references})


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """F-measure of ROUGE-L (rouge-score, with its stemmer), the best over the references.

    That package reads Latin letters and digits only: a reference without any scores 0.
    """
    return float(_scorer().score_multi([*references], answer)["rougeL"].fmeasure)


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 - a second to import

    return RougeScorer(["rougeL"], use_stemmer=True)


def measure_of(values: Sequence[float]) -> Measure:
    """Mean over rows and its standard error (sample standard deviation over the root of n)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Measure(mean, None, count)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Measure(mean, math.sqrt(variance / count), count)
