"""The pictures of a description, each with a text alternative."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from harness.core.pages.canvas import BLUE, GREY, ORANGE, Picture, panels_of, plain
from harness.data.describe.columns import QUANTILES, STRONG, Columns
from harness.data.describe.description import TEMPO, Description
from harness.data.describe.points import Plane
from harness.data.describe.strips import shortened

PANELS_A_ROW = 5
SHOWN_COMPONENTS = 20


def correlation_picture(columns: Columns) -> Picture:
    """Return the correlations of all columns, those of a family side by side."""
    names = [plain(columns.names[place]) for place in columns.drawn]

    def draw() -> Figure:
        side = 2.2 + 0.145 * len(names)
        figure, (axes,) = panels_of(side + 0.9, side)
        image = axes.imshow(
            columns.pearson,
            cmap=colormaps["RdBu_r"].with_extremes(bad=GREY),
            vmin=-1,
            vmax=1,
            interpolation="nearest",
        )
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        for end in np.cumsum([len(members) for members in columns.families.values()])[:-1] - 0.5:
            axes.axhline(end, color="#1b1b1f", linewidth=0.8)
            axes.axvline(end, color="#1b1b1f", linewidth=0.8)
        figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, label="correlation (Pearson)")
        return figure

    strong = [pair for pair in columns.strongest if abs(pair.values) >= STRONG]
    said = "; ".join(f"{pair.a} and {pair.b} {pair.values:.2f}" for pair in strong[:3])
    return Picture(
        name="correlations",
        title="Correlation of the features",
        alt=f"Correlations of {len(names)} columns; {len(strong)} pairs at {STRONG} or more in size"
        + (f", the strongest {said}." if said else "."),
        draw=draw,
        is_wide=True,
    )


def tempo_picture(found: Description) -> Picture | None:
    """Return the tempo by genre, slowest genre first; None if the data have no tempo, or only one."""
    columns, train = found.columns, found.train
    if columns is None or train.features is None or TEMPO not in columns.names or TEMPO in columns.constant:
        return None
    values = train.features[:, train.columns.index(TEMPO)]
    known = ~np.isnan(values)
    groups = [(train.genres[genre], values[known & (train.labels == genre)]) for genre in found.drawn]
    groups = [group for group in groups if len(group[1])]
    groups.sort(key=lambda group: float(np.median(group[1])))

    def draw() -> Figure:
        figure, (axes,) = panels_of(9, 1.2 + 0.36 * len(groups))
        places = range(len(groups))
        shift = np.random.default_rng(0)
        for place, (_, group) in zip(places, groups, strict=True):
            ends = np.quantile(group, QUANTILES)
            axes.plot(ends[[0, 4]], [place, place], color=GREY, linewidth=1)
            axes.plot(ends[[1, 3]], [place, place], color=GREY, linewidth=9, solid_capstyle="butt", alpha=0.5)
            heights = place + shift.uniform(-0.22, 0.22, len(group))
            axes.scatter(group, heights, color=BLUE, alpha=0.85, s=11, linewidths=0, zorder=3)
            axes.plot([ends[2]] * 2, [place - 0.32, place + 0.32], color=ORANGE, linewidth=3, zorder=4)
        axes.set_yticks(places, [plain(shortened(genre)) for genre, _ in groups])
        axes.set_xlabel("tempo, beats a minute")
        return figure

    said = ", ".join(f"{genre} {np.median(group):.0f}" for genre, group in groups)
    return Picture(name="tempo", title="Tempo by genre", alt=f"Median tempo, beats a minute: {said}.", draw=draw)


def explained_picture(plane: Plane) -> Picture:
    """Return the share of the variance that each component explains, and the sum."""
    shares = 100 * np.array([component.explained for component in plane.components])

    def draw() -> Figure:
        figure, (axes,) = panels_of(9, 3.2)
        numbers, few = np.arange(1, len(shares) + 1), shares[:SHOWN_COMPONENTS]
        axes.bar(numbers[: len(few)], few, color=BLUE, label="by itself")
        axes.plot(
            numbers[: len(few)],
            np.cumsum(few),
            color=ORANGE,
            marker="o",
            markersize=4,
            label="with all before it",
        )
        axes.set_xticks(numbers[: len(few)])
        axes.set_ylim(0, 105)
        axes.set_xlabel("component")
        axes.set_ylabel("variance explained, per cent")
        axes.legend(loc="center right")
        return figure

    said = ", ".join(f"{share:.1f}" for share in shares[:5])
    return Picture(
        name="explained",
        title="Explained variance",
        alt=f"Variance explained, per cent: {said} by the first components; two together {shares[:2].sum():.1f}; "
        f"{plane.needed} of {len(shares)} for 90 %.",
        draw=draw,
    )


def plane_picture(found: Description, plane: Plane) -> Picture:
    """Return the tracks on the first two components, a panel for each genre with the others in grey."""
    genres = [found.train.genres[genre] for genre in found.drawn]

    def draw() -> Figure:
        columns = min(PANELS_A_ROW, len(genres))
        lines = -(-len(genres) // columns)
        figure, panels = panels_of(2.1 * columns, 0.5 + 2.1 * lines, columns=columns, rows=lines)
        for axes in panels[len(genres) :]:
            axes.set_visible(False)
        ink = matplotlib.rcParams["text.color"]  # of the theme that is drawn
        limits = _limits(np.concatenate([plane.train, plane.valid]))
        for axes, genre in zip(panels, found.drawn, strict=False):
            own = plane.train[found.train.labels == genre]
            checked = plane.valid[found.valid.labels == genre]
            axes.scatter(plane.train[:, 0], plane.train[:, 1], color=GREY, s=3, alpha=0.3, linewidths=0)
            axes.scatter(own[:, 0], own[:, 1], color=ORANGE, s=9, linewidths=0)
            axes.scatter(checked[:, 0], checked[:, 1], facecolors="none", edgecolors=ink, s=16, linewidths=1)
            axes.set(xlim=limits[0], ylim=limits[1])
            axes.set_title(plain(shortened(found.train.genres[genre])), fontsize=10)
            axes.tick_params(labelsize=7)
        first, second = (100 * component.explained for component in plane.components[:2])
        figure.supxlabel(f"component 1 ({first:.1f} % of the variance)", fontsize=10)
        figure.supylabel(f"component 2 ({second:.1f} %)", fontsize=10)
        return figure

    said = [
        f"{genre} {values[0]:.1f}, {values[1]:.1f}"
        for genre, values in zip(genres, (_middle(plane, found, index) for index in found.drawn), strict=True)
    ]
    return Picture(
        name="plane",
        title="Tracks on the first two components",
        alt="Each panel has one genre: train tracks in orange, validation tracks as rings, all train tracks "
        f"in grey. Medians of the train tracks: {'; '.join(said)}.",
        draw=draw,
    )


def _middle(plane: Plane, found: Description, genre: int) -> Sequence[float]:
    middle: list[float] = np.median(plane.train[found.train.labels == genre], axis=0).tolist()
    return middle


def _limits(points: np.ndarray) -> list[tuple[float, float]]:
    """Return the limits of both axes. Tracks that lie far out would press all others into a corner."""
    low, high = np.quantile(points, 0.005, axis=0), np.quantile(points, 0.995, axis=0)
    margin = 0.08 * (high - low)
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))
