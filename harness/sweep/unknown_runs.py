"""Examines runs that are RUNNING in MLflow and belong to no study of this storage.

Dead runs are ended, live ones are reported. On a shared MLflow server most of them belong to other users.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.files import FileLock
from harness.core.journal import comparison_lock, is_comparison
from harness.sweep.examination import Examination, Finding
from harness.tracking import Kind, Life, RunInfo, Tracker, forget, utc_text


def examine_unknown_runs(examination: Examination, tracker: Tracker, known: set[str]) -> Iterator[Finding]:
    """Yield the findings on RUNNING runs whose parent run is not in `known` (run ids)."""
    families: dict[str, list[RunInfo]] = {}
    for run in tracker.runs.running(Kind.STUDY, Kind.TRIAL, Kind.COMPARISON, Kind.TRAITS, Kind.REPEAT):
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
    """Return a parent run, or the first run under it if the parent was purged from the store."""
    return tracker.runs.lookup(parent_id) or runs[0]


def work_of_others(parent: RunInfo, life: Life) -> Finding:
    """Return the finding on a run that a live process elsewhere writes to; it is not a fault."""
    until = utc_text(life.seen + 60 * life.limit_minutes)
    host = "the host it ran on" if life.by is None else life.by.host
    return Finding(
        study=parent.study,
        found=f"run {parent.run_id} ({_name(parent)}) is RUNNING, and another process works on it: {life.who}",
        fixed=False,
        hint=f"if it is dead: harness doctor --fix on {host}, or here after {until} "
        f"({life.limit_minutes:g} minutes without a heartbeat)",
        fault=False,
    )


def _dead(examination: Examination, tracker: Tracker, parent: RunInfo, runs: list[RunInfo]) -> Iterator[Finding]:
    """Report the runs of a study or a comparison that no process writes to; with `fix`, end them."""
    with _comparison_lock(examination, parent) as lock:
        # Read again as late as possible: the same command may have been started again meanwhile.
        parent = _parent_of(tracker, parent.run_id, runs)
        is_run_here = lock is not None and not lock.held
        life = examination.judge(tracker, parent, lock.path if lock is not None and lock.held else None)
        if is_run_here or not life.is_dead:
            return
        for run in runs:
            found = _found_dead(run)
            if life.state == "silent":
                found += f": no heartbeat for {life.limit_minutes:g} minutes, the last from {life.who}"
            yield examination.fixable(run.study, found)
            if examination.fix:
                tracker.runs.end_dead(run.run_id, f"no process worked on it: {life.who}")
        if examination.fix:
            forget(tracker, parent)


def _found_dead(run: RunInfo) -> str:
    if run.comparison is not None:
        return f"the run {run.run_id} of a comparison was RUNNING, and no process works on it"
    return f"run {run.run_id} was RUNNING, and Optuna has no study {run.study!r}"


@contextmanager
def _comparison_lock(examination: Examination, parent: RunInfo) -> Iterator[FileLock | None]:
    """Lock the comparison, so that no process of this machine starts it, and yield the lock.

    It is not held if a process runs the comparison already. Yield None for anything that needs no lock: a study,
    and without `fix` no run is ended.
    """
    if parent.comparison is None or not is_comparison(parent.comparison) or not examination.fix:
        yield None
        return
    lock = comparison_lock(examination.machine.work_root, parent.comparison)
    lock.acquire(wait=False)
    try:
        yield lock
    finally:
        lock.release(remove=True)


def _name(run: RunInfo) -> str:
    return f"{run.kind} {run.name!r}"
