"""How a sweep has ended: the state of its study, and the error of one that cannot go on."""

from __future__ import annotations

from harness.core.errors import StudyError
from harness.core.study_record import trials_left
from harness.core.trial_rows import TrialCounts
from harness.study import Study
from harness.sweep.plan import SweepPlan
from harness.tracking import StudyState
from harness.workers.supervisor import Workers


def outcome(sweep: Workers, counts: TrialCounts, short: bool, timed_out: bool) -> StudyState:
    """Return the state of the study at the end of a sweep; `short`: it has fewer trials than wanted.

    A grid all of whose points have failed, or a confirmation all of whose trials have, is not short.
    """
    if sweep.signal is not None:
        return StudyState.INTERRUPTED
    nothing_came = not short and not counts.finished and counts.failed > 0
    if sweep.fault or nothing_came or (short and not timed_out):
        return StudyState.FAILED
    return StudyState.TIMED_OUT if short else StudyState.COMPLETE


def failure(plan: SweepPlan, study: Study, fault: str | None) -> StudyError:
    """Return the error of a sweep that has failed, with the reasons of its last failed trials."""
    reasons, counts = _reasons(study), study.counts()
    if fault is not None:
        return StudyError(
            f"study {plan.spec.name!r} stopped: {fault}{reasons}",
            hint="the same command again, once the cause is fixed",
        )
    if not counts.finished and not trials_left(plan.spec, counts, plan.settings.trials):
        if plan.spec.confirms is not None:
            return unconfirmed(plan, study)
        return StudyError(
            f"all {counts.failed} points of the grid of {plan.spec.name!r} have failed; the last ones:{reasons}",
            hint="other values (--search), and --study NEW",
        )
    if counts.failed < plan.budget.max_failures:
        return StudyError(
            f"study {plan.spec.name!r} has {counts.finished} of {plan.settings.trials} trials, and no worker is "
            f"left to run the others{reasons}",
            hint="the same command again, which runs the trials that are left",
        )
    return StudyError(
        f"study {plan.spec.name!r} gave up after {counts.failed} failed trials; the last ones:{reasons}",
        expected=f"fewer than {plan.budget.max_failures} failures",
        hint="the same command with another [search] range and --study NEW",
    )


def unconfirmed(plan: SweepPlan, part: Study) -> StudyError:
    """Return the error of a confirmation, the study `part`, in which all of the best trials have failed."""
    name = plan.spec.confirms or plan.spec.name
    return StudyError(
        f"the best trials of study {name!r} all failed on fresh folds{_reasons(part)}",
        hint="the same command with --confirm 0, which chooses by the search alone",
    )


def _reasons(study: Study) -> str:
    failed = [row for row in study.rows() if row.state == "FAIL"]
    return "".join(
        f"\n  trial {row.number}: {(row.reason or 'no reason on record').strip()}" for row in failed[-3:]
    )
