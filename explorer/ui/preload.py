"""Tells the browser early of the one large script that the first view needs: plotly's, inside Gradio.

Gradio asks for it only when the first plot is mounted, a good second into the loading of the page.
"""

from __future__ import annotations

from pathlib import Path

import gradio

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"


def preload_head() -> str:
    """A preload tag for each such script that this release of Gradio has ("" for none)."""
    return "".join(
        f'<link rel="modulepreload" href="./assets/{script.name}">\n'
        for script in sorted(ASSETS.glob("PlotlyPlot-*.js"))
    )
