"""Runs a plan for `harness sweep` and `harness worker`: prints the plan, runs it, prints the summary."""

from __future__ import annotations

import sys
from statistics import fmean
from typing import TYPE_CHECKING

import typer

from harness.cli.messages import MessageConsole
from harness.cli.output import print_json
from harness.cli.terminal import print_text
from harness.core.objective import number_text
from harness.core.records import SYNTHETIC
from harness.core.space import describe
from harness.core.streams import discard

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from harness.core.stage import Stage
    from harness.core.study_record import Confirmation
    from harness.core.trial_rows import TrialRow
    from harness.sweep.plan import SweepPlan
    from harness.sweep.summary import StudySummary
    from harness.sweep.uploader import Listener

DISPLAY_STOPPED = "note: the display of progress stopped before the end; nothing is missing in the record"


def carry_out(plan: SweepPlan, as_json: bool) -> None:
    """Run a planned sweep and print its summary."""
    console = MessageConsole()
    _announce(console, plan)
    summary = _run(console, plan)
    problem = console.lost or summary.listener_error
    stopped = [] if problem is None else [f"{DISPLAY_STOPPED} ({type(problem).__name__}: {problem})"]
    try:
        if as_json:
            print_json(summary.as_json())
        else:
            print_text("\n".join([*_lines(summary, plan), *stopped]))
        sys.stdout.flush()
    except OSError:
        if summary.signal is None:
            raise
        discard(sys.stdout)  # the signal was the end of the terminal: nobody reads the summary
    for note in stopped if as_json else ():
        console.print(note, soft_wrap=True)
    if summary.unsent is not None:
        console.print(f"error: {summary.unsent}", style="red", soft_wrap=True)
    if summary.signal is not None:
        raise typer.Exit(128 + summary.signal)


def rehearse(plan: SweepPlan) -> None:
    """Print what a planned sweep would do."""
    from harness.cli.preview import preview

    _announce(MessageConsole(), plan)
    print_text(preview(plan))


def _announce(console: MessageConsole, plan: SweepPlan) -> None:
    tracks, split, words = plan.tracks, plan.split, plan.tracks.words
    lines = [
        f"{plan.model.label} on {tracks.folder.name}: {len(tracks.ids)} {words.items}, "
        f"{len(tracks.genres)} {words.classes}, "
        f"split {len(split.train)}/{len(split.valid)}/{len(split.test)} ({split.name})"
    ]
    if tracks.synthetic:
        lines.append(SYNTHETIC)
    lines += [f"excluded: {reason}" for reason in (*tracks.excluded_lines(), *split.excluded)]
    lines += [f"warning: {line}" for line in tracks.coarse_lines()]
    for line in lines:
        console.print(line, soft_wrap=True)


def _run(console: MessageConsole, plan: SweepPlan) -> StudySummary:
    from harness.sweep.driver import open_study
    from harness.sweep.whole import run_whole

    study = open_study(plan)
    targets, settings = study.targets, plan.settings
    if targets is not None and "keep" in settings.model_fields_set and targets.keep != settings.keep:
        kept = "all checkpoints" if targets.keep is None else f"the {targets.keep} best checkpoints"
        note = f"--keep has no effect: an earlier sweep of study {study.name} is to keep {kept}"
        console.print(f"note: {note}", soft_wrap=True)
    return run_whole(plan, study, _Bars(console))


class _Bars:
    """Shows a sweep on a console (see `Show`)."""

    def __init__(self, console: MessageConsole) -> None:
        self._console = console

    def stage(self, stage: Stage) -> AbstractContextManager[Listener]:
        """Show a stage as bars, or as a line for each trial."""
        from harness.cli.display import sweep_display

        return sweep_display(self._console, stage)

    def say(self, text: str) -> None:
        """Print a sentence."""
        self._console.print(text, soft_wrap=True)


def _spread(best: TrialRow, plan: SweepPlan, trials: int) -> str:
    """Return how far the best validation accuracy can be trusted.

    Inseparable tracks count as one in its interval: their labels are not independent.
    """
    if best.std_error is not None:
        return f" (mean of {len(best.folds)} folds, standard error {best.std_error:.3f})"
    valid, tracks = plan.split.valid, plan.tracks
    if best.val_accuracy is None or not valid:
        return ""
    from harness.core.search_stats import wilson_interval

    independent = len(set(tracks.units[tracks.indices(valid)]))
    low, high = wilson_interval(best.val_accuracy * independent, independent)
    alike = f", {independent} of them independent" if independent < len(valid) else ""
    flatters = f", and the best of {trials}, which flatters it" if trials > 1 else ""
    return f" ({len(valid)} {tracks.words.items}{alike}: 95 % interval {low:.2f} to {high:.2f}{flatters})"


def _confirmed(confirmation: Confirmation) -> list[str]:
    search, fresh = (fmean(getattr(trial, name) for trial in confirmation.trials) for name in ("search", "fresh"))
    points = 100 * confirmation.flattered_by
    flattered = f"flatters them by {points:.1f} points" if points > 0 else "does not flatter them"
    return [
        f"confirmed: the {len(confirmation.trials)} best trials have {search:.3f} in the search and {fresh:.3f} "
        f"on fresh folds: the search {flattered}"
    ]


def _unfinished(summary: StudySummary) -> str:
    return "interrupted" if summary.signal is not None else "time is up"


def _lines(summary: StudySummary, plan: SweepPlan) -> list[str]:
    counts, spec = summary.counts, summary.spec
    asked = f" of {summary.trials_wanted}" if counts.finished <= summary.trials_wanted else ""
    lines = [
        f"study {spec.name}: {counts.finished}{asked} trials finished "
        f"({counts.complete} complete, {counts.pruned} pruned), {counts.failed} failed, {summary.seconds:.0f} s"
    ]
    if summary.synthetic:
        lines.append("data: synthetic")
    if summary.known is not None:
        lines.append(f"known: the search was told {summary.known}, beside its own trials")
    if summary.confirmation is not None:
        lines += _confirmed(summary.confirmation)
    if summary.best is not None:
        best, objective = summary.best, spec.objective
        lines.append(
            f"best: trial {best.number}, {objective.label} {number_text(objective.of(best))}"
            f"{_spread(best, plan, counts.complete)} at epoch {best.best_epoch}, {describe(best.params)}"
        )
        missing = "none: it was deleted, or is not sent yet; harness doctor"
        lines.append(f"run:  {summary.best_run_id or missing}")
    if summary.refit is not None:
        found = summary.refit.best_run_id
        lines.append(
            f"refit: {_unfinished(summary.refit)}: the same command again ends it"
            if found is None
            else f"refit: run {found}"
        )
        if summary.refit.members is not None:
            lines.append(f"ensemble: {summary.refit.members} networks, run {summary.refit.parent_run_id}")
    if summary.stall is not None:
        lines.append(f"stopped by --patience: {summary.stall}; without it the same command goes on")
    elif summary.trials_left:
        lines.append(
            f"{_unfinished(summary)}, {summary.trials_left} trials left: the same command again runs them"
        )
    elif spec.covers_all and counts.finished < summary.trials_wanted:
        lines.append("the grid has no other points in place of those that failed")
    if summary.is_late:
        lines.append(f"{summary.stopped}: the same command again goes on")
    if summary.signal is not None and not summary.trials_left and summary.refit is None:
        lines.append("interrupted after the search: the same command again goes on")
    ensemble = " --ensemble" if summary.refit is not None and summary.refit.members is not None else ""
    export = f", harness export --study {spec.name}{ensemble} --out DIR" if summary.has_network else ""
    lines.append(f"next: harness ui{export}")
    return lines
