"""Reconciles the two stores of a study: brings the MLflow record into line with Optuna.

Every step can be repeated by any process after any crash. A sweep reconciles its own study when it starts and
when it ends; `harness doctor --fix` reconciles every study.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from harness.core.events import Ended
from harness.core.journal import find_journals, journal_path, read_events
from harness.core.names import digest_of
from harness.core.records import TrialResult, TrialState
from harness.core.study_record import Conclusion
from harness.core.trial_rows import FINISHED_STATES, TrialRow
from harness.study import Study, ranked
from harness.sweep.uploader import JournalUploader, Listener
from harness.tracking import GOING_ON, RunInfo, RunStatus, StudyState, Tracker, TrialLog

OTHERS_SECONDS = 15.0  # to wait at the end of a study for other machines to send the ends of the last trials
WORKER_DIED = "its worker had died"
# The state to give the run of a trial that is not running, by the trial's state in Optuna.
ENDED: dict[str, TrialState] = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "WAITING": "interrupted",
}


def sent_trials(study: Study) -> set[int]:
    """Return the trials that have trained to an end and have no journal any more: MLflow has them.

    Of a study on a database server none are known: their journals lie on other machines.
    """
    if study.is_new or study.is_shared:
        return set()
    trained = {row.number for row in study.rows() if row.state in FINISHED_STATES}
    return trained - set(find_journals(study.work_folder))


class Record:
    """A study and its record: the parent run and the runs of its trials."""

    def __init__(self, study: Study, tracker: Tracker, parent: str) -> None:
        self.study = study
        self.tracker = tracker
        self.parent = parent

    def uploader(self, listener: Listener = lambda *_: None) -> JournalUploader:
        """Return the uploader of the study's journals."""
        return JournalUploader(self._trial_log(), self.study, listener)

    def _trial_log(self) -> TrialLog:
        return TrialLog(self.tracker, self.study.spec, self.parent, self.study.context.dataset)

    def orphans(self) -> list[tuple[RunInfo, TrialState]]:
        """Return the runs that are RUNNING or pause while their trials do not, with the states of the trials.

        A run whose journal contains the trial's end is left out: sending the journal ends it. So is a run whose
        end another machine may be about to send, and that of a trial that pauses.
        """
        # First: a journal that another process sends and removes meanwhile was there, and its run is not orphaned.
        before = find_journals(self.study.work_folder)
        runs = [run for status in GOING_ON for run in self.tracker.studies.trial_runs(self.parent, status=status)]
        states = self.study.states([run.trial_number for run in runs])
        unsent = find_journals(self.study.work_folder)
        found = []
        for run in runs:
            number = run.trial_number
            state = states.get(number, "WAITING")
            if state == "RUNNING" or (state != "WAITING" and (number in before or number in unsent)):
                continue
            if state == "WAITING" and (run.status == RunStatus.SCHEDULED or _pauses(unsent.get(number))):
                continue
            if state == "WAITING" or self.study.is_final(number):
                found.append((run, ENDED[state]))
        return found

    def end_orphaned_runs(self) -> list[tuple[RunInfo, TrialState]]:
        """End the orphaned runs as their trials ended, and return what `orphans` found."""
        orphans = self.orphans()
        for run, state in orphans:
            number = run.trial_number
            if state == "interrupted":
                result = TrialResult(state=state, best=None, reason=WORKER_DIED)
            else:
                result = self.study.result(number)
            folder = journal_path(self.study.work_folder, number).with_suffix("")
            end = Ended(result=result, mended=WORKER_DIED)
            self._trial_log().send(run.run_id, [end], checkpoint=None, resume=folder)  # removes its resume point
        return orphans

    def conclude(self, state: StudyState) -> str | None:
        """Give the study's run its figures, pictures and status; return the id of the best trial's run.

        While other processes run trials of the study it stays RUNNING; the last of them concludes it.
        """
        study, is_finished = self.study, state.status == RunStatus.FINISHED
        if study.counts().running:
            return self._best_run_id(self._runs())
        if is_finished and (study.is_shared or not study.is_alone()):
            self._wait_for_others()
        while True:
            rows, runs = study.rows(), self._runs()
            if any(row.state == "RUNNING" for row in rows):  # another process has claimed a trial meanwhile
                return self._best_run_id(runs)
            with tempfile.TemporaryDirectory() as name:
                if is_finished and not self._is_concluded(state, runs):
                    # Before the lock is taken: the importances of thousands of trials take a minute.
                    self._write_report(Path(name), rows, runs)
                    self._keep_best(state, rows, runs)
                with study.lock():
                    progress = progress_digest(rows)
                    if progress_digest(study.rows()) == progress:
                        self._end(state, Path(name), runs)
                        best = self._best_run_id(runs)
                        if is_finished:
                            noted = Conclusion(
                                parent=self.parent,
                                best=best,
                                runs=digest_of(sorted(run.run_id for run in runs.values())),
                                progress=progress,
                            )
                            self.study.note_conclusion(noted)
                        return best

    def _end(self, state: StudyState, report: Path, runs: dict[int, RunInfo]) -> None:
        """Write the end of the study, with the files in `report`. The caller has the study's lock."""
        if self._is_concluded(state, runs):
            self.tracker.runs.end(self.parent, state.status)
            return  # another process has just written the same end
        if any(report.iterdir()):
            self.tracker.artifacts.log_files(self.parent, report)
        counts, best, confirmation = self.study.counts(), self.study.best(), self.study.confirmation
        confirmed = None if confirmation is None else confirmation.chosen.trial
        self.tracker.studies.end(
            self.parent, state, counts, best, self._best_run_id(runs), confirmed, self.study.spec.space.keys()
        )

    def _is_concluded(self, state: StudyState, runs: dict[int, RunInfo]) -> bool:
        recorded = self.tracker.runs.get(self.parent)
        return (recorded.study_state, recorded.best_run_id) == (state, self._best_run_id(runs))

    def _runs(self) -> dict[int, RunInfo]:
        return {run.trial_number: run for run in self.tracker.studies.trial_runs(self.parent)}

    def _best_run_id(self, runs: dict[int, RunInfo]) -> str | None:
        best = self.study.best()
        return runs[best.number].run_id if best is not None and best.number in runs else None

    def _wait_for_others(self) -> None:
        over, until = set(self.study.finished_numbers()), time.monotonic() + OTHERS_SECONDS
        while time.monotonic() < until:
            ended = {number for number, run in self._runs().items() if run.status not in GOING_ON}
            if over <= ended:
                return
            time.sleep(0.5)

    def _write_report(self, folder: Path, rows: list[TrialRow], runs: dict[int, RunInfo]) -> None:
        """Write the study's pictures and its table of trials, which belong to the parent run."""
        from harness.study.plots import write_study_report  # imports matplotlib, which doctor seldom needs

        run_ids = {number: run.run_id for number, run in runs.items()}
        title = f"{self.study.name}{' (synthetic data)' if self.study.context.synthetic else ''}"
        spec = self.study.spec
        write_study_report(
            folder, title, rows, self.study.importances(), run_ids, spec.space, spec.fixed, spec.objective
        )

    def _keep_best(self, state: StudyState, rows: list[TrialRow], runs: dict[int, RunInfo]) -> None:
        """Remove the checkpoints of a complete study that are not among those to keep.

        A trial that is not among the best now cannot be among them later: no lock is needed.
        """
        targets = self.study.targets
        if state != StudyState.COMPLETE or targets is None or targets.keep is None:
            return
        if self.study.spec.folds > 1:  # its trials have no checkpoints
            return
        kept = {row.number for row in ranked(rows, self.study.spec.objective)[: targets.keep]}
        for row in rows:
            run = runs.get(row.number)
            if row.is_ended and row.number not in kept and run is not None and not run.checkpoint_removed:
                self.tracker.artifacts.remove_checkpoint(run.run_id)


def _pauses(journal: Path | None) -> bool:
    """Whether the last event of a journal is a pause, which its sweep is about to send."""
    events = [] if journal is None else read_events(journal)[0]
    return bool(events) and isinstance(events[-1], Ended) and events[-1].result.state == "paused"


def progress_digest(rows: list[TrialRow]) -> str:
    """Return a digest of what changes in the rows of a study when a process works on it."""
    return digest_of([[row.number, row.state, str(row.started), str(row.ended)] for row in rows])
