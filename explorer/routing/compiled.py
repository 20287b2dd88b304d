"""The small loops of routing, compiled by numba for the CPU.

While a model writes token by token, what these loops compute is tiny, and calling a dozen tensor operations for it at
each of a hundred modules would cost more than the adapters do. Here one call does the work of several. Arrays are
C-contiguous; indices are int64, everything else float32.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


def _compile(function: Any, **options: Any) -> Any:
    """Compile on first use; keep the machine code beside this file where that can be written."""
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # no place to keep it
        return numba.njit(nogil=True, **options)(function)


def _compile_sums(function: Any) -> Any:
    """The same for loops whose sums may be taken in any order, so that they use the width of the processor."""
    return _compile(function, fastmath={"reassoc", "contract", "nsz"})


@_compile
def pair_scores(inner: Any, table: Any, all_rows: bool, scale: Any, lengths: Any, scores: Any) -> None:
    """scores[t, p]: what token t has along pair p's strongest direction, or (`all_rows`) within all its directions.

    Times scale[p] and divided by lengths[t], where those have any entries.
    """
    for token in range(inner.shape[0]):
        for pair in range(table.shape[0]):
            if all_rows:
                square = np.float32(0.0)
                for column in range(table.shape[1]):
                    square += inner[token, table[pair, column]] ** 2
                score = np.sqrt(square)
            else:
                score = abs(inner[token, table[pair, 0]])
            if scale.shape[0]:
                score *= scale[pair]
            if lengths.shape[0]:
                score /= lengths[token]
            scores[token, pair] = score


@_compile
def largest_softmax(scores: Any, temperature: float, kept: Any, weights: Any) -> None:
    """Softmax over the K largest of each row (K columns of `kept`); equal scores go to the smaller index.

    A row of which nothing is above minus infinity gets weights of 0.
    """
    count = kept.shape[1]
    for row in range(scores.shape[0]):
        found = 0
        for index in range(scores.shape[1]):
            score = scores[row, index]
            if found == count and not score > weights[row, count - 1]:
                continue
            place = found if found < count else count - 1
            found = min(found + 1, count)
            while place > 0 and score > weights[row, place - 1]:
                weights[row, place] = weights[row, place - 1]
                kept[row, place] = kept[row, place - 1]
                place -= 1
            weights[row, place] = score
            kept[row, place] = index
        best, total = weights[row, 0], np.float32(0.0)
        for place in range(count):
            share = np.float32(0.0)
            if best > -np.inf:
                share = np.exp((weights[row, place] - best) / np.float32(temperature))
            weights[row, place] = share
            total += share
        for place in range(count):
            if total > 0:
                weights[row, place] /= total


@_compile
def weigh_rows(inner: Any, table: Any, kept: Any, weights: Any, weighted: Any) -> None:
    """weighted[t, r] = weight of the adapter that row r belongs to, times inner[t, r]; 0 for adapters not kept.

    `kept` and `weights` are (tokens, sites, K), `table` (sites * adapters, most rank).
    """
    tokens, sites, count = kept.shape
    adapters = table.shape[0] // sites
    weighted[:] = 0.0
    for token in range(tokens):
        for site in range(sites):
            for place in range(count):
                weight = weights[token, site, place]
                pair = site * adapters + kept[token, site, place]
                for column in range(table.shape[1]):
                    row = table[pair, column]
                    weighted[token, row] = weight * inner[token, row]


@_compile
def rank_scores(scores: Any, scale: Any, lengths: Any) -> None:
    """scores[t, p] = |scores[t, p]| * scale[p] / lengths[t], the last two where they have any entries; in place."""
    for token in range(scores.shape[0]):
        for pair in range(scores.shape[1]):
            score = abs(scores[token, pair])
            if scale.shape[0]:
                score *= scale[pair]
            if lengths.shape[0]:
                score /= lengths[token]
            scores[token, pair] = score


@_compile
def strongest_of_list(scores: Any, strengths: Any, present: Any, listed: int, kept: Any, weights: Any) -> None:
    """Of the `listed` largest scores at each site the adapter with the largest strength, with weight 1.

    Equal ones go to the smaller index; where nobody has the site the weight is 0.
    """
    tokens, sites, _ = kept.shape
    adapters = present.shape[0] // sites
    order = np.empty((1, listed), np.int64)
    shares = np.empty((1, listed), np.float32)
    for token in range(tokens):
        for site in range(sites):
            own = slice(site * adapters, (site + 1) * adapters)
            ranked = np.where(present[own], scores[token, own], np.float32(-np.inf)).reshape(1, adapters)
            order[:] = 0
            largest_softmax(ranked, np.float32(1.0), order, shares)
            best, weight = 0, np.float32(0.0)
            for place in range(listed):
                index = order[0, place]
                if not present[site * adapters + index]:
                    continue
                stronger = strengths[token, site * adapters + index] - strengths[token, site * adapters + best]
                if weight == 0 or stronger > 0 or (stronger == 0 and index < best):
                    best, weight = index, np.float32(1.0)
            kept[token, site, 0], weights[token, site, 0] = best, weight


@_compile
def keep_largest(scores: Any, present: Any, temperature: float, kept: Any, weights: Any) -> None:
    """The softmax over the largest at each site, of the adapters that have it; shapes as in `weigh_rows`."""
    tokens, sites, count = kept.shape
    ranked = np.where(present, scores, np.float32(-np.inf)).reshape(tokens * sites, present.shape[0] // sites)
    largest_softmax(ranked, temperature, kept.reshape(tokens * sites, count), weights.reshape(tokens * sites, count))


@_compile_sums
def kept_products(hidden: Any, down: Any, table: Any, kept: Any, weights: Any, values: Any) -> None:
    """values[t, s, c]: weight times <row of down, h_t> for the rows of the kept adapters, one after the other."""
    tokens, sites, count = kept.shape
    adapters, most = table.shape[0] // sites, table.shape[1]
    for token in range(tokens):
        for site in range(sites):
            for place in range(count):
                for column in range(most):
                    row = table[site * adapters + kept[token, site, place], column]
                    total = np.float32(0.0)
                    for index in range(hidden.shape[1]):
                        total += hidden[token, index] * down[row, index]
                    values[token, site, place * most + column] = weights[token, site, place] * total


@_compile
def kept_entries(inner: Any, table: Any, kept: Any, weights: Any, values: Any) -> None:
    """As `kept_products`, where all products are there already."""
    tokens, sites, count = kept.shape
    adapters, most = table.shape[0] // sites, table.shape[1]
    for token in range(tokens):
        for site in range(sites):
            for place in range(count):
                for column in range(most):
                    row = table[site * adapters + kept[token, site, place], column]
                    values[token, site, place * most + column] = weights[token, site, place] * inner[token, row]


@_compile_sums
def add_kept_rows(values: Any, kept: Any, local: Any, site: int, up: Any, output: Any) -> None:
    """output[t] += sum over the kept adapters' rows at one site of values * row of up."""
    adapters, most = local.shape[0] // kept.shape[1], local.shape[1]
    for token in range(kept.shape[0]):
        for place in range(kept.shape[2]):
            for column in range(most):
                row = local[site * adapters + kept[token, site, place], column]
                value = values[token, site, place * most + column]
                for index in range(up.shape[1]):
                    output[token, index] += value * up[row, index]


@_compile
def route_kept(
    scores: Any,
    scale: Any,
    lengths: Any,
    present: Any,
    temperature: float,
    hidden: Any,
    down: Any,
    table: Any,
    kept: Any,
    weights: Any,
    values: Any,
) -> None:
    """From products with the prototypes to the weighted products of those kept, in one call."""
    rank_scores(scores, scale, lengths)
    keep_largest(scores, present, temperature, kept, weights)
    kept_products(hidden, down, table, kept, weights, values)


@_compile
def route(
    inner: Any,
    table: Any,
    present: Any,
    all_rows: bool,
    temperature: float,
    scale: Any,
    lengths: Any,
    scores: Any,
    kept: Any,
    weights: Any,
    weighted: Any,
) -> None:
    """Scores, the softmax over the largest, and the weighted rows, in one call (see the three above).

    `present` says which (site, adapter) there are.
    """
    pair_scores(inner, table, all_rows, scale, lengths, scores)
    keep_largest(scores, present, temperature, kept, weights)
    weigh_rows(inner, table, kept, weights, weighted)
