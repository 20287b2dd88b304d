"""A linear module with a library beside it: base output plus the mixture of the adapters' outputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from explorer.routing.bank import Bank
from explorer.routing.routing_pass import RoutingPass
from explorer.routing.way import Way
from explorer.routing.ways import Plan


class PassSlot:
    """Where the routed modules of one model find the pass that is under way (None: behave as the base module).

    The input that a bank read last is kept, because the modules of one bank are called with the very same tensor one
    after another; a module that gets another tensor makes the bank read that one.
    """

    def __init__(self) -> None:
        self.current: RoutingPass | None = None
        self._plan: Plan | None = None
        self._latest: tuple[Bank, Tensor, Sequence[Way]] | None = None

    def begin(self, current: RoutingPass, plan: Plan) -> None:
        """A pass begins."""
        self.current, self._plan = current, plan

    def end(self) -> None:
        """It is over, or was broken off."""
        self._release()
        self.current = self._plan = self._latest = None

    def _release(self) -> None:
        for way in self._latest[2] if self._latest is not None else ():
            way.release()

    def ways(self, bank: Bank, site: str, x: Tensor) -> Sequence[Way]:
        """The ways at a bank, after they have read `x`."""
        latest = self._latest
        if latest is not None and latest[0] is bank and latest[1] is x:
            return latest[2]
        current, plan = self.current, self._plan
        assert current is not None and plan is not None
        self._release()
        hidden = current.in_a_line(site, x)
        ways = plan.ways(bank)
        for way in ways:
            way.read(hidden, current)
        self._latest = bank, x, ways
        return ways


class RoutedLinear(nn.Module):
    """Stands in for `base` while a library is attached.

    Args:
        base: any linear module (Linear, GPT-2's Conv1D, a quantised one): its output is taken as it is.
        bank: the adapters at all modules that share this one's input.
        index: which of the bank's sites this is.
        slot: shared by all routed modules of a model.
    """

    def __init__(self, base: nn.Module, bank: Bank, index: int, slot: PassSlot) -> None:
        super().__init__()
        self.base, self.bank, self.index, self.slot = base, bank, index, slot
        self.site = bank.sites[index]
        self._plain = base._parameters if type(base) is nn.Linear else None

    @property
    def weight(self) -> Tensor:
        """The base module's weight: some models ask a linear module for its dtype."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """The base output, (*batch, d_out), plus each row's own mixture; rows without adapters are left untouched."""
        slot = self.slot
        current = slot.current
        if current is None:
            return self.base(x)
        plain = self._plain  # a bare linear layer is called without the machinery of modules, which costs as much again
        output: Tensor = self.base(x).contiguous() if plain is None else linear(x, plain["weight"], plain["bias"])  # type: ignore[arg-type]
        line = output.view(-1, output.shape[-1])
        for way in slot.ways(self.bank, self.site, x):
            way.add(self.index, line)
            if way.recorded:
                current.keep(self.site, self.index, way.recorded)
        return output


def linear_shape(module: nn.Module) -> tuple[int, int] | None:
    """(d_out, d_in) of a module that can be routed, None for any other.

    Quantised modules pack their weights, so their word on their features is taken.
    """
    if isinstance(module, Conv1D):
        return module.weight.shape[1], module.weight.shape[0]
    sizes = getattr(module, "out_features", None), getattr(module, "in_features", None)
    if not all(isinstance(size, int) for size in sizes):
        return None
    return int(sizes[0]), int(sizes[1])  # type: ignore[arg-type]
