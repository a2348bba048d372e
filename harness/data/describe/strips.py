"""The values of each column by genre, as small drawings that the page's template makes of SVG lines.

Nearly sixty panels in two themes would be slow to draw with matplotlib, and would not flow on a narrow screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.describe.columns import Columns

LEFT, RIGHT = 76.0, 234.0  # of the lines, in units of the drawing
LINE = 14.0  # height of a genre
LETTERS = 12  # of a genre's name that there is room for


@dataclass(frozen=True, slots=True)
class StripRow:
    """The line of one genre: the places of its five quantiles, and its distance from the top."""

    genre: str
    short: str
    y: float
    places: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Strip:
    """The drawing of one column; `low` and `high` are the values at its ends."""

    column: str
    differs: float
    low: str
    high: str
    alt: str
    height: float
    rows: tuple[StripRow, ...]


def strips_of(columns: Columns, genres: Sequence[str], drawn: Sequence[int]) -> dict[str, list[Strip]]:
    """Return the drawings of the columns that are not constant, by family; `drawn` are the genres with a line."""
    place = {name: index for index, name in enumerate(columns.names)}
    found = {
        family: [
            _strip(name, float(columns.differs[place[name]]), columns.quantiles[:, place[name]], genres, drawn)
            for name in members
            if name not in columns.constant
        ]
        for family, members in columns.families.items()
    }
    return {family: strips for family, strips in found.items() if strips}


def show_value(value: float) -> str:
    """Return a value of a column with three digits, and large ones in full."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _strip(column: str, differs: float, every: np.ndarray, names: Sequence[str], drawn: Sequence[int]) -> Strip:
    known = [genre for genre in drawn if not np.isnan(every[genre]).any()]
    genres, quantiles = [names[genre] for genre in known], every[known]
    low, high = float(quantiles.min()), float(quantiles.max())
    places = LEFT + (RIGHT - LEFT) * (quantiles - low) / ((high - low) or 1.0)
    medians = ", ".join(f"{genre} {show_value(row[2])}" for genre, row in zip(genres, quantiles, strict=True))
    rows = [
        StripRow(genre, shortened(genre), LINE * (index + 0.5), tuple(np.round(line, 1).tolist()))
        for index, (genre, line) in enumerate(zip(genres, places, strict=True))
    ]
    return Strip(
        column=column,
        differs=differs,
        low=show_value(low),
        high=show_value(high),
        alt=f"{column}, medians by genre: {medians}",
        height=LINE * len(genres),
        rows=tuple(rows),
    )


def shortened(genre: str) -> str:
    """Return the name of a genre as there is room for it."""
    return genre if len(genre) <= LETTERS else f"{genre[: LETTERS - 1]}…"
