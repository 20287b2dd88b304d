"""Plotly figures of records and traces; every function is pure."""

from explorer.ui.figures.adapter import layer_norm_figure, spectrum_figure
from explorer.ui.figures.library import silhouette_figure, similarity_figure
from explorer.ui.figures.map import map_figure
from explorer.ui.figures.routing import entropy_figure, routing_overview_figure
from explorer.ui.figures.weights import share_figure, token_detail_figure

__all__ = [
    "entropy_figure",
    "layer_norm_figure",
    "map_figure",
    "routing_overview_figure",
    "share_figure",
    "silhouette_figure",
    "similarity_figure",
    "spectrum_figure",
    "token_detail_figure",
]
