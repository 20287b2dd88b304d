"""What a way of mixing is, and who asks the router.

sum_e w_e s_e B_e A_e h can be had in several ways that give the same numbers and cost differently (`ways.py` chooses).
A way belongs to one bank and to some rows of a batch, is made once for a run of passes of one shape, and keeps what it
can between them. It never forms a (tokens, adapters, d_out) tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from explorer.routing.observation import Observation
from explorer.routing.router import Decision, Kept, ScoreRouter, decision_of
from explorer.routing.routing_pass import RoutingPass, RowGroup

Recorded = list[tuple[RowGroup, Callable[[], Decision]]]


class Way(ABC):
    """One way for one bank and some of the batch's rows.

    Attributes:
        recorded: after :meth:`read`, what was decided for the groups that are recorded.
    """

    recorded: Recorded

    @abstractmethod
    def read(self, hidden: Float[Tensor, "tokens d_in"], current: RoutingPass) -> None:
        """Take the input of the bank's sites (all tokens in a line), ask the routers, and prepare what they add."""

    @abstractmethod
    def add(self, site: int, output: Float[Tensor, "tokens d_out"]) -> None:
        """Add it to the base output of site number `site`, in place."""

    def release(self) -> None:  # noqa: B027 - most ways hold next to nothing
        """The bank's sites have had their part: let go of what is large."""


def keep(group: RowGroup, seen: Observation, current: RoutingPass, recorded: Recorded) -> Kept:
    """The adapters that a group's tokens keep, noted where the group is recorded."""
    router, bank = group.router, seen.bank
    assert isinstance(router, ScoreRouter)
    scores = current.scores(group, seen)
    kept = router.keep(scores, seen)
    if current.wants(group):
        recorded.append((group, lambda: decision_of(kept, scores, bank)))
    return kept


def decide(group: RowGroup, seen: Observation, current: RoutingPass, recorded: Recorded) -> None:
    """Note the decision of a router whose weights are the same for every token, where its group is recorded."""
    if current.wants(group):
        recorded.append((group, lambda: group.router.decide(seen)))
