"""What the searches behind a comparison have cost and reached, as a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.compare.colours import colour_of
from harness.compare.result import Comparison
from harness.core.pages.canvas import Picture, panels_of, plain
from harness.core.search_stats import expected_best
from harness.core.trial_rows import TrialRow
from harness.study.plots import draw_expected_best


def trials_picture(comparison: Comparison) -> Picture:
    """Return the picture of the trials of each study in their order, and of the expected best of so many."""

    def draw() -> Figure:
        figure, (order, by_trials, by_time) = panels_of(12, 3.8, columns=3)
        for candidate in comparison.studied:
            rows, colour = comparison.trials[candidate.name], colour_of(comparison, candidate.name)
            _in_order(order, rows, colour, plain(candidate.name))
            curve = expected_best([row.val_accuracy or 0.0 for row in rows])
            draw_expected_best(by_trials, curve, curve.trials, colour, plain(candidate.name))
            seconds = curve.trials * np.float64(seconds_a_trial(rows))
            draw_expected_best(by_time, curve, seconds, colour, plain(candidate.name))
        order.xaxis.set_major_locator(MaxNLocator(integer=True))
        order.set_xlabel("trial (x: pruned; line: best so far)")
        order.set_ylabel("validation accuracy")
        order.legend(loc="lower right")
        by_trials.set_xlabel("trials: expected best of so many")
        by_time.set_xlabel("seconds of training: expected best")
        if all(seconds_a_trial(comparison.trials[candidate.name]) > 0 for candidate in comparison.studied):
            by_time.set_xscale("log")  # a network for pictures takes a hundred times as long as one for features
        return figure

    said = []
    for candidate in comparison.studied:
        rows = comparison.trials[candidate.name]
        best = max(row.val_accuracy or 0.0 for row in rows if row.state == "COMPLETE")
        effort = f"{len(rows)} trials of {seconds_a_trial(rows):.1f} s in the mean"
        said.append(f"{candidate.name} reaches {best:.3f} in {effort}")
    return Picture(
        name="trials",
        title="Validation accuracy of the trials of each study, and the expected best by trials and by time",
        alt="Validation accuracy of each trial: " + "; ".join(said) + ".",
        draw=draw,
    )


def seconds_a_trial(rows: tuple[TrialRow, ...]) -> float:
    """Return the mean wall time of trials in seconds, 0.0 if none is known."""
    known = [row.seconds for row in rows if row.seconds is not None]
    return float(np.mean(known)) if known else 0.0


def _in_order(axes: Axes, rows: tuple[TrialRow, ...], colour: str, label: str) -> None:
    for state, marker in (("COMPLETE", "o"), ("PRUNED", "x")):
        chosen = [(row.number, row.val_accuracy) for row in rows if row.state == state]
        if chosen:
            xs, ys = zip(*chosen, strict=True)
            axes.scatter(xs, ys, color=colour, marker=marker, s=22, alpha=0.7)
    complete = [row for row in rows if row.state == "COMPLETE"]
    best = np.maximum.accumulate([row.val_accuracy or 0.0 for row in complete])
    axes.step([row.number for row in complete], best, where="post", color=colour, label=label)
