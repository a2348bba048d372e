"""A sweep from its plan to the summary: stores, workers, the end of the study."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.crew import Crew
from harness.errors import StudyError
from harness.plan import Plan
from harness.recorder import Listener, Recorder
from harness.records import StudySpec, TrialCounts, TrialRow
from harness.report import write_study_report
from harness.study import Study, open_storage
from harness.tracking import RunRecord, Tracker, TrialLog
from harness.worker import WorkerTask, close_journals, usable_cores


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """What came of a sweep: counts, the best trial with its run, and what stopped it early, if anything did."""

    spec: StudySpec
    counts: TrialCounts
    asked: int
    best: TrialRow | None
    best_run_id: str | None
    parent_run_id: str
    seconds: float
    tracking_uri: str
    synthetic: bool
    signal: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        best = None
        if self.best is not None:
            best = {
                "run_id": self.best_run_id,
                "trial": self.best.number,
                "params": {"lr": self.best.lr, "batch_size": self.best.batch_size},
                "val_accuracy": self.best.val_accuracy,
                "epoch": self.best.best_epoch,
            }
        return {
            "study": self.spec.name,
            "model": self.spec.model,
            "experiment": self.spec.experiment,
            "trials": {
                "complete": self.counts.complete,
                "pruned": self.counts.pruned,
                "failed": self.counts.failed,
            },
            "best": best,
            "parent_run_id": self.parent_run_id,
            "seconds": round(self.seconds, 3),
            "tracking_uri": self.tracking_uri,
        }


def open_study(plan: Plan) -> Study:
    """Open the plan's study, made on first use, with whatever an earlier crash left behind put right.

    Raises StudyError where a study of that name has another fingerprint.
    """
    study = Study.create(open_storage(plan.storage), plan.spec, _context(plan), plan.work_folder)
    study.recover()
    close_journals(study)
    return study


def run_sweep(plan: Plan, study: Study, listener: Listener = lambda *_: None) -> StudySummary:
    """Run trials until the study holds the number asked for, and bring both stores to its end.

    Raises StudyError where the study cannot go on: too many failures, or a bug in a trial.
    """
    began = time.monotonic()
    deadline = None if plan.settings.timeout is None else time.time() + 60 * plan.settings.timeout
    crew = Crew([_task(plan, deadline)] * _jobs(plan, study.counts()))
    with crew.answering_signals():
        tracker = Tracker(plan.tracking_uri)
        tags = {"study_state": "running", "trials_asked": str(plan.settings.trials)}
        parent = tracker.begin_study(plan.spec, tags, _description(plan), plan.split, _context(plan))
        recorder = Recorder(TrialLog(tracker, plan.spec, parent, _dataset(plan)), plan.work_folder, listener)
        recorder.start()
        crew.run()
        recorder.close()
        timed_out = deadline is not None and time.time() >= deadline
        status, state = _outcome(crew, study.counts().finished < plan.settings.trials, timed_out)
        best_run_id = _conclude(plan, study, tracker, parent, status, state)
    if status == "FAILED":
        raise _failure(plan, study, crew.fault)
    return StudySummary(
        spec=plan.spec,
        counts=study.counts(),
        asked=plan.settings.trials,
        best=study.best(),
        best_run_id=best_run_id,
        parent_run_id=parent,
        seconds=time.monotonic() - began,
        tracking_uri=plan.tracking_uri,
        synthetic=plan.tracks.synthetic,
        signal=crew.signal,
    )


def _outcome(crew: Crew, short: bool, timed_out: bool) -> tuple[str, str]:
    """Return the status of the study's run and the finer word for it."""
    if crew.signal is not None:
        return "KILLED", "interrupted"
    if crew.fault or (short and not timed_out):
        return "FAILED", "failed"
    return "FINISHED", "timed out" if short else "complete"


def _conclude(plan: Plan, study: Study, tracker: Tracker, parent: str, status: str, state: str) -> str | None:
    """Give the study's run its figures, pictures and status; return the id of the best trial's run."""
    best, runs = study.best(), {int(run.tags["trial"]): run for run in tracker.trial_runs(plan.spec.name)}
    if status == "FINISHED":
        _log_report(plan, study, tracker, parent, runs)
        if plan.settings.keep is not None:
            _keep_best(plan.settings.keep, study, tracker, runs)
    best_run_id = runs[best.number].run_id if best is not None and best.number in runs else None
    tracker.end_study(parent, status, *_figures(study.counts(), best, best_run_id, state))
    return best_run_id


