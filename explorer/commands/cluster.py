"""`cluster LIBRARY`: which adapters belong together (MBC, section 3.1 of the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import explorer
from explorer.commands.command import SEED, Command, Options, Parser, number, path, whole
from explorer.commands.files import check_place, write_whole
from explorer.commands.opening import add_library
from explorer.commands.terminal import say, say_json, say_table

if TYPE_CHECKING:
    from explorer.adapters.library import Library
    from explorer.analysis.clustering import Clustering
    from explorer.analysis.similarity import Similarity


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    add_library(parser)
    parser.add_argument(
        "--measure",
        choices=("update", "parameters"),
        default="update",
        help="compare the updates themselves (any ranks and seeds), or the raw factors as the paper's code does",
    )
    parser.add_argument(
        "--clusters",
        metavar="K",
        type=whole(1, 100_000),
        help="number of clusters (the library's own, else the best silhouette)",
    )
    parser.add_argument(
        "--sparsity", metavar="S", type=number(0.0, 1.0), default=0.5, help="parameters: share of entries zeroed (0.5)"
    )
    parser.add_argument("--seed", metavar="N", type=SEED, default=42, help="of KMeans (42)")
    parser.add_argument("--output", metavar="FILE.json", type=path, help="write {cluster_k: [names]} to this file")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: Options) -> None:
    """Cluster the library, print the clusters, and write them where asked."""
    if options.output:
        check_place(options.output)
    with explorer.open_library(options.library) as library:
        similarity = explorer.similarity(library, measure=options.measure, sparsity=options.sparsity)
        clustering = explorer.cluster(similarity, n_clusters=options.clusters or library.clusters, seed=options.seed)
        if options.output:
            from explorer.analysis.cluster_file import write_clusters

            write_whole(options.output, lambda scratch: write_clusters(clustering, scratch))
        if options.json:
            say_json(_facts(library, similarity, clustering, options))
        else:
            _print(library, similarity, clustering, options)


def _facts(library: Library, similarity: Similarity, clustering: Clustering, options: Options) -> dict[str, object]:
    return {
        "library": library.title,
        "content_hash": library.content_hash,
        "measure": similarity.measure,
        "sparsity": options.sparsity if similarity.measure == "parameters" else None,
        "seed": clustering.seed,
        "n_clusters": clustering.n_clusters,
        "suggested": clustering.suggested,
        "silhouettes": clustering.silhouettes,
        "clusters": clustering.members(),
        "coverage": dict(zip(similarity.names, similarity.coverage, strict=True)),
        "notes": list(similarity.notes),
    }


def _print(library: Library, similarity: Similarity, clustering: Clustering, options: Options) -> None:
    counts = f"{len(clustering.names)} adapters in {clustering.n_clusters} clusters"
    say(f"{library.title}: {counts}, by {similarity.measure}, seed {clustering.seed}")
    if options.clusters and options.clusters != clustering.n_clusters:
        say(f"{options.clusters} clusters were asked for; that many cannot be told apart here")
    say()
    for name, members in clustering.members().items():
        say(f"{name}: {', '.join(members)}")
    for note in similarity.notes:
        say(note)
    if clustering.silhouettes:
        say()
        rows = [(str(k), f"{value:.3f}", _mark(k, clustering)) for k, value in sorted(clustering.silhouettes.items())]
        say_table(("K", "silhouette", ""), rows, right=(0, 1))


def _mark(k: int, clustering: Clustering) -> str:
    marks = ["suggested"] if k == clustering.suggested else []
    return ", ".join([*marks, "shown"] if k == clustering.n_clusters else marks)


COMMAND = Command("cluster", "group a library's adapters by similarity (MBC)", add_options, run)
