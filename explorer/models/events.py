"""What generation yields, one event at a time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from explorer.routing.trace import RoutingTrace


class FinishReason(StrEnum):
    """Why a row ended."""

    END = "end of answer"
    LENGTH = "length limit"
    STOPPED = "stopped"


@dataclass(frozen=True, eq=False)
class PromptRead:
    """The prompt went through the model; `trace` holds its routing when it was asked for."""

    row: int
    tokens: int
    seconds: float
    trace: RoutingTrace | None


@dataclass(frozen=True)
class TokenEmitted:
    """One generated token.

    Attributes:
        row: which of the routers asked for (its index).
        token_id: the token.
        text: what this token adds to the answer (may be empty while a character is incomplete).
        log_probability: of this token under the row's distribution (temperature 1), in nats.
    """

    row: int
    token_id: int
    text: str
    log_probability: float


@dataclass(frozen=True, eq=False)
class TokenRouted:
    """The routing of one generated token's own pass through the model (a trace one token long).

    It follows the token's `TokenEmitted` one step later; the last token of an answer has none, as it is never read.
    """

    row: int
    trace: RoutingTrace


@dataclass(frozen=True)
class Finished:
    """A row is done; `text` is its whole answer."""

    row: int
    reason: FinishReason
    text: str
    tokens: int
    seconds: float


GenerationEvent = PromptRead | TokenEmitted | TokenRouted | Finished
