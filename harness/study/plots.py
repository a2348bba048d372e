"""Tables and pictures of a study: what its parent run shows in MLflow."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.core.records import TrialRow

# Colours that stay apart for most colour-blind readers (Okabe and Ito, 2008).
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#888888"


def write_study_report(
    folder: Path,
    title: str,
    rows: Sequence[TrialRow],
    importances: dict[str, float],
    run_ids: dict[int, str],
) -> None:
    """Write `trials.csv` and the pictures of a study: optimisation history, slices, parameter importance."""
    write_trials_csv(folder / "trials.csv", rows, run_ids)
    scored = [row for row in rows if row.val_accuracy is not None and row.lr is not None]
    if not scored:
        return
    _save(_history(title, scored), folder / "optimization_history.png")
    _save(_slices(title, scored), folder / "slice.png")
    if importances:
        _save(_importances(title, importances), folder / "param_importances.png")


def write_trials_csv(path: Path, rows: Sequence[TrialRow], run_ids: dict[int, str]) -> None:
    """Write one line a trial: the fields of `TrialRow`, the seconds it took, the id of its run."""
    names = [field.name for field in fields(TrialRow)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "seconds", "run_id"])
        for row in rows:
            values = [getattr(row, name) for name in names]
            writer.writerow([*values, row.seconds, run_ids.get(row.number)])


def _history(title: str, rows: Sequence[TrialRow]) -> Figure:
    figure, (axes,) = _figure(title, 1)
    _scatter(axes, rows, [float(row.number) for row in rows])
    best, steps = 0.0, []
    for row in rows:
        if row.state == "COMPLETE":
            best = max(best, row.val_accuracy or 0.0)
        steps.append(best or float("nan"))
    axes.step([row.number for row in rows], steps, where="post", color=ORANGE, label="best so far")
    axes.set_xlabel("trial")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _slices(title: str, rows: Sequence[TrialRow]) -> Figure:
    figure, (left, right) = _figure(title, 2)
    _scatter(left, rows, [row.lr or 0.0 for row in rows])
    left.set_xscale("log")
    left.set_xlabel("learning rate")
    sizes = sorted({row.batch_size or 0 for row in rows})
    _scatter(right, rows, [float(sizes.index(row.batch_size or 0)) for row in rows])
    right.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    right.set_xlabel("batch size")
    right.legend(frameon=False, loc="lower right")
    return figure


def _importances(title: str, importances: dict[str, float]) -> Figure:
    figure, (axes,) = _figure(title, 1)
    names = sorted(importances, key=lambda name: importances[name])
    bars = axes.barh(names, [importances[name] for name in names], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("importance for validation accuracy (fANOVA)")
    axes.set_ylabel("")
    return figure


def _figure(title: str, panels: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(4 + 4 * panels, 4.5), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display and without pyplot's global state
    figure.suptitle(title)
    panel_axes = [figure.add_subplot(1, panels, 1 + index) for index in range(panels)]
    for axes in panel_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel("validation accuracy")
    return figure, panel_axes


def _scatter(axes: Axes, rows: Sequence[TrialRow], xs: Sequence[float]) -> None:
    for state, color, marker in (("COMPLETE", BLUE, "o"), ("PRUNED", GREY, "x")):
        chosen = [(x, row.val_accuracy or 0.0) for x, row in zip(xs, rows, strict=True) if row.state == state]
        if chosen:
            axes.scatter(*zip(*chosen, strict=True), color=color, marker=marker, label=state.lower())


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
