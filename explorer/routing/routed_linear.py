"""A linear module with a library beside it: base output plus the mixture of the adapters' outputs.

delta = sum_e w_e s_e B_e A_e h for every token (outputs are mixed, as in PEFT's Arrow). With the factors of all
adapters stacked it costs two thin products and never forms a (tokens, adapters, d_out) tensor.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from explorer.routing.router import SiteBank
from explorer.routing.routing_pass import RoutingPass

SELECT_FROM = 64  # stacked rows: below this, picking the used ones costs more than it saves


class PassSlot:
    """Where the routed modules of one model find the pass that is under way (None: behave as the base module)."""

    def __init__(self) -> None:
        self.current: RoutingPass | None = None


class RoutedLinear(nn.Module):
    """Stands in for `base`, a Linear or GPT-2's Conv1D, while a library is attached."""

    def __init__(self, base: nn.Module, bank: SiteBank, slot: PassSlot) -> None:
        super().__init__()
        self.base, self.bank, self.slot = base, bank, slot

    @property
    def weight(self) -> Tensor:
        """The base module's weight: some models ask a linear module for its dtype."""
        return self.base.get_parameter("weight")

    def forward(self, x: Tensor) -> Tensor:
        """The base output, (*batch, d_out), plus each row's own mixture; rows without adapters are left untouched."""
        output: Tensor = self.base(x)
        current = self.slot.current
        if current is None:
            return output
        hidden = current.by_row(self.bank.site, x)
        by_row = output.view(*hidden.shape[:2], output.shape[-1])
        for group in current.groups:
            if not (group.router.uses_adapters or current.wants(group)):
                continue
            chosen = group.of(hidden)
            decision = group.router.decide(self.bank, chosen)
            current.keep(self.bank.site, group, decision)
            if not group.router.uses_adapters:
                continue
            delta = mixed_update(self.bank, decision.weights, chosen).to(output.dtype)
            by_row = by_row + delta if group.index is None else by_row.index_add(0, group.index, delta)
        return by_row.view(output.shape)


def mixed_update(
    bank: SiteBank, weights: Float[Tensor, "*batch adapters"], hidden: Float[Tensor, "*batch d_in"]
) -> Float[Tensor, "*batch d_out"]:
    """sum_e w_e s_e B_e A_e h, in the dtype of the factors.

    Cost per token: (d_in + d_out) times the stacked ranks of the adapters that any of these tokens uses.
    """
    a, b, owners = bank.a, bank.b, bank.owners
    if len(owners) >= SELECT_FROM:
        used = weights.flatten(0, -2).ne(0).any(dim=0)
        rows = used[owners].nonzero().squeeze(1)
        if 2 * len(rows) <= len(owners):
            a, b, owners = a.index_select(0, rows), b.T.index_select(0, rows).T, owners.index_select(0, rows)
    inside = hidden.to(a.dtype) @ a.T
    return (inside * weights.index_select(-1, owners).to(a.dtype)) @ b.T


def linear_shape(module: nn.Module) -> tuple[int, int] | None:
    """(d_out, d_in) of a module that can be routed, None for any other (quantised weights included)."""
    if isinstance(module, Conv1D):
        return module.weight.shape[1], module.weight.shape[0]
    if isinstance(module, nn.Linear) and module.weight.shape == (module.out_features, module.in_features):
        return (module.out_features, module.in_features) if module.weight.is_floating_point() else None
    return None
