"""The pictures of a comparison, each with a text alternative."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.compare.colours import colour_of
from harness.compare.counts import band, confusion, recalls, tracks_apart
from harness.compare.effort import trials_picture
from harness.compare.result import Comparison
from harness.core.pages.canvas import GREY, Picture, panels_of, plain

PAIRS_SHOWN = 3


def pictures_of(comparison: Comparison) -> list[Picture]:
    """Return every picture of a comparison, in the order of the report."""
    return [
        _accuracies(comparison),
        _curves(comparison),
        _recalls(comparison),
        _confusions(comparison),
        trials_picture(comparison),
        *[_tracks(comparison, a, b) for a, b in comparison.checkpoint_pairs[:PAIRS_SHOWN]],
    ]


def _legend_above(axes: Axes) -> None:
    """Put the legend above the panel, in two columns if its names are long, else in four."""
    letters = sum(len(label) for label in axes.get_legend_handles_labels()[1])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4 if letters < 65 else 2)


def _genres(comparison: Comparison) -> list[str]:
    return [plain(genre) for genre in comparison.genres]


def _accuracies(comparison: Comparison) -> Picture:
    rows = sorted(comparison.rows, key=lambda row: row.test.mean)

    def draw() -> Figure:
        figure, (axes,) = panels_of(7.5, 1.2 + 0.42 * len(rows))
        for place, row in enumerate(rows):
            colour = colour_of(comparison, row.name)
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
    # A repeat that trains on the validation part too has no validation accuracy.
    metrics = ["train_loss"] if comparison.protocol == "refit" else ["val_accuracy", "train_loss"]

    def draw() -> Figure:
        figure, panels = panels_of(4.5 * len(metrics), 3.8, columns=len(metrics))
        for axes, metric in zip(panels, metrics, strict=True):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            for candidate in comparison.studied:
                mean, std = band(comparison.outcomes[candidate.name], metric)
                epochs, colour = np.arange(1, len(mean) + 1), colour_of(comparison, candidate.name)
                axes.plot(epochs, mean, color=colour, label=plain(candidate.name))
                axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
            axes.set_xlabel("epoch")
            axes.set_ylabel({"val_accuracy": "validation accuracy", "train_loss": "train loss"}[metric])
        panels[0].legend(loc="best")
        return figure

    said = []
    for candidate in comparison.studied:
        mean, _ = band(comparison.outcomes[candidate.name], metrics[0])
        if len(mean) and metrics[0] == "train_loss":
            said.append(f"{candidate.name} ends at a mean train loss of {mean[-1]:.3f} after epoch {len(mean)}")
        elif len(mean):
            best = int(np.nanargmax(mean))
            said.append(
                f"{candidate.name} reaches a mean validation accuracy of {mean[best]:.3f} at epoch {best + 1}"
            )
    shown = "Train loss" if metrics == ["train_loss"] else "Validation accuracy and train loss"
    return Picture(
        name="learning_curves",
        title="Learning curves of the best configurations",
        alt=f"{shown} by epoch, mean and standard deviation over the repeats: {'; '.join(said)}.",
        draw=draw,
    )


def _confusions(comparison: Comparison) -> Picture:
    names = [candidate.name for candidate in comparison.studied]

    def draw() -> Figure:
        columns = min(2, len(names))
        lines = -(-len(names) // columns)
        figure, panels = panels_of(5.4 * columns, 5.2 * lines, columns=columns, rows=lines)
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

    said, word = [], comparison.words.class_
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
        alt=f"Percentage of each true {word} predicted as each {word}, over all repeats: {'; '.join(said)}.",
        draw=draw,
    )


def _recalls(comparison: Comparison) -> Picture:
    def draw() -> Figure:
        figure, (axes,) = panels_of(9, 3.8)
        width = 0.8 / len(comparison.studied)
        for index, candidate in enumerate(comparison.studied):
            found = recalls(comparison, candidate.name)
            places = np.arange(len(comparison.genres)) + (index - (len(comparison.studied) - 1) / 2) * width
            axes.bar(
                places,
                np.nanmean(found, axis=0),
                width * 0.92,
                yerr=np.nanstd(found, axis=0),
                color=colour_of(comparison, candidate.name),
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
        name="recall_by_genre",
        title=f"Recall by {comparison.words.class_}",
        alt=f"Recall by {comparison.words.class_}: " + "; ".join(said) + ".",
        draw=draw,
    )


def _tracks(comparison: Comparison, a: str, b: str) -> Picture:
    apart = tracks_apart(comparison, a, b)
    colours = (GREY, colour_of(comparison, a), colour_of(comparison, b), "#c9c9c9")
    labels = ("both right", f"only {a}", f"only {b}", "neither")

    def draw() -> Figure:
        figure, (axes,) = panels_of(9, 1.4 + 0.34 * len(comparison.genres))
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
        axes.set_xlabel(f"{comparison.words.items} of the test part of the studies' own split")
        _legend_above(axes)
        return figure

    sizes, words = [len(tracks) for tracks in apart], comparison.words
    said = ", ".join(f"{label} {size}" for label, size in zip(labels, sizes, strict=True))
    return Picture(
        name=f"tracks_{a}_vs_{b}".replace(" ", "_"),
        title=f"{words.items.capitalize()} that only one of {a} and {b} gets right",
        alt=f"Test {words.items} of the studies' own split, by {words.class_}: {said}, of {sum(sizes)}.",
        draw=draw,
    )
