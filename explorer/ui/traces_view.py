"""A routing trace seen by layer and module: the means that the heat maps, the strip and the bars show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explorer.routing.trace import RoutingTrace

#: Weights that differ by less than this are taken as equal (float32 sums of a few dozen terms).
_TIE = 1e-5


@dataclass(frozen=True)
class Place:
    """Where a site stands in the model.

    Attributes:
        site: its full name, such as `model.layers.3.self_attn.q_proj`.
        layer: the number of its layer; None outside the layers (`lm_head`).
        module: its short name in that layer (`q_proj`).
    """

    site: str
    layer: int | None
    module: str


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """Mean weights, a row for each layer and one for each module outside the layers.

    Attributes:
        rows: what a reader calls each row ("3", "lm_head"), length L.
        layers: the layer's number for each row, None outside the layers.
        names: adapters, length E.
        values: (L, E) float32.
    """

    rows: tuple[str, ...]
    layers: tuple[int | None, ...]
    names: tuple[str, ...]
    values: NDArray[np.float32]


def places(sites: tuple[str, ...]) -> tuple[Place, ...]:
    """Where each site stands.

    A module is called by the last part of its name, or by the last two where a layer has that part twice
    (GPT-2's `attn.c_proj` and `mlp.c_proj`).
    """
    split = [_split(site) for site in sites]
    counts = Counter((layer, parts[-1]) for layer, parts in split)
    twice = {last for (_, last), count in counts.items() if count > 1}
    return tuple(
        Place(site, layer, ".".join(parts[-2:]) if parts[-1] in twice else parts[-1])
        for site, (layer, parts) in zip(sites, split, strict=True)
    )


def _split(site: str) -> tuple[int | None, list[str]]:
    """The layer's number and the parts of the name after it (all parts where there is no number)."""
    parts = site.split(".")
    for position, part in enumerate(parts[:-1]):
        if part.isdecimal():
            return int(part), parts[position + 1 :]
    return None, parts


def layers(trace: RoutingTrace) -> tuple[int, ...]:
    """The numbers of the layers that have a site, ascending."""
    return tuple(sorted({place.layer for place in places(trace.sites) if place.layer is not None}))


def modules(trace: RoutingTrace) -> tuple[str, ...]:
    """The short names of the modules, in the order in which they first occur."""
    return tuple(dict.fromkeys(place.module for place in places(trace.sites)))


def select_sites(trace: RoutingTrace, layer: int | None = None, module: str | None = None) -> list[int]:
    """Indices of the sites in `layer` (None: all) that are a `module` (None: any).

    A module that stands outside the layers is found whichever layer is asked for, when it is named.
    """
    found = []
    for index, place in enumerate(places(trace.sites)):
        outside = place.layer is None and module is not None
        if (layer is None or place.layer == layer or outside) and module in (None, place.module):
            found.append(index)
    return found


def mean_weights(trace: RoutingTrace, tokens: slice | None = None, module: str | None = None) -> LayerWeights:
    """Mean weight of each adapter in each layer, over `tokens` (None: all) and over the modules (None: all)."""
    return _by_layer(trace, trace.weights[:, tokens or slice(None)], module)


def mean_entropy(trace: RoutingTrace, tokens: slice | None = None, module: str | None = None) -> LayerWeights:
    """Mean entropy in nats in each layer; the one column is called "entropy"."""
    result = _by_layer(trace, trace.entropy()[:, tokens or slice(None), None], module)
    return LayerWeights(result.rows, result.layers, ("entropy",), result.values)


def _by_layer(trace: RoutingTrace, values: NDArray[np.float32], module: str | None) -> LayerWeights:
    """Means of `values` (S, T, X) over tokens and over the sites of a row."""
    groups: dict[tuple[int | None, str], list[int]] = {}
    for index, place in enumerate(places(trace.sites)):
        if module in (None, place.module):
            row = str(place.layer) if place.layer is not None else place.module
            groups.setdefault((place.layer, row), []).append(index)
    keys = sorted(groups, key=lambda key: (key[0] is None, key[0] or 0))
    shape = (len(keys), values.shape[2])
    means = np.zeros(shape, np.float32)
    if values.shape[1]:
        for position, key in enumerate(keys):
            means[position] = values[groups[key]].mean(axis=(0, 1))
    return LayerWeights(tuple(row for _, row in keys), tuple(layer for layer, _ in keys), trace.names, means)


def top_adapter_per_token(
    trace: RoutingTrace, module: str | None = None, layer: int | None = None
) -> NDArray[np.int64]:
    """For each token the index of the adapter with the largest mean weight over the chosen sites, (T,).

    -1 where none stands out: no adapter is active, or two share the first place.
    """
    chosen = select_sites(trace, layer, module)
    if not chosen or not trace.names:
        return np.full(len(trace.tokens), -1, np.int64)
    means = trace.weights[chosen].mean(axis=0)
    top = means.argmax(axis=1)
    best = means.max(axis=1, keepdims=True)
    shared = (means >= best - _TIE).sum(axis=1) > 1
    return np.where(shared | (best[:, 0] <= _TIE), -1, top).astype(np.int64)


def shares(trace: RoutingTrace, tokens: slice | None = None) -> dict[str, float]:
    """Each adapter's mean weight over all sites and over `tokens` (None: all)."""
    weights = trace.weights[:, tokens or slice(None)]
    if not weights.size:
        return dict.fromkeys(trace.names, 0.0)
    return {name: float(value) for name, value in zip(trace.names, weights.mean(axis=(0, 1)), strict=True)}
