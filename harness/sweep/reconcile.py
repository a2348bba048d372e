"""One study's two stores brought into line: what Optuna knows of it, and what MLflow has on record.

Everything here can be done again, by any process, after any crash: a sweep does it for its own study when it
starts and when it ends, `harness doctor --fix` does it for every study.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from harness.core.records import TrialCounts, TrialRow
from harness.study import Study
from harness.study.plots import write_study_report
from harness.sweep.uploader import JournalUploader, Listener
from harness.tracking import RunInfo, Tracker, TrialLog

OTHERS_SECONDS = 15.0  # that other machines have to send the ends of the last trials before a study is summed up
# What the run of a trial that has ended is to say, by the state of the trial: the status, and the finer word.
ENDED = {
    "COMPLETE": ("FINISHED", "complete"),
    "PRUNED": ("KILLED", "pruned"),
    "FAIL": ("FAILED", "failed"),
    "WAITING": ("KILLED", "interrupted"),
}


class Record:
    """A study and its record: the parent run and the runs of its trials."""

    def __init__(self, study: Study, tracker: Tracker, parent: str) -> None:
        self.study = study
        self.tracker = tracker
        self.parent = parent

    def uploader(self, listener: Listener = lambda *_: None) -> JournalUploader:
        """Return what sends the study's journals to the record."""
        spec, context = self.study.study_spec(), self.study.context
        dataset = context.get("dataset") or {"name": spec.experiment, "folder": "unknown", "profile": {}}
        return JournalUploader(TrialLog(self.tracker, spec, self.parent, dataset), self.study, listener)

    def orphans(self) -> list[tuple[RunInfo, str, str]]:
        """Return the runs of trials that are RUNNING while their trials are not: run, status, finer word.

        One whose journal tells how the trial ended is none: sending that ends it. Nor is one whose record another
        machine may be about to send.
        """
        rows = {row.number: row for row in self.study.rows()}
        unsent = {int(path.stem.removeprefix("trial-")) for path in self.study.work_folder.glob("trial-*.jsonl")}
        found = []
        for number, run in self._runs().items():
            row = rows.get(number)
            state = "WAITING" if row is None else row.state
            if run.status != "RUNNING" or state == "RUNNING" or (number in unsent and state != "WAITING"):
                continue
            if row is None or state == "WAITING" or self.study.is_final(number):
                found.append((run, *ENDED[state]))
        return found

    def end_orphaned_runs(self) -> list[tuple[RunInfo, str, str]]:
        """End the orphaned runs as their trials ended, and return what `orphans` found."""
        orphans = self.orphans()
        for run, status, state in orphans:
            self.tracker.end_run(run.run_id, status, {"trial_state": state, "mended": "its worker had died"})
        return orphans

    def conclude(self, status: str, state: str) -> str | None:
        """Give the parent run its figures, pictures and status; return the id of the best trial's run.

        While others are still at work on the study it stays RUNNING, and the last of them concludes it.
        """
        study = self.study
        if study.counts().running:
            return self._best_run_id(self._runs())
        if status == "FINISHED" and (study.is_shared or not study.is_alone()):
            self._wait_for_others()
        with study.lock():
            runs = self._runs()
            best_run_id = self._best_run_id(runs)
            counts, best = study.counts(), study.best()
            said = self.tracker.run(self.parent).tags
            if (said.get("study_state"), said.get("best_run_id")) == (state, best_run_id):
                self.tracker.end_run(self.parent, status, {})
                return best_run_id  # another has just summed up the same
            if status == "FINISHED":
                self._log_report(runs)
                keep = study.asked.get("keep")
                if keep is not None and state == "complete":
                    self._keep_best(keep, runs)
            self.tracker.end_study(self.parent, status, *_figures(counts, best, best_run_id, state))
        return best_run_id

    def _runs(self) -> dict[int, RunInfo]:
        # By the parent, too: on a shared server somebody else's study may have the same name.
        runs = [
            r for r in self.tracker.trial_runs(self.study.name) if r.tags.get("mlflow.parentRunId") == self.parent
        ]
        return {int(run.tags["trial"]): run for run in runs}

    def _best_run_id(self, runs: dict[int, RunInfo]) -> str | None:
        best = self.study.best()
        return runs[best.number].run_id if best is not None and best.number in runs else None

    def _wait_for_others(self) -> None:
        over, until = set(self.study.finished_numbers()), time.monotonic() + OTHERS_SECONDS
        while time.monotonic() < until:
            ended = {number for number, run in self._runs().items() if run.status != "RUNNING"}
            if over <= ended:
                return
            time.sleep(0.5)

    def _log_report(self, runs: dict[int, RunInfo]) -> None:
        """Store the study's pictures and its table of trials in the parent run."""
        with tempfile.TemporaryDirectory() as name:
            run_ids = {number: run.run_id for number, run in runs.items()}
            title = f"{self.study.name}{' (synthetic data)' if self.study.context.get('synthetic') else ''}"
            write_study_report(
                Path(name), title, self.study.rows(), self.study.importances(), run_ids, self.study.space
            )
            self.tracker.log_files(self.parent, Path(name))

    def _keep_best(self, keep: int, runs: dict[int, RunInfo]) -> None:
        kept = {row.number for row in self.study.ranked()[:keep]}
        for number in self.study.finished_numbers():
            run = runs.get(number)
            if run is not None and number not in kept and run.tags.get("checkpoint") != "removed":
                self.tracker.remove_checkpoint(run.run_id)


def _figures(
    counts: TrialCounts, best: TrialRow | None, best_run_id: str | None, state: str
) -> tuple[dict[str, float], dict[str, str]]:
    metrics: dict[str, float] = {
        "trials_complete": counts.complete,
        "trials_pruned": counts.pruned,
        "trials_failed": counts.failed,
    }
    tags: dict[str, Any] = {"study_state": state}
    if best is not None and best_run_id is not None:
        tags |= {
            "best_run_id": best_run_id,
            "best_trial": str(best.number),
            **{f"best_{name}": str(value) for name, value in best.params.items()},
        }
        figures = {
            "best_val_accuracy": best.val_accuracy,
            "best_val_loss": best.val_loss,
            "best_epoch": best.best_epoch,
            **{f"best_{name}": value for name, value in best.params.items() if not isinstance(value, str)},
        }
        metrics |= {name: float(value) for name, value in figures.items() if value is not None}
    return metrics, tags
