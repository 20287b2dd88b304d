"""Where fine-tuning starts: one update a module, made of the library by fixed weights and cut to the rank in training.

Uniform weights are "mu" of arXiv 2405.11157, section 4, Arrow's mean weights its supervised adaptation from Arrow.
"scratch" takes nothing from the library: the control that tells what a start from the library is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explorer.adapters.library import Library
from explorer.errors import SettingsError
from explorer.exporting.cut import Cut, cut
from explorer.exporting.mix import stacked
from explorer.models.routed_model import RoutedModel
from explorer.routing.arrow import Arrow
from explorer.routing.per_site import PerSite
from explorer.routing.router import Router

MIXED = ("arrow", "uniform")
STARTS = (*MIXED, "scratch")


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """The cut update of each module (None where it is zero), and the share of its energy that the rank left."""

    cuts: Mapping[str, Cut | None]
    kept: float


def start_from(routed: RoutedModel, start: str, prompts: Sequence[Sequence[int]], rank: int) -> StartingPoint:
    """The start of this name, of no more than `rank`; "scratch" is a fresh adapter's (B = 0).

    Raises:
        SettingsError: there is no such start.
    """
    if start not in STARTS:
        raise SettingsError("start", expected=f"one of {', '.join(STARTS)}", found=repr(start)[:40])
    if start not in MIXED:
        return StartingPoint({}, 1.0)
    return starting_point(routed.library, start_weights(routed, start, prompts), rank)


def start_weights(routed: RoutedModel, start: str, prompts: Sequence[Sequence[int]]) -> PerSite:
    """The weights that a start mixes by: uniform ones, or the mean of Arrow's (top 4, T 1) over the prompts."""
    if start == "arrow":
        return mean_weights(routed, Arrow(), prompts)
    count = len(routed.names)
    return PerSite(routed.names, {site: torch.full((count,), 1.0 / count) for site in routed.sites})


def mean_weights(routed: RoutedModel, router: Router, prompts: Sequence[Sequence[int]]) -> PerSite:
    """Each site's mean weights over all tokens of all prompts."""
    sums, tokens = torch.zeros(len(routed.sites), len(routed.names)), 0
    for ids in prompts:
        _, current = routed.forward([ids], [router], record=[0], keep=1)
        sums += torch.from_numpy(current.recorded(0, routed.sites)[0]).sum(dim=1)
        tokens += len(ids)
    return PerSite(routed.names, dict(zip(routed.sites, sums / tokens, strict=True)))


def starting_point(library: Library, weights: PerSite, rank: int) -> StartingPoint:
    """sum_e w_e dW_e at each module, cut to `rank` by its exact singular values."""
    cuts: dict[str, Cut | None] = {}
    for site in weights.rows:
        given = weights.at(site, [adapter.name for adapter in library.routable], 0.0).tolist()
        parts = [
            (adapter.updates[site], weight)
            for adapter, weight in zip(library.routable, given, strict=True)
            if weight and site in adapter.forms
        ]
        cuts[site] = cut(stacked(parts), rank) if parts else None
    there = [one for one in cuts.values() if one is not None]
    full = sum(one.full_energy for one in there)
    return StartingPoint(cuts, sum(one.energy for one in there) / full if full else 1.0)


@torch.no_grad()
def put_in(model: Any, point: StartingPoint) -> None:
    """Write the start into a fresh PEFT adapter: the directions that it does not need keep their A, and a B of 0."""
    for site, one in point.cuts.items():
        if one is None:
            continue
        layer = model.base_model.model.get_submodule(site)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        root = layer.scaling["default"] ** 0.5  # PEFT multiplies by its scale: each factor gives half of it back
        _fill(a[: one.rank], one.a / root)
        _fill(b[:, : one.rank], one.b / root)


def _fill(place: Tensor, values: Tensor) -> None:
    place.copy_(values.to(place.device, place.dtype))
