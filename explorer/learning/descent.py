"""A few steps of gradient descent on what is learned, with base model and adapters frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import torch
from torch import Tensor

from explorer.errors import LearningError, SettingsError
from explorer.learning.mixing import Delta, added
from explorer.models.routed_model import RoutedModel
from explorer.training.batches import Encoded, answer_losses, batch_of, batch_order

LIMITS = {"steps": (1, 1_000_000), "batch_size": (1, 4096), "learning_rate": (1e-9, 100.0)}


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Settings of a descent: Adam at a constant rate, no weight decay.

    Raises:
        SettingsError: a number is out of its bounds.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise SettingsError(name, expected=f"{low:g} to {high:g}", found=str(getattr(self, name)))

    def run(
        self,
        routed: RoutedModel,
        rows: Sequence[Encoded],
        weights: Sequence[Tensor],
        delta: Delta,
        before_step: Callable[[int], None],
    ) -> list[float]:
        """Take the steps; returns the loss of each step's batch before it.

        Args:
            routed: the frozen model.
            rows: examples with their answers.
            weights: what is learned; changed in place.
            delta: what each site's output gains, from `weights`.
            before_step: called with the steps done so far; an error it raises ends the descent.

        Raises:
            LearningError: the loss is no number.
        """
        optimiser = torch.optim.Adam(weights, lr=self.learning_rate)
        losses: list[float] = []
        for indices in islice(self._batches(rows), self.steps):
            before_step(len(losses))
            with added(routed, delta):
                loss = answer_losses(
                    routed.base.model, batch_of([rows[index] for index in indices], routed.base)
                ).mean()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise LearningError("Learning", f"went astray at step {len(losses)}", fix="Lower the learning rate.")
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss, inputs=list(weights))
            optimiser.step()
        return losses

    def _batches(self, rows: Sequence[Encoded]) -> Iterator[list[int]]:
        lengths = [len(row.ids) for row in rows]
        for epoch in count():
            yield from batch_order(lengths, self.batch_size, self.seed + epoch)
