"""What one forward pass through a routed model knows: the router of each batch row, and what is to be recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import BaseModelError
from explorer.routing.bank import Bank
from explorer.routing.observation import Observation
from explorer.routing.router import Decision, Router, ScoreRouter
from explorer.routing.trace import Array

BySites = Mapping[tuple[str, ...], Any]


class PromptScores:
    """Mean scores of prompts, by the sites and the row: what routers that decide once per prompt keep to."""

    def __init__(self) -> None:
        self._means: dict[tuple[tuple[str, ...], int], Tensor] = {}

    def of(self, sites: tuple[str, ...], row: int) -> Tensor | None:
        """The mean scores (sites, adapters) of a row's prompt, None while it is being read."""
        return self._means.get((sites, row))

    def keep(self, sites: tuple[str, ...], row: int, mean: Tensor) -> None:
        """Note them."""
        self._means[sites, row] = mean


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Batch rows that share a router.

    Attributes:
        router: theirs.
        rows: their indices, ascending.
        tokens: where their tokens are when all rows' tokens stand in one line; None when that is all of them.
    """

    router: Router
    rows: tuple[int, ...]
    tokens: slice | Tensor | None

    def of(self, line: Float[Tensor, "tokens width"]) -> Float[Tensor, "own width"]:
        """The group's part of all tokens in a line (a view wherever its rows lie together)."""
        return line if self.tokens is None else line[self.tokens]


def row_groups(routers: Sequence[Router], tokens: int, device: torch.device) -> tuple[RowGroup, ...]:
    """The rows of a batch, `tokens` long each, grouped by their routers."""
    distinct: list[Router] = []
    for router in routers:
        if router not in distinct:
            distinct.append(router)
    return tuple(_group(router, routers, tokens, device) for router in distinct)


def _group(router: Router, routers: Sequence[Router], tokens: int, device: torch.device) -> RowGroup:
    rows = tuple(row for row, other in enumerate(routers) if other == router)
    if len(rows) == len(routers):
        return RowGroup(router, rows, None)
    if rows == tuple(range(rows[0], rows[-1] + 1)):
        return RowGroup(router, rows, slice(rows[0] * tokens, (rows[-1] + 1) * tokens))
    own = torch.tensor(rows, device=device)[:, None] * tokens
    return RowGroup(router, rows, (own + torch.arange(tokens, device=device)).flatten())


class RoutingPass:
    """One forward pass over a batch of rows of one length.

    Args:
        rows: of the batch.
        tokens: the length of every row, filling included.
        record: rows whose decisions are kept for :meth:`recorded`.
        lengths: how many tokens of each row count as its prompt and are not filling (by default all).
        neutral: mean scores on neutral prompts for each bank's sites, for the routers that need them.
        factors: the adapters' factors as trained for each bank's sites, for the routers that average them.
        prompts: what earlier passes of the same rows found of their prompts.
        keys: how `prompts` knows each row (by default by its place).
    """

    def __init__(
        self,
        rows: int,
        tokens: int,
        record: Collection[int] = (),
        *,
        lengths: Sequence[int] | None = None,
        neutral: BySites | None = None,
        factors: BySites | None = None,
        prompts: PromptScores | None = None,
        keys: Sequence[int] | None = None,
    ) -> None:
        self.rows, self.tokens = rows, tokens
        self.neutral: BySites = neutral or {}
        self.factors: BySites = factors or {}
        self._lengths = tuple(lengths) if lengths is not None else (tokens,) * rows
        self._prompts = prompts or PromptScores()
        self._keys = tuple(keys) if keys is not None else tuple(range(rows))
        self._record = frozenset(record)
        self._decisions: dict[str, tuple[int, list[tuple[RowGroup, Callable[[], Decision]]]]] = {}

    def in_a_line(self, site: str, x: Tensor) -> Float[Tensor, "tokens d_in"]:
        """The input of a site as one line of tokens, row after row.

        Raises:
            BaseModelError: the site saw something else than every token of every row (an expert of a mixture does).
        """
        if x.numel() != self.rows * self.tokens * x.shape[-1]:
            raise BaseModelError(
                site,
                "does not see every token once, so its adapters cannot be routed",
                expected=f"{self.rows * self.tokens} input vectors",
                found=str(x.numel() // max(x.shape[-1], 1)),
            )
        return x.reshape(-1, x.shape[-1])

    def observe(self, bank: Bank, hidden: Tensor, inner: Tensor | None = None) -> Observation:
        """Some of the pass's tokens at one bank."""
        return Observation(bank, hidden, self.neutral.get(bank.sites), inner)

    def scores(self, group: RowGroup, seen: Observation) -> Float[Tensor, "tokens sites adapters"]:
        """A group's raw scores; where its router decides per prompt, the prompt's mean for each of its tokens."""
        router = group.router
        assert isinstance(router, ScoreRouter)
        if not router.decides_per_prompt:
            return router.score(seen)
        sites, keys = seen.bank.sites, [self._keys[row] for row in group.rows]
        if any(self._prompts.of(sites, key) is None for key in keys):
            scores = router.score(seen).view(len(keys), self.tokens, *seen.shape[1:])
            for place, (row, key) in enumerate(zip(group.rows, keys, strict=True)):
                self._prompts.keep(sites, key, scores[place, : self._lengths[row]].mean(dim=0))
        means = torch.stack([mean for key in keys if (mean := self._prompts.of(sites, key)) is not None])
        return means[:, None].expand(-1, self.tokens, -1, -1).reshape(seen.shape)

    def wants(self, group: RowGroup) -> bool:
        """Whether any row of this group is recorded."""
        return bool(self._record) and not self._record.isdisjoint(group.rows)

    def keep(self, site: str, index: int, decisions: list[tuple[RowGroup, Callable[[], Decision]]]) -> None:
        """Note what the recorded groups' routers decided at a site, which is number `index` of its bank."""
        self._decisions.setdefault(site, (index, []))[1].extend(decisions)

    def recorded(self, row: int, sites: Sequence[str]) -> tuple[Array, Array]:
        """Weights and scores of one recorded row, each (sites, tokens, adapters) float32."""
        known: dict[int, Decision] = {}
        found = [self._of_row(site, row, known) for site in sites]
        weights = torch.stack([weights for weights, _ in found])
        scores = torch.stack([scores for _, scores in found])
        return np.asarray(weights.cpu(), dtype=np.float32), np.asarray(scores.cpu(), dtype=np.float32)

    def _of_row(self, site: str, row: int, known: dict[int, Decision]) -> tuple[Tensor, Tensor]:
        index, decisions = self._decisions.get(site, (0, []))
        for group, decide in decisions:
            if row in group.rows:
                decision = known.get(id(decide)) or known.setdefault(id(decide), decide())
                place = group.rows.index(row) * self.tokens
                own = slice(place, place + self.tokens)
                return decision.weights[own, index], decision.scores[own, index]
        raise BaseModelError(site, "is not used when this model reads text", fix="Leave its adapters out.")
