"""`export LIBRARY --output DIR`: a merge as a PEFT adapter, clusters' means, or a folder that PEFT's Arrow runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import explorer
from explorer.commands.command import SEED, Command, Options, Parser, path, text, whole
from explorer.commands.opening import add_library
from explorer.commands.routers import OPTION_OF, add_router_options, routers_from
from explorer.commands.terminal import report, say, say_json, size_text
from explorer.errors import SettingsError

if TYPE_CHECKING:
    from explorer.adapters.library import Library
    from explorer.exporting.exported import Exported
    from explorer.exporting.mix import Mix
    from explorer.routing.router import Router

ALL = "all"
WAYS = "--router NAME, --adapter NAME, --cluster LABEL or --arrow"
CLUSTERING = {
    "clusters": "--clusters K",
    "clusters_file": "--clusters-file FILE",
    "measure": "--measure M",
    "seed": "--seed N",
}
ARROW_SETTINGS = ("top_k", "temperature")
STEPS_BETWEEN_LINES = 20


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    add_library(parser)
    parser.add_argument("--output", metavar="DIR", type=path, required=True, help="new folder that takes the result")
    what = parser.add_argument_group("what to export")
    what.add_argument("--router", metavar="NAME", type=text, help="single, uniform, weighted, linear or ties")
    what.add_argument("--cluster", metavar="LABEL", type=text, help="the mean of one cluster (cluster_2), or 'all'")
    what.add_argument("--arrow", action="store_true", help="all adapters, with a script that runs them in PEFT's Arrow")
    add_router_options(parser, "directions kept in each module of the export (0: all)")
    clusters = parser.add_argument_group("which clusters, with --cluster")
    clusters.add_argument(
        "--clusters",
        metavar="K",
        type=whole(1, 100_000),
        help="number of clusters (the library's own, else the best silhouette)",
    )
    clusters.add_argument(
        "--clusters-file", metavar="FILE.json", type=path, help="clusters as `cluster --output` wrote"
    )
    clusters.add_argument("--measure", choices=("update", "parameters"), help="what is compared (update)")
    clusters.add_argument("--seed", metavar="N", type=SEED, help="of KMeans (42)")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="of the factors (float32)")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(options: Options) -> None:
    """Write the folder and say what is in it."""
    _check(options)
    from explorer.exporting.whole_folder import check_folder

    check_folder(options.output)
    with explorer.open_library(options.library) as library:
        if options.arrow:
            _arrow(options, library)
        else:
            _tell(options, library, _merged(options, library))


def _check(options: Options) -> None:
    """Refuse options that do not go together.

    Raises:
        SettingsError: as said.
    """
    ways = {"--router": options.router or options.adapter, "--cluster": options.cluster, "--arrow": options.arrow}
    chosen = [name for name, given in ways.items() if given]
    if len(chosen) != 1:
        problem = f"does not go with {chosen[1]}" if chosen else "is not said"
        raise SettingsError(chosen[0] if chosen else "What to export", problem, fix=f"Give one of {WAYS}.")
    (way,) = chosen
    written = {**{attribute: name for attribute, name in OPTION_OF.values()}, **CLUSTERING, "dtype": "--dtype"}
    own = {
        "--router": {attribute for attribute, _ in OPTION_OF.values()} | {"dtype"},
        "--cluster": {*CLUSTERING, "rank", "dtype"},
        "--arrow": set(ARROW_SETTINGS),
    }
    for attribute, name in written.items():
        if attribute not in own[way] and getattr(options, attribute) is not None:
            raise SettingsError(name, f"does not go with {way}", fix="Leave it out.")
    beside = next(
        (CLUSTERING[name] for name in ("clusters", "measure", "seed") if getattr(options, name) is not None), ""
    )
    if options.clusters_file and beside:
        raise SettingsError(beside, "does not go with --clusters-file", fix="Leave one of them out.")


def _merged(options: Options, library: Library) -> tuple[Exported, ...]:
    from explorer.exporting.merged import needed, write_mix
    from explorer.exporting.mix import cluster_mix, mix_of

    rank, dtype = options.rank or 0, options.dtype or "float32"
    if options.cluster == ALL:
        clusters = _clusters(options, library)
        return explorer.export_clusters(library, clusters, options.output, rank=rank, dtype=dtype, progress=_progress)
    if options.cluster:
        label, members = _chosen(options.cluster, _clusters(options, library))
        mix: Mix = cluster_mix(library, label, members, rank)
    else:
        mix = mix_of(library, _router(options), rank)
    if mix.is_merge and not rank:
        size = size_text(needed(mix, dtype))
        report(f"{mix.label} has full rank: up to {size}; --rank makes it smaller")
    return (write_mix(mix, options.output, dtype, _progress),)


def _router(options: Options) -> Router:
    """The router; of a linear merge, too, the rank is that of the export."""
    settings = argparse.Namespace(**{**vars(options), "rank": None})
    return routers_from(settings, [options.router] if options.router else [])[0]


def _clusters(options: Options, library: Library) -> dict[str, tuple[str, ...]]:
    if options.clusters_file:
        from explorer.analysis.cluster_file import read_clusters

        return read_clusters(options.clusters_file, library.names).members()
    similarity = explorer.similarity(library, measure=options.measure or "update")
    seed = {} if options.seed is None else {"seed": options.seed}
    return explorer.cluster(similarity, n_clusters=options.clusters or library.clusters, **seed).members()


def _chosen(label: str, clusters: Mapping[str, tuple[str, ...]]) -> tuple[str, tuple[str, ...]]:
    """A cluster by its label or its number alone.

    Raises:
        SettingsError: there is none; the message lists those there are.
    """
    name = label if label in clusters else f"cluster_{label}"
    if name not in clusters:
        menu = ", ".join([*list(clusters)[:20], ALL])
        raise SettingsError("--cluster", f"there is no {label[:40]!r}", fix=f"Choose from: {menu}.")
    return name, clusters[name]


def _progress(done: int, total: int) -> None:
    if done % STEPS_BETWEEN_LINES == 0 or done == total:
        report(f"{done} of {total} done")


def _arrow(options: Options, library: Library) -> None:
    settings = {name: getattr(options, name) for name in ARROW_SETTINGS if getattr(options, name) is not None}
    written = explorer.export_arrow(library, options.output, explorer.routers.Arrow(**settings), progress=_progress)
    if options.json:
        say_json(
            {
                "output": str(options.output),
                "library_hash": library.content_hash,
                "script": "run_arrow.py",
                "adapters": dict(written.adapters),
                "filled_up": list(written.filled_up),
                "base_model_checked": written.checked,
            }
        )
        return
    say(f"{options.output}: {len(written.adapters)} adapters for PEFT's Arrow")
    if written.filled_up:
        say(f"filled up with zeros to one rank: {', '.join(written.filled_up)}")
    say(f"python {options.output / 'run_arrow.py'} PROMPT")


def _tell(options: Options, library: Library, written: Sequence[Exported]) -> None:
    if options.json:
        exports = [{"folder": str(one.folder), **one.facts()} for one in written]
        say_json({"output": str(options.output), "library_hash": library.content_hash, "exports": exports})
        return
    for one in written:
        say(f"{one.folder}: {one.label}, {one.form_text}, {one.kept_text}")
        if one.left_out:
            say(f"left out, as their update is zero: {len(one.left_out)} modules")


COMMAND = Command("export", "write a merge, cluster means or an Arrow folder for PEFT", add_options, run)
