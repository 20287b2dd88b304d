"""Options that choose a router, the same for every command that routes."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from explorer.commands.command import Options, Parser, number, path, text, whole
from explorer.errors import SettingsError

if TYPE_CHECKING:
    from explorer.models.routed_model import RoutedModel
    from explorer.routing.router import Router

OPTION_OF = {  # a router's setting -> (attribute of the parsed options, how a user writes it)
    "top_k": ("top_k", "--top-k K"),
    "temperature": ("temperature", "--temperature T"),
    "unit_norm": ("unit_norm", "--unit-norm"),
    "name": ("adapter", "--adapter NAME"),
    "weights": ("weight", "--weight NAME=W"),
    "per_prompt": ("per_prompt", "--per-prompt"),
    "average_factors": ("average_factors", "--average-factors"),
    "rank": ("rank", "--rank R"),
    "density": ("density", "--density D"),
    "seed": ("random_seed", "--random-seed N"),
}

ROUTER_HELP = "arrow (default), calibrated, spectr, lag, single, uniform, weighted, linear, ties, random, base"
_WEIGHT_HELP = "weighted, linear: one adapter's weight; repeatable"
_FLAGS = {
    "--unit-norm": "arrow: scale each input to length 1 first",
    "--per-prompt": "arrow, calibrated, spectr, random: one decision a module for the whole prompt",
    "--average-factors": "arrow, uniform: mix A and B before multiplying, as the paper's own code does",
}


def add_router_options(parser: Parser, rank_help: str = "linear: directions kept (0: all)") -> None:
    """Add the settings of all routers; one that no chosen router has is refused when the command runs."""
    settings = parser.add_argument_group("settings of a router")
    settings.add_argument("--adapter", metavar="NAME", type=text, help="single: the adapter to use alone")
    settings.add_argument("--top-k", metavar="K", type=whole(1, 10_000), help="adapters kept per token (4; lag: 20)")
    settings.add_argument(
        "--temperature", metavar="T", type=number(1e-4, 1e4), help="of the softmax (1; calibrated: 0.25)"
    )
    settings.add_argument("--weight", metavar="NAME=W", type=_weight, action="append", help=_WEIGHT_HELP)
    settings.add_argument("--rank", metavar="R", type=whole(0, 4096), help=rank_help)
    settings.add_argument("--density", metavar="D", type=number(1e-3, 1.0), help="ties: share of entries kept (0.2)")
    settings.add_argument("--random-seed", metavar="N", type=whole(0, 999_999), help="random: of the prototypes (0)")
    for name, what in _FLAGS.items():
        settings.add_argument(name, action="store_true", default=None, help=what)


def routers_from(options: Options, keys: list[str]) -> list[Router]:
    """The routers called `keys` with the settings given.

    By default that is single where an adapter is named, none where something learned is, else Arrow.

    Raises:
        SettingsError: an unknown router (the menu is listed), a setting that is missing or that none of them has.
    """
    from explorer.routing.registry import ROUTERS, make_router
    from explorer.routing.setting import settings_of

    learned = getattr(options, "learned", [])
    keys = keys or (["single"] if options.adapter else [] if learned else ["arrow"])
    given = {setting: getattr(options, attribute) for setting, (attribute, _) in OPTION_OF.items()}
    given = {setting: value for setting, value in given.items() if value is not None}
    if "weights" in given:
        given["weights"] = dict(given["weights"])
    routers: list[Router] = []
    used: set[str] = set()
    for key in keys:
        abouts = settings_of(ROUTERS[key]) if key in ROUTERS else ()
        missing = [about.name for about in abouts if about.default is None and about.name not in given]
        if missing:
            raise SettingsError(f"Router {key}", f"needs {OPTION_OF[missing[0]][1]}")
        settings = {about.name: given[about.name] for about in abouts if about.name in given}
        routers.append(make_router(key, **settings))
        used.update(settings)
    for setting in given:
        if setting not in used:
            raise SettingsError(OPTION_OF[setting][1], f"is no setting of {' or '.join(keys) or 'what was learned'}")
    return routers


def add_learned(parser: Parser) -> None:
    """Add the option for what `learn` wrote."""
    parser.add_argument(
        "--learned",
        metavar="DIR",
        type=path,
        action="append",
        default=[],
        help="a folder that `learn` wrote, as router",
    )


def learned_routers(options: Options, routed: RoutedModel) -> list[Router]:
    """The routers of the folders named, for the prompt.

    Raises:
        LearningError: a folder is not usable, or was learned on another library.
    """
    from explorer.learning.store import load_learned

    return [load_learned(folder, routed.library).router_for(options.prompt, routed) for folder in options.learned]


def _weight(value: str) -> tuple[str, float]:
    name, _, weight = value.rpartition("=")
    try:
        parsed = float(weight)
    except ValueError:
        parsed = math.nan
    if not name or not math.isfinite(parsed):
        raise argparse.ArgumentTypeError(f"must be NAME=NUMBER, not {value[:80]!r}")
    return text(name), parsed
