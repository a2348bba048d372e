"""What the pictures of a page are drawn on: themes, colours, panels, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito (2008): most colour-blind readers can tell them apart, and they show on both backgrounds.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#888888"
COLOURS = (ORANGE, BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DPI = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """The colours of text and lines (`ink`) and of the background (`ground`)."""

    ink: str
    ground: str


LIGHT = Theme(ink="#1b1b1f", ground="#ffffff")
DARK = Theme(ink="#e6e6ea", ground="#17181c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture: the name of its file, its title, its text alternative, and the function that draws it.

    `is_wide`: its letters are small, so that on a narrow screen it must not shrink.
    """

    name: str
    title: str
    alt: str
    draw: Callable[[], Figure]
    is_wide: bool = False

    def save(self, path: Path, theme: Theme = LIGHT) -> None:
        """Draw the picture in a theme and write it in the format of the path's ending: png, pdf or svg.

        The same picture gives the same file: no date is in it, and the ids of an SVG follow from its content.
        """
        ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        ground = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
        style: Any = {**dict.fromkeys(ink, theme.ink), **dict.fromkeys(ground, theme.ground)}
        style |= {"legend.frameon": False, "font.size": 10, "svg.hashsalt": self.name}
        undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix)
        with matplotlib.rc_context(style):
            self.draw().savefig(path, dpi=DPI, metadata=undated)


def panels_of(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many inches, and its panels line by line."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display and without pyplot's global state
    panels = [figure.add_subplot(rows, columns, 1 + index) for index in range(columns * rows)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def plain(name: str) -> str:
    """Return a name from data or from a model as matplotlib takes it: `$` would begin a formula."""
    return name.replace("$", r"\$")
