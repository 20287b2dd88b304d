"""Mixtures of a library's adapters that gradients flow through: what is learned stands for the weights.

The routed model computes without gradients, in place and from buffers. Here each site's output gets its addition by a
hook instead, with plain tensor operations, and the same numbers come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.models.routed_model import RoutedModel
from explorer.routing.bank import Bank
from explorer.training.batches import Encoded, answer_losses, batch_of

Delta = Callable[[Bank, int, Tensor], Tensor | None]  # bank, number of the site, its input -> what its output gains


@contextmanager
def added(routed: RoutedModel, delta: Delta) -> Iterator[None]:
    """Inside, every site of the library gives its base output plus `delta` of its input (None: nothing).

    The base model is locked inside, so that nobody else meets the hooks.
    """

    def hook(bank: Bank, index: int) -> Any:
        def add(_: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            gain = delta(bank, index, args[0])
            return output if gain is None else output + gain.to(output.dtype)

        return add

    with routed.base.lock:
        hooks = [
            routed.base.model.get_submodule(site).register_forward_hook(hook(bank, index))
            for bank in routed.banks
            for index, site in enumerate(bank.sites)
        ]
        try:
            yield
        finally:
            for one in hooks:
                one.remove()


def mixture(bank: Bank, index: int, hidden: Tensor, weights: Float[Tensor, " adapters"]) -> Float[Tensor, "... d_out"]:
    """sum_e w_e dW_e h at one site."""
    span = bank.spans[index]
    owners = bank.owners[span] - index * len(bank.names)
    inner = hidden.to(bank.down.dtype) @ bank.down[span].T
    return (inner * weights[owners].to(inner.dtype)) @ bank.ups[index]


@torch.no_grad()
def mean_loss(routed: RoutedModel, rows: Sequence[Encoded], delta: Delta, batch_size: int) -> float:
    """Mean over the rows of the answer's loss (nats per token) with `delta` at every site."""
    ordered = sorted(rows, key=lambda row: len(row.ids))
    total = 0.0
    with added(routed, delta):
        for first in range(0, len(ordered), batch_size):
            total += float(
                answer_losses(routed.base.model, batch_of(ordered[first : first + batch_size], routed.base)).sum()
            )
    return total / len(ordered)


def nothing(_: Bank, __: int, ___: Tensor) -> None:
    """The base model as it is."""
