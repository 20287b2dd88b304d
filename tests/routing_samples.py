"""Banks, passes and routers for the tests of routing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from routed_samples import random_adapter
from torch import nn

from explorer.adapters.adapter import Adapter
from explorer.routers import ROUTERS, Arrow, CalibratedArrow, Lag, LinearMerge, SpectR, Uniform, make_router
from explorer.routing.bank import Bank, build_banks
from explorer.routing.factor_mean import stored_factors
from explorer.routing.observation import Observation
from explorer.routing.routed_linear import PassSlot, RoutedLinear
from explorer.routing.router import Router
from explorer.routing.routing_pass import RoutingPass
from explorer.routing.ways import Plan

CPU = torch.device("cpu")
SITE, OTHER = "layers.0.proj", "layers.1.proj"
WIDTH, OUT = 12, 10


def adapters_of(count: int = 6, *, missing: tuple[int, ...] = (), rank: int | None = None) -> list[Adapter]:
    """Mixed ranks (or one) at SITE (10 out, 12 in); those in `missing` have only OTHER."""
    return [
        random_adapter(
            f"a{number}",
            {OTHER if number in missing else SITE: (OUT, WIDTH)},
            rank=rank or 1 + number % 4,
            seed=number,
        )
        for number in range(count)
    ]


def bank_of(adapters: Sequence[Adapter], *sites: str, dtype: torch.dtype = torch.float32) -> Bank:
    """The adapters at sites that share their input."""
    return build_banks(adapters, [sites or (SITE,)], CPU, dtype)[0]


def inputs(tokens: int = 7, size: float = 3.0, seed: int = 5) -> torch.Tensor:
    return size * torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def neutral_of(bank: Bank) -> torch.Tensor:
    """Mean Arrow scores on some inputs, as if these were neutral prompts."""
    return Observation(bank, inputs(50, seed=99)).along.mean(dim=0)


def seen_by(bank: Bank, hidden: torch.Tensor) -> Observation:
    return Observation(bank, hidden, neutral_of(bank))


def every_router(names: tuple[str, ...]) -> list[Router]:
    """One router of each registered kind at least, and the settings that change what is computed."""
    settings = {"single": {"name": names[0]}, "weighted": {"weights": {names[0]: 0.5, names[-1]: -2.0}}}
    return [make_router(key, **settings.get(key, {})) for key in ROUTERS] + [
        Arrow(top_k=1),
        Arrow(top_k=100, temperature=0.1),
        Arrow(unit_norm=True, temperature=0.05),
        CalibratedArrow(top_k=1),
        SpectR(top_k=2, temperature=0.5),
        Lag(top_k=3),
        LinearMerge(weights={names[0]: 1.0, names[1]: -0.5}),
        LinearMerge(rank=2),
    ]


COUNT = len(every_router(("a", "b")))
PER_PROMPT = [Arrow(per_prompt=True, top_k=2), CalibratedArrow(per_prompt=True), SpectR(per_prompt=True)]
AVERAGED = [Arrow(average_factors=True, top_k=2), Uniform(average_factors=True)]


class Routed:
    """Linear modules with a library beside them, run as a model would run them."""

    def __init__(self, adapters: Sequence[Adapter], bank: Bank, *, bases: Sequence[nn.Module] | None = None) -> None:
        self.bank, self.slot = bank, PassSlot()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.bases = bases or [nn.Linear(WIDTH, OUT, dtype=bank.down.dtype) for _ in bank.sites]
        self.modules = [RoutedLinear(base, bank, index, self.slot) for index, base in enumerate(self.bases)]
        same = len({update.rank for adapter in adapters for update in adapter.updates.values()}) == 1
        self._factors = {bank.sites: stored_factors(adapters, bank)} if same else {}

    def run(self, x: torch.Tensor, routers: Sequence[Router], record: Sequence[int] = ()) -> list[torch.Tensor]:
        """What each site adds to its base output, for `x` (rows, tokens, width)."""
        self.current = RoutingPass(
            len(routers), x.shape[1], record, neutral={self.bank.sites: neutral_of(self.bank)}, factors=self._factors
        )
        self.slot.begin(self.current, Plan(routers, x.shape[1], CPU))
        try:
            with torch.no_grad():
                return [module(x) - module.base(x) for module in self.modules]
        finally:
            self.slot.end()
