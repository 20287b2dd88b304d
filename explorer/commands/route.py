"""`route LIBRARY PROMPT`: which adapters a router gives each token of a prompt, at each layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import explorer
from explorer.commands.command import Command, Options, Parser, path, text
from explorer.commands.files import check_place, write_whole
from explorer.commands.opening import add_library, add_prompt, base_for
from explorer.commands.routers import ROUTER_HELP, add_learned, add_router_options, learned_routers, routers_from
from explorer.commands.terminal import say, say_json, say_table
from explorer.errors import SettingsError

if TYPE_CHECKING:
    from explorer.routing.trace import RoutingTrace

SHOWN = 10  # adapters in the printed table; --json and --output have them all
SHOWN_PER_LAYER = 3


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    add_library(parser)
    add_prompt(parser)
    parser.add_argument("--router", metavar="NAME", type=text, help=ROUTER_HELP)
    add_learned(parser)
    add_router_options(parser)
    parser.add_argument("--output", metavar="FILE.npz", type=path, help="write weights and scores to this file")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(options: Options) -> None:
    """Route the prompt and print who got how much."""
    if options.output:
        check_place(options.output)
    routers = routers_from(options, [options.router] if options.router else [])
    if len(routers) + len(options.learned) > 1:
        raise SettingsError("--router and --learned", "name several routers, and only one is shown at a time")
    with explorer.open_library(options.library) as library:
        for router in routers:
            router.check(tuple(adapter.name for adapter in library.routable))
        base = base_for(library, options.base)
        routed = explorer.RoutedModel(base, library)
        (router,) = routers or learned_routers(options, routed)
        trace = routed.route(options.prompt, router, chat=not options.plain)
        if options.output:
            write_whole(options.output, lambda scratch: write_trace(trace, scratch))
        facts = summary(trace) | {"library": library.title, "base_model": base.name}
    if options.json:
        say_json(facts)
    else:
        _print(facts)


def write_trace(trace: RoutingTrace, target: Path) -> None:
    """Write `weights` and `scores` (sites, tokens, adapters) and the names of their axes; no pickled objects."""
    import numpy as np

    arrays: dict[str, Any] = {
        "weights": trace.weights.astype(np.float32),
        "scores": trace.scores.astype(np.float32),
        "sites": np.array(trace.sites, dtype=np.str_),
        "tokens": np.array(trace.tokens, dtype=np.str_),
        "adapters": np.array(trace.names, dtype=np.str_),
    }
    with target.open("wb") as file:  # given a name, numpy would add a suffix to it
        np.savez_compressed(file, **arrays)


def summary(trace: RoutingTrace) -> dict[str, Any]:
    """Mean weights overall and by layer, and entropies (nats), as plain data."""
    typed = [index for index, flag in enumerate(trace.typed) if flag]
    overall = trace.weights.mean(axis=(0, 1))
    of_typed = trace.weights[:, typed].mean(axis=(0, 1)) if typed else overall
    return {
        "router": trace.router,
        "tokens": list(trace.tokens),
        "typed": list(trace.typed),
        "sites": len(trace.sites),
        "adapters": [
            {"name": name, "mean_weight": float(share), "mean_weight_of_typed_tokens": float(typed_share)}
            for share, typed_share, name in sorted(
                zip(overall, of_typed, trace.names, strict=True), key=lambda row: -row[0]
            )
        ],
        "mean_entropy": float(trace.entropy().mean()),
        "layers": [_layer(trace, layer, sites) for layer, sites in sites_by_layer(trace.sites).items()],
    }


def sites_by_layer(sites: Sequence[str]) -> dict[str, list[int]]:
    """Indices of the sites by the label of their layer."""
    from explorer.analysis.sites import layer_label

    layers: dict[str, list[int]] = {}
    for index, site in enumerate(sites):
        layers.setdefault(layer_label(site), []).append(index)
    return layers


def _layer(trace: RoutingTrace, layer: str, sites: list[int]) -> dict[str, Any]:
    weights = trace.weights[sites].mean(axis=(0, 1))
    best = sorted(range(len(trace.names)), key=lambda index: -weights[index])
    return {
        "layer": layer,
        "entropy": float(trace.entropy()[sites].mean()),
        "effective_adapters": float(trace.effective_adapters()[sites].mean()),
        "mean_weights": {trace.names[index]: float(weights[index]) for index in best},
    }


def _print(facts: dict[str, Any]) -> None:
    adapters, layers, tokens = facts["adapters"], facts["layers"], facts["tokens"]
    say(f"{facts['router']} on {facts['library']} ({facts['base_model']})")
    say(f"{len(tokens)} tokens, {facts['sites']} modules, {len(adapters)} adapters")
    say()
    rows = [
        (entry["name"], f"{entry['mean_weight']:.3f}", f"{entry['mean_weight_of_typed_tokens']:.3f}")
        for entry in adapters[:SHOWN]
    ]
    say_table(("adapter", "mean weight", "of typed tokens"), rows, right=(1, 2))
    if len(adapters) > SHOWN:
        say(f"and {len(adapters) - SHOWN} more")
    say()
    say_table(
        ("layer", "entropy", "effective", "largest mean weights"), [_layer_row(layer) for layer in layers], right=(1, 2)
    )
    say(f"mean entropy {facts['mean_entropy']:.3f} nats")


def _layer_row(layer: dict[str, Any]) -> tuple[str, str, str, str]:
    best = list(layer["mean_weights"].items())[:SHOWN_PER_LAYER]
    return (
        layer["layer"],
        f"{layer['entropy']:.3f}",
        f"{layer['effective_adapters']:.2f}",
        ", ".join(f"{name} {weight:.2f}" for name, weight in best if weight > 0) or "none",
    )


COMMAND = Command("route", "show which adapters a router gives each token of a prompt", add_options, run)
