"""Colour and shape of a cluster: 8 colours x 4 shapes, told apart also with colour-blind eyes."""

from __future__ import annotations

from dataclasses import dataclass

#: The smallest CIEDE2000 difference among these under protan, deutan and tritan vision is 13.4.
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#717581", "#92dadd")
SYMBOLS = ("circle", "square", "diamond", "triangle-up")
GLYPHS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲"}
UNKNOWN_COLOUR = "#8a8a8a"
#: Figures draw text, outlines and lines in this colour; the style sheet turns it into the theme's text colour.
INK = "#444444"

_OUTLINES = {
    "circle": '<circle cx="6" cy="6" r="4.6"/>',
    "square": '<rect x="1.6" y="1.6" width="8.8" height="8.8"/>',
    "diamond": '<path d="M6 .7 11.3 6 6 11.3 .7 6Z"/>',
    "triangle-up": '<path d="M6 1.1 11.3 10.6H.7Z"/>',
}


@dataclass(frozen=True)
class Mark:
    """How one cluster is drawn everywhere.

    Attributes:
        colour: as `#rrggbb`.
        symbol: plotly's name of the shape.
    """

    colour: str
    symbol: str

    @property
    def glyph(self) -> str:
        """The shape as one character, for plain text."""
        return GLYPHS[self.symbol]

    @property
    def svg(self) -> str:
        """The mark as a small inline picture, outlined in the text colour."""
        return (
            f'<svg class="lx-mark" viewBox="0 0 12 12" aria-hidden="true" fill="{self.colour}" '
            f'stroke="currentColor">{_OUTLINES[self.symbol]}</svg>'
        )


def mark(label: int | None) -> Mark:
    """The mark of cluster `label`; the shape changes after every eight clusters. None: no cluster, a grey circle."""
    if label is None:
        return Mark(UNKNOWN_COLOUR, SYMBOLS[0])
    return Mark(COLOURS[label % len(COLOURS)], SYMBOLS[label // len(COLOURS) % len(SYMBOLS)])
