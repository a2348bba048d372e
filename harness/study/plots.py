"""The table and the pictures of a study, shown by its run in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.core.objective import ACCURACY, Objective
from harness.core.pages.canvas import BLUE, GREY, ORANGE, plain
from harness.core.search_stats import ExpectedBest, Floats, expected_best
from harness.core.space import Choice, Params, Range, Space
from harness.core.tables import write_table
from harness.core.trial_rows import TrialRow
from harness.study.overview import ENOUGH_TRIALS

PANELS_A_ROW = 3
# Margins in inches. matplotlib's layouts measure every text, which doubles the time to draw, at each sweep's end.
LEFT, RIGHT, TOP, BOTTOM, BETWEEN, LETTER = 0.8, 0.2, 0.55, 0.65, 1.0, 0.085


def write_study_report(
    folder: Path,
    title: str,
    rows: Sequence[TrialRow],
    importances: dict[str, float],
    run_ids: dict[int, str],
    space: Space,
    fixed: Params,
    objective: Objective = ACCURACY,
) -> None:
    """Write `trials.csv` and the pictures of a study: optimisation history, slices, parameter importance."""
    write_trials_csv(folder / "trials.csv", rows, run_ids, space, fixed)
    scored = [row for row in rows if row.is_ended and objective.of(row) is not None and row.params]
    if not scored:
        return
    _save(_history(title, scored, objective), folder / "optimization_history.png")
    _save(_slices(title, scored, space, objective), folder / "slice.png")
    complete = sum(row.state == "COMPLETE" for row in rows)
    _save(_importances(title, importances, complete, objective), folder / "param_importances.png")


def write_trials_csv(
    path: Path, rows: Sequence[TrialRow], run_ids: dict[int, str], space: Space, fixed: Params
) -> None:
    """Write one line per trial: number, state, parameters, results, the id of its MLflow run.

    The parameters are those that were searched, then the fixed ones: without these a reader of the table would
    take their defaults for them.
    """
    left_out = ("number", "state", "params", "folds", "own", "paused_seconds")
    names = [field.name for field in fields(TrialRow) if field.name not in left_out]
    if any(row.folds for row in rows):
        names.insert(names.index("val_accuracy") + 1, "val_accuracy_std")
    own = sorted({name for row in rows for name in row.own})
    lines: list[list[object]] = [["number", "state", *space, *fixed, *names, *own, "seconds", "run_id"]]
    for row in rows:
        params, values = [row.params.get(name) for name in space], [getattr(row, name) for name in names]
        values += [row.own.get(name) for name in own]
        params += fixed.values()
        lines.append([row.number, row.state, *params, *values, row.seconds, run_ids.get(row.number)])
    write_table(path, lines)


def _history(title: str, rows: Sequence[TrialRow], objective: Objective) -> Figure:
    """Draw the trials in their order, and beside them what any order of them would have reached."""
    figure, (axes, expected) = _figure(title, 2, objective)
    _scatter(axes, rows, [float(row.number) for row in rows], objective)
    best: float | None = None
    steps = []
    for row in rows:
        if row.state == "COMPLETE":
            best = objective.best([best, objective.of(row)])
        steps.append(float("nan") if best is None else best)
    axes.step([row.number for row in rows], steps, where="post", color=ORANGE, label="best so far")
    axes.set_xlabel("trial")
    axes.legend(frameon=False, loc="best")
    curve = expected_best([-objective.order(objective.of(row)) for row in rows])
    if objective.minimise:
        curve = replace(curve, mean=-curve.mean)
    draw_expected_best(expected, curve, curve.trials, BLUE, "expected best")
    expected.set_xlabel("trials, in any order (band: one standard deviation)")
    return figure


def draw_expected_best(axes: Axes, curve: ExpectedBest, xs: Floats, colour: str, label: str) -> None:
    """Draw an expected best over `xs`, trials or seconds, with a band of one standard deviation."""
    axes.plot(xs, curve.mean, color=colour, label=label)
    axes.fill_between(xs, curve.mean - curve.std, curve.mean + curve.std, color=colour, alpha=0.2, linewidth=0)


def _slices(title: str, rows: Sequence[TrialRow], space: Space, objective: Objective) -> Figure:
    """Draw one panel per parameter: its values against those of the trials that used it."""
    figure, panels = _figure(title, len(space), objective)
    for axes, (name, distribution) in zip(panels, space.items(), strict=True):
        used = [row for row in rows if name in row.params]
        match distribution:
            case Range(log=log):
                _scatter(axes, used, [float(row.params[name]) for row in used], objective)
                axes.set_xscale("log" if log else "linear")
            case Choice(values=values):
                _scatter(axes, used, [float(values.index(row.params[name])) for row in used], objective)
                axes.set_xticks(range(len(values)), [plain(str(value)) for value in values])
        axes.set_xlabel(plain(name))
    panels[-1].legend(frameon=False, loc="lower right")
    return figure


def _importances(title: str, importances: dict[str, float], complete: int, objective: Objective) -> Figure:
    """Draw a bar for each parameter, or say why there is none."""
    figure, (axes,) = _figure(title, 1, objective)
    if not importances:
        few = f"too few: {complete} complete trials, importances need {ENOUGH_TRIALS}"
        axes.text(0.5, 0.5, few if complete < ENOUGH_TRIALS else "all trials are equal", ha="center", va="center")
        axes.set_axis_off()
        return figure
    names = sorted(importances, key=lambda name: importances[name])
    figure.subplots_adjust(left=(LEFT + LETTER * max(map(len, names))) / figure.get_figwidth())
    bars = axes.barh([plain(name) for name in names], [importances[name] for name in names], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel(f"importance for {objective.label} (fANOVA)")
    axes.set_ylabel("")
    return figure


def _figure(title: str, panels: int, objective: Objective) -> tuple[Figure, Sequence[Axes]]:
    columns = min(panels, PANELS_A_ROW)
    lines = -(-panels // columns)
    width, height = 4 + 4 * columns, 0.5 + 4 * lines
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # draws without a display and without pyplot's global state
    figure.suptitle(plain(title), y=1 - 0.15 / height, va="top")
    inner, outer = (width - LEFT - RIGHT) / columns, (height - TOP - BOTTOM) / lines
    figure.subplots_adjust(
        left=LEFT / width,
        right=1 - RIGHT / width,
        top=1 - TOP / height,
        bottom=BOTTOM / height,
        wspace=BETWEEN / (inner - BETWEEN * (columns - 1) / columns) if columns > 1 else 0,
        hspace=BETWEEN / (outer - BETWEEN * (lines - 1) / lines) if lines > 1 else 0,
    )
    panel_axes = [figure.add_subplot(lines, columns, 1 + index) for index in range(panels)]
    for axes in panel_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel(objective.label)
    return figure, panel_axes


def _scatter(axes: Axes, rows: Sequence[TrialRow], xs: Sequence[float], objective: Objective) -> None:
    for state, color, marker in (("COMPLETE", BLUE, "o"), ("PRUNED", GREY, "x")):
        found = [(x, objective.of(row), row.state) for x, row in zip(xs, rows, strict=True)]
        chosen = [(x, value) for x, value, reached in found if reached == state and value is not None]
        if chosen:
            axes.scatter(*zip(*chosen, strict=True), color=color, marker=marker, label=state.lower())


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