def _task(plan: Plan, deadline: float | None) -> WorkerTask:
    return WorkerTask(
        spec=plan.spec,
        storage=plan.storage,
        tracks=plan.tracks,
        split=plan.split,
        work_folder=plan.work_folder,
        total=plan.settings.trials,
        allowed_failures=plan.allowed_failures,
        device=plan.settings.device,
        deadline=deadline,
    )


def _jobs(plan: Plan, counts: TrialCounts) -> int:
    """Return how many workers to start: no more than there are trials left."""
    wanted = plan.settings.jobs or max(1, usable_cores() // plan.model.threads)
    return max(0, min(wanted, plan.settings.trials - counts.finished))


def _dataset(plan: Plan) -> dict[str, Any]:
    tracks, name = plan.tracks, plan.spec.experiment
    return {
        "name": f"{name} (synthetic)" if tracks.synthetic else name,
        "folder": str(tracks.folder),
        "profile": {"tracks": len(tracks.ids), "genres": len(tracks.genres), "digest": tracks.digest},
    }


def _context(plan: Plan) -> dict[str, Any]:
    """Return what the study's record should know beyond its fingerprint."""
    return {
        "data": str(plan.tracks.folder),
        "synthetic": plan.tracks.synthetic,
        "experiment": plan.spec.experiment,
    }


def _description(plan: Plan) -> str:
    synthetic = "**Synthetic data** (made by `harness data demo`).\n\n" if plan.tracks.synthetic else ""
    return (
        f"{synthetic}Study of `{plan.spec.model}` on {len(plan.tracks.ids)} tracks, split: {plan.split.name} "
        f"({len(plan.split.train)} train, {len(plan.split.valid)} validation, {len(plan.split.test)} test). "
        "Trial 0 is the report's own setting (lr 0.001, batch size 32)."
    )


def _log_report(plan: Plan, study: Study, tracker: Tracker, parent: str, runs: dict[int, RunRecord]) -> None:
    """Store the study's pictures, its table of trials and its split in the parent run."""
    with tempfile.TemporaryDirectory() as name:
        run_ids = {number: run.run_id for number, run in runs.items()}
        title = f"{plan.spec.name}{' (synthetic data)' if plan.tracks.synthetic else ''}"
        write_study_report(Path(name), title, study.rows(), study.importances(), run_ids)
        tracker.log_files(parent, Path(name))


def _keep_best(keep: int, study: Study, tracker: Tracker, runs: dict[int, RunRecord]) -> None:
    kept = {row.number for row in study.ranked()[:keep]}
    for number, run in runs.items():
        if number not in kept and run.tags.get("checkpoint") != "removed":
            tracker.remove_checkpoint(run.run_id)


def _figures(
    counts: TrialCounts, best: TrialRow | None, best_run_id: str | None, state: str
) -> tuple[dict[str, float], dict[str, str]]:
    metrics: dict[str, float] = {
        "trials_complete": counts.complete,
        "trials_pruned": counts.pruned,
        "trials_failed": counts.failed,
    }
    tags = {"study_state": state}
    if best is not None and best_run_id is not None:
        tags |= {
            "best_run_id": best_run_id,
            "best_trial": str(best.number),
            "best_lr": str(best.lr),
            "best_batch_size": str(best.batch_size),
        }
        figures = {
            "best_val_accuracy": best.val_accuracy,
            "best_val_loss": best.val_loss,
            "best_epoch": best.best_epoch,
            "best_lr": best.lr,
            "best_batch_size": best.batch_size,
        }
        metrics |= {name: float(value) for name, value in figures.items() if value is not None}
    return metrics, tags


def _failure(plan: Plan, study: Study, fault: str | None) -> StudyError:
    failed = [row for row in study.rows() if row.state == "FAIL"]
    reasons = "".join(
        f"\n  trial {row.number}: {(row.reason or 'no reason on record').strip()}" for row in failed[-3:]
    )
    if fault is not None:
        return StudyError(
            f"study {plan.spec.name!r} stopped: {fault}{reasons}",
            run="the same command again, once the cause is mended",
        )
    return StudyError(
        f"study {plan.spec.name!r} gave up after {len(failed)} failed trials; the last ones:{reasons}",
        legal=f"fewer than {plan.allowed_failures} failures",
        run="the same command with another [search] range and --study NEW",
    )
