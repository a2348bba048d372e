"""The pictures of a comparison, each with a text alternative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.compare.counts import band, confusion, recalls, tracks_apart
from harness.compare.result import Comparison
from harness.study.plots import BLUE, GREY, ORANGE, plain

# Okabe and Ito (2008): most colour-blind readers can tell them apart, and they show on both backgrounds.
COLOURS = (ORANGE, BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PAIRS_SHOWN = 3
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
    """A picture: the name of its file, its title, its text alternative, and the function that draws it."""

    name: str
    title: str
    alt: str
    draw: Callable[[], Figure]

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


def pictures_of(comparison: Comparison) -> list[Picture]:
    """Return every picture of a comparison, in the order of the report."""
    return [
        _accuracies(comparison),
        _curves(comparison),
        _recalls(comparison),
        _confusions(comparison),
        _trials(comparison),
        *[_tracks(comparison, a.name, b.name) for a, b in list(combinations(comparison.studied, 2))[:PAIRS_SHOWN]],
    ]


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display and without pyplot's global state
    panels = [figure.add_subplot(rows, columns, 1 + index) for index in range(columns * rows)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _legend_above(axes: Axes) -> None:
    """Put the legend above the panel, in two columns if its names are long, else in four."""
    letters = sum(len(label) for label in axes.get_legend_handles_labels()[1])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4 if letters < 65 else 2)


def _colour(comparison: Comparison, name: str) -> str:
    names = [candidate.name for candidate in comparison.studied]
    return COLOURS[names.index(name) % len(COLOURS)] if name in names else GREY


def _genres(comparison: Comparison) -> list[str]:
    return [plain(genre) for genre in comparison.genres]


def _accuracies(comparison: Comparison) -> Picture:
    rows = sorted(comparison.rows, key=lambda row: row.test.mean)

    def draw() -> Figure:
        figure, (axes,) = _figure(7.5, 1.2 + 0.42 * len(rows))
        for place, row in enumerate(rows):
            colour = _colour(comparison, row.name)
            points = [
                float((outcome.test == comparison.truth(split.test)).mean())
                for outcome, split in zip(comparison.outcomes[row.name], comparison.splits, strict=True)
            ]
            axes.scatter(points, [place] * len(points), color=colour, alpha=0.35, s=18, linewidths=0)
            axes.plot([row.test.low, row.test.high], [place, place], color=colour, linewidth=2.5)
            axes.scatter([row.test.mean], [place], color=colour, s=55, zorder=3)
        axes.set_yticks(range(len(rows)), [plain(row.name) for row in rows])
        axes.set_xlabel(f"test accuracy (mean, 95 % interval; faint: each of {len(comparison.splits)} repeats)")
        axes.set_xlim(left=0)
        return figure

    said = "; ".join(
        f"{row.name} {row.test.mean:.3f}, interval {row.test.low:.3f} to {row.test.high:.3f}"
        for row in reversed(rows)
    )
    return Picture(name="accuracy", title="Test accuracy", alt=f"Test accuracy by model: {said}.", draw=draw)


def _curves(comparison: Comparison) -> Picture:
    def draw() -> Figure:
        figure, panels = _figure(9, 3.8, columns=2)
        for axes, metric in zip(panels, ("val_accuracy", "train_loss"), strict=True):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            for candidate in comparison.studied:
                mean, std = band(comparison.outcomes[candidate.name], metric)
                epochs, colour = np.arange(1, len(mean) + 1), _colour(comparison, candidate.name)
                axes.plot(epochs, mean, color=colour, label=plain(candidate.name))
                axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
            axes.set_xlabel("epoch")
            axes.set_ylabel({"val_accuracy": "validation accuracy", "train_loss": "train loss"}[metric])
        panels[0].legend(loc="lower right")
        return figure

    said = []
    for candidate in comparison.studied:
        mean, _ = band(comparison.outcomes[candidate.name], "val_accuracy")
        if len(mean):
            best = int(np.nanargmax(mean))
            said.append(
                f"{candidate.name} reaches a mean validation accuracy of {mean[best]:.3f} at epoch {best + 1}"
            )
    return Picture(
        name="learning_curves",
        title="Learning curves of the best configurations",
        alt="Validation accuracy and train loss by epoch, mean and standard deviation over the repeats: "
        + "; ".join(said)
        + ".",
        draw=draw,
    )


def _confusions(comparison: Comparison) -> Picture:
    names = [candidate.name for candidate in comparison.studied]

    def draw() -> Figure:
        columns = min(2, len(names))
        lines = -(-len(names) // columns)
        figure, panels = _figure(5.4 * columns, 5.2 * lines, columns=columns, rows=lines)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        ticks, genres = range(len(comparison.genres)), _genres(comparison)
        for axes, name in zip(panels, names, strict=False):
            counts = confusion(comparison, name)
            shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
            axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
            axes.set_xticks(ticks, genres, rotation=60, ha="right", rotation_mode="anchor")
            axes.set_yticks(ticks, genres)
            axes.set_title(plain(name))
            axes.set_xlabel("predicted")
            axes.set_ylabel("true")
            for (row, column), share in np.ndenumerate(shares):
                if share >= 0.005:
                    colour = "#000000" if share > 0.55 else "#ffffff"
                    text = f"{100 * share:.0f}"
                    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5)
        return figure

    said = []
    for name in names:
        counts = confusion(comparison, name)
        np.fill_diagonal(counts, 0)
        true, guess = np.unravel_index(int(counts.argmax()), counts.shape)
        if counts.max():
            said.append(f"{name} most often takes {comparison.genres[true]} for {comparison.genres[guess]}")
        else:
            said.append(f"{name} makes no errors")
    return Picture(
        name="confusion",
        title="Confusion matrices",
        alt="Percentage of each true genre predicted as each genre, over all repeats: " + "; ".join(said) + ".",
        draw=draw,
    )


def _recalls(comparison: Comparison) -> Picture:
    def draw() -> Figure:
        figure, (axes,) = _figure(9, 3.8)
        width = 0.8 / len(comparison.studied)
        for index, candidate in enumerate(comparison.studied):
            found = recalls(comparison, candidate.name)
            places = np.arange(len(comparison.genres)) + (index - (len(comparison.studied) - 1) / 2) * width
            axes.bar(
                places,
                np.nanmean(found, axis=0),
                width * 0.92,
                yerr=np.nanstd(found, axis=0),
                color=_colour(comparison, candidate.name),
                ecolor=GREY,
                label=plain(candidate.name),
            )
        axes.set_xticks(range(len(comparison.genres)), _genres(comparison), rotation=30, ha="right")
        axes.set_ylabel("recall (mean, std over repeats)")
        axes.set_ylim(0, 1.05)
        _legend_above(axes)
        return figure

    said = []
    for candidate in comparison.studied:
        mean = np.nanmean(recalls(comparison, candidate.name), axis=0)
        best, worst = int(np.nanargmax(mean)), int(np.nanargmin(mean))
        said.append(
            f"{candidate.name} recognises {comparison.genres[best]} best ({mean[best]:.2f}) "
            f"and {comparison.genres[worst]} worst ({mean[worst]:.2f})"
        )
    return Picture(
        name="recall_by_genre", title="Recall by genre", alt="Recall by genre: " + "; ".join(said) + ".", draw=draw
    )


def _trials(comparison: Comparison) -> Picture:
    def draw() -> Figure:
        figure, (axes,) = _figure(9, 3.8)
        for candidate in comparison.studied:
            values, colour = comparison.trial_values[candidate.name], _colour(comparison, candidate.name)
            for state, marker in (("COMPLETE", "o"), ("PRUNED", "x")):
                chosen = [(number, value) for number, value, kind in values if kind == state]
                if chosen:
                    xs, ys = zip(*chosen, strict=True)
                    axes.scatter(xs, ys, color=colour, marker=marker, s=22, alpha=0.7)
            complete = [(number, value) for number, value, kind in values if kind == "COMPLETE"]
            best = np.maximum.accumulate([value for _, value in complete])
            axes.step(
                [number for number, _ in complete], best, where="post", color=colour, label=plain(candidate.name)
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial (x: pruned; line: best so far)")
        axes.set_ylabel("validation accuracy")
        axes.legend(loc="lower right")
        return figure

    said = []
    for candidate in comparison.studied:
        values = comparison.trial_values[candidate.name]
        best = max(value for _, value, kind in values if kind == "COMPLETE")
        said.append(f"{candidate.name} reaches {best:.3f} in {len(values)} trials")
    return Picture(
        name="trials",
        title="Validation accuracy over the trials of each study",
        alt="Validation accuracy of each trial: " + "; ".join(said) + ".",
        draw=draw,
    )


def _tracks(comparison: Comparison, a: str, b: str) -> Picture:
    apart = tracks_apart(comparison, a, b)
    colours = (GREY, _colour(comparison, a), _colour(comparison, b), "#c9c9c9")
    labels = ("both right", f"only {a}", f"only {b}", "neither")

    def draw() -> Figure:
        figure, (axes,) = _figure(9, 1.4 + 0.34 * len(comparison.genres))
        places = np.arange(len(comparison.genres))[::-1]
        counts = np.array(
            [
                np.bincount(comparison.truth(tracks), minlength=len(places)) if tracks else 0 * places
                for tracks in apart
            ]
        )
        lefts = [0 * counts[0], *np.cumsum(counts, axis=0)[:-1]]
        for row, left, colour, label in zip(counts, lefts, colours, labels, strict=True):
            bars = axes.barh(places, row, left=left, color=colour, label=plain(label))
            axes.bar_label(
                bars, [str(n) if n else "" for n in row], label_type="center", fontsize=8, color="#000000"
            )
        axes.set_yticks(places, _genres(comparison))
        axes.set_xlabel("tracks of the test part of the studies' own split")
        _legend_above(axes)
        return figure

    sizes = [len(tracks) for tracks in apart]
    said = ", ".join(f"{label} {size}" for label, size in zip(labels, sizes, strict=True))
    return Picture(
        name=f"tracks_{a}_vs_{b}".replace(" ", "_"),
        title=f"Tracks that only one of {a} and {b} gets right",
        alt=f"Test tracks of the studies' own split, by genre: {said}, of {sum(sizes)}.",
        draw=draw,
    )
