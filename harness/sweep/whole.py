"""A whole sweep: the search, the confirmation of its best trials, and the refit."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from harness.core.halving import HALVING
from harness.core.stage import Stage
from harness.study import Study
from harness.sweep.confirm import confirm
from harness.sweep.driver import run_sweep
from harness.sweep.plan import SweepPlan
from harness.sweep.refit import refit
from harness.sweep.summary import StudySummary
from harness.sweep.uploader import Listener


class Show(Protocol):
    """How a sweep shows its progress to a person."""

    def stage(self, stage: Stage) -> AbstractContextManager[Listener]:
        """Show a stage; yields what is called with each event of a trial."""

    def say(self, text: str) -> None:
        """Say a sentence."""


def run_whole(plan: SweepPlan, study: Study, show: Show) -> StudySummary:
    """Run all that a plan asks for; a signal ends it after the stage at hand.

    Raises what `run_sweep` raises.
    """
    plan = plan.begun()
    finished, best, total = study.counts().finished, study.best(), plan.settings.trials
    if study.is_complete(total):
        of = f" of {total}" if finished <= total else f", {total} are asked for"
        show.say(f"study {study.name} already has {finished} finished trials{of}")
    elif finished:
        show.say(f"continuing study {study.name}: {finished} of {total} trials finished")
    objective = study.spec.objective
    value = None if best is None else objective.of(best)
    search = Stage(
        title=study.name,
        total=total,
        done=finished,
        best=value,
        folds=study.spec.folds,
        pauses=study.spec.pruner == HALVING,
        objective=objective,
    )
    with show.stage(search) as display:
        summary = run_sweep(plan, study, display)
    if plan.confirms and summary.is_complete:
        # The choice is made on both measurements.
        wanted = min(plan.confirms, summary.counts.complete)
        show.say(f"confirmation: the {wanted} best trials on fresh folds")
        with show.stage(Stage(title="confirmation", total=wanted, folds=plan.spec.folds)) as display:
            summary = confirm(plan, study, summary, display)
    if not (plan.refits and summary.is_complete):
        return summary
    items = f"{len(plan.split.train) + len(plan.split.valid)} {plan.tracks.words.items}"
    networks = plan.settings.ensemble
    times = f", {networks} networks" if networks > 1 else ""
    show.say(f"refit: the best setting on {items} (train and validation part together){times}")
    with show.stage(Stage(title="refit", total=networks)) as display:
        refitted = refit(plan, study, display)
    if refitted is None:
        return summary
    silent = summary.listener_error or refitted.listener_error
    return replace(summary, refit=refitted, signal=refitted.signal, unsent=refitted.unsent, listener_error=silent)
