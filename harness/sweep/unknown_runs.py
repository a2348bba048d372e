"""Runs that are RUNNING in MLflow and not of a study of this storage: dead ones are ended, live ones reported.

On an MLflow server that others use, too, these are mostly theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.journal import comparison_lock
from harness.sweep.examination import Examination, Finding
from harness.tracking import Kind, Life, RunInfo, Tracker, forget, utc_text


def examine_unknown_runs(examination: Examination, tracker: Tracker, known: set[str]) -> Iterator[Finding]:
    """Yield what is found on runs that are RUNNING but not under one of the `known` parent runs."""
    families: dict[str, list[RunInfo]] = {}
    for run in tracker.runs.running(Kind.STUDY, Kind.TRIAL, Kind.COMPARISON, Kind.REPEAT):
        families.setdefault(run.family_id, []).append(run)
    for parent_id, runs in families.items():
        if parent_id in known:
            continue
        parent = _parent_of(tracker, parent_id, runs)
        life = examination.judge(tracker, parent)
        if life.state == "elsewhere":
            yield work_of_others(parent, life)
        elif life.is_dead:
            yield from _dead(examination, tracker, parent, runs)


def _parent_of(tracker: Tracker, parent_id: str, runs: list[RunInfo]) -> RunInfo:
    """Read a parent run; one that was purged from the store is replaced by the first run under it."""
    return tracker.runs.lookup(parent_id) or runs[0]


def work_of_others(parent: RunInfo, life: Life) -> Finding:
    """Return what is reported of a run that a living process elsewhere is at work on."""
    until = utc_text(life.seen + 60 * life.limit_minutes)
    host = "the host it ran on" if life.by is None else life.by.host
    return Finding(
        study=parent.study,
        found=f"run {parent.run_id} ({_name(parent)}) is RUNNING and somebody else's: {life.who} is at work on it",
        fixed=False,
        hint=f"should it be dead: harness doctor --fix on {host}, or here after {until} "
        f"({life.limit_minutes:g} minutes without a sign of life)",
        fault=False,
    )


def _dead(examination: Examination, tracker: Tracker, parent: RunInfo, runs: list[RunInfo]) -> Iterator[Finding]:
    """Report, and with `fix` end, the runs of a study or a comparison that no process is at work on."""
    with _kept_from_starting(examination, parent) as kept:
        # Read again, as late as can be: the same command may have been given again meanwhile.
        parent = _parent_of(tracker, parent.run_id, runs)
        life = examination.judge(tracker, parent)
        if not kept or not life.is_dead:
            return
        for run in runs:
            found = _found_dead(run)
            if life.state == "silent":
                found += f": no sign of life for {life.limit_minutes:g} minutes, last of {life.who}"
            yield examination.fixable(run.study, found)
            if examination.fix:
                tracker.runs.end_dead(run.run_id, f"no process was at work on it: {life.who}")
        if examination.fix:
            forget(tracker, parent)


def _found_dead(run: RunInfo) -> str:
    if run.comparison is not None:
        return f"the run {run.run_id} of a comparison was RUNNING, and no process is at it"
    return f"run {run.run_id} was RUNNING, and Optuna knows no study {run.study!r}"


@contextmanager
def _kept_from_starting(examination: Examination, parent: RunInfo) -> Iterator[bool]:
    """Keep this machine from starting the comparison meanwhile; False where it is at work on it.

    Without `fix` nothing is ended, so nothing need be locked.
    """
    if parent.comparison is None or not examination.fix:
        yield True
        return
    lock = comparison_lock(examination.machine.work_root, parent.comparison)
    kept = lock.acquire(wait=False)
    try:
        yield kept
    finally:
        lock.release(remove=True)


def _name(run: RunInfo) -> str:
    return f"{run.kind} {run.name!r}"
