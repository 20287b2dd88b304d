"""LoRA library explorer: MBC clusters and Arrow routing (arXiv 2405.11157) of a library of LoRA adapters.

What is public is listed here and loaded on first use, so that `import explorer` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer import routers
    from explorer.adapters.library import Library
    from explorer.analysis.clustering import cluster
    from explorer.analysis.neighbours import neighbours
    from explorer.analysis.projection import project
    from explorer.analysis.similarity import similarity
    from explorer.errors import ExplorerError
    from explorer.exporting.arrow_folder import export_arrow
    from explorer.exporting.merged import export_adapter, export_clusters
    from explorer.models.base import load_base_model
    from explorer.models.routed_model import RoutedModel

__all__ = [
    "ExplorerError",
    "RoutedModel",
    "cluster",
    "export_adapter",
    "export_arrow",
    "export_clusters",
    "load_base_model",
    "neighbours",
    "open_library",
    "project",
    "routers",
    "similarity",
]

_HOMES = {
    "ExplorerError": "explorer.errors",
    "RoutedModel": "explorer.models.routed_model",
    "cluster": "explorer.analysis.clustering",
    "export_adapter": "explorer.exporting.merged",
    "export_arrow": "explorer.exporting.arrow_folder",
    "export_clusters": "explorer.exporting.merged",
    "load_base_model": "explorer.models.base",
    "neighbours": "explorer.analysis.neighbours",
    "project": "explorer.analysis.projection",
    "similarity": "explorer.analysis.similarity",
}


def open_library(source: str | Path, *, allow_local: bool = True) -> Library:
    """Open a library of adapters and check them against their base model where its shapes are at hand.

    Updates stay in their files until they are asked for, so the files must stay as they are while the library is used.

    Args:
        source: `sample` or a sample's name, a folder, a .zip file, or a hub repository id (`owner/name`).
        allow_local: false where folders and files of this machine must not be named.

    Raises:
        LibraryError: the source is unknown or out of reach, or holds nothing that can be used.
    """
    from explorer.adapters import sources  # noqa: PLC0415 - torch comes with it
    from explorer.models.shapes import known_shapes  # noqa: PLC0415

    def shapes_of(base_model: str) -> Any:
        return known_shapes(base_model, allow_local=allow_local)

    return sources.open_library(source, shapes_of=shapes_of, allow_local=allow_local)


def __getattr__(name: str) -> Any:
    if name == "routers":
        return import_module("explorer.routers")
    if name not in _HOMES:
        raise AttributeError(f"module 'explorer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
