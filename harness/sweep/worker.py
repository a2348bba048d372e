"""The worker of a study: takes one trial after another and runs it.

A worker uses Optuna (which trial, prune or not) and writes the journal of its trial. It does not import MLflow,
except to fetch the resume point of a trial that another machine began. The worker's parent process sends the
journals to MLflow (see uploader.py).
"""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from harness.core.errors import TrackingError
from harness.core.events import Acknowledged, Ended, TrialStarted, has_ended
from harness.core.journal import Journal, journal_path, remove_journal
from harness.core.names import WorkerId
from harness.core.records import Split, StudySpec, TrialConfig, TrialResult
from harness.core.space import Params, Value
from harness.core.study_record import Budget
from harness.core.workspace import Stores
from harness.data import TrainingData, View
from harness.models.registry import recorded_model
from harness.study import STORAGE_ERRORS, Claim, Study, open_storage, reaching
from harness.training.description import Origin
from harness.training.devices import choose_device, gpu_name
from harness.training.folds import run_folds
from harness.training.resume import clear_resume
from harness.training.run import run_trial, trial_config
from harness.workers.child import is_machine_fault, worker_main
from harness.workers.cpus import usable_cores

FETCH_SECONDS = 5.0  # between two tries to reach a tracking server that is down
WAIT_SECONDS = 0.25  # between two looks at whether other workers have finished the last trials


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTask:
    """All that a worker process needs, sent to it when it starts.

    Nothing of the test part is in it: `view` has the train and validation tracks only, `splits` no test ids. A
    trial trains on each of `splits`, its folds; without folds there is one.
    `deadline` is a time of `time.monotonic`, which all processes of a machine share: no trial is begun after it.
    """

    spec: StudySpec
    stores: Stores
    view: View
    splits: tuple[Split, ...]
    budget: Budget
    device: str
    worker_id: WorkerId
    deadline: float | None = None

    @property
    def work_folder(self) -> Path:
        """Where the study's work in progress lies on this machine."""
        return self.stores.work_folder(self.spec.name)

    def for_worker(self, worker: str) -> WorkerTask:
        """Return the task for the worker process of that name."""
        return replace(self, worker_id=replace(self.worker_id, worker=worker))


class Worker:
    """Runs trials of one study, one at a time, until no trial is left or `stopping` is set."""

    def __init__(self, task: WorkerTask) -> None:
        self.task = task
        self.stopping = threading.Event()
        spec = task.spec
        # The file may have been changed since the sweep began, and a worker that is replaced reads it again. The
        # sweep has checked that the user trusts the code of this digest.
        self.model = recorded_model(spec.model, spec.source_digest, f"study {spec.name!r}", trust_code=True)
        torch.set_num_threads(min(self.model.threads, usable_cores()))
        self.device = choose_device(task.device)
        self._data: dict[tuple[Value, int], TrainingData] = {}
        storage = open_storage(task.stores.storage)
        self.study = Study.open(storage, task.spec.name, task.work_folder, task.worker_id)

    def run(self) -> None:
        """Take trials and run them."""
        task = self.task
        while not self.stopping.is_set() and (task.deadline is None or time.monotonic() < task.deadline):
            claim = self.study.claim(task.budget)
            if claim is not None:
                self.run_claim(claim)
            elif self.study.is_over(task.budget):
                return
            else:  # other workers run the last trials; if one dies, its trial is run here
                self.stopping.wait(WAIT_SECONDS)

    def _training_data(self, params: Params, fold: int = 1) -> TrainingData:
        """Return the training data for these hyperparameters; they are cached for the next trial.

        With several folds only the data of the last one are kept: those of all of them would fill the memory.
        """
        view, splits = self.task.view.for_params(params), self.task.splits
        key = view.crop, fold
        if key not in self._data:
            if len(splits) > 1:
                self._data.clear()
            self._data[key] = view.training(splits[fold - 1]).to(self.device)
        return self._data[key]

    def run_claim(self, claim: Claim) -> None:
        """Run a claimed trial, and write its end to the journal and then to the study.

        The journal comes first: if the worker is killed in between, the next worker that claims the trial finds
        its end in the journal and only has to write it to the study.
        """
        path = journal_path(self.task.work_folder, claim.number)
        if claim.moved or not claim.resumed:
            # The journal here is out of date: another machine has run the trial since, or the file is left from an
            # earlier study of that name.
            remove_journal(path)
        if claim.resumed and self.study.is_shared and not path.exists() and not self._fetch_resume(claim):
            claim.leave()
            return
        journal = Journal(path)
        last = journal.events[-1] if journal.events else None
        if isinstance(last, Ended) and has_ended(journal.events):
            self._finish(claim, journal, last.result)
        else:
            self._train(claim, journal, path.with_suffix(""))

    def _train(self, claim: Claim, journal: Journal, folder: Path) -> None:
        """Train a claimed trial; raises what stops the sweep, after it is recorded."""
        config = trial_config(self.task.spec, self.model, claim.number, claim.params)
        journal.append(
            TrialStarted(
                trial=claim.number,
                sweep=self.task.worker_id.sweep,
                config=config,
                resumed=claim.resumed,
                device=str(self.device),
                gpu=gpu_name(self.device),
                total=self.task.budget.n_trials,
            )
        )
        try:
            result = self._run(claim, config, journal, folder)
        except Exception as error:
            if is_machine_fault(error, also=STORAGE_ERRORS):
                claim.leave()  # its sweep requeues it
                raise
            # A bug, not an outcome: it is recorded and then raised, which stops the sweep.
            result = TrialResult(state="failed", best=None, reason=traceback.format_exc(limit=-8))
            self._end(claim, journal, result)
            raise
        self._end(claim, journal, result)

    def _run(self, claim: Claim, config: TrialConfig, journal: Journal, folder: Path) -> TrialResult:
        def stop() -> bool:
            return self.stopping.is_set() or claim.is_lost

        folds = len(self.task.splits)
        if folds > 1:
            return run_folds(
                config,
                self.model,
                lambda fold: self._training_data(config.params, fold),
                folds,
                self.device,
                journal=journal,
                folder=folder,
                report=claim.report,
                report_fold=lambda fold, curve, mean: claim.report_fold(
                    fold, max(metrics.val_accuracy or 0.0 for metrics in curve), mean, fold * config.epochs
                ),
                stop=stop,
            )
        return run_trial(
            config,
            self.model,
            self._training_data(config.params),
            self.device,
            journal=journal,
            folder=folder,
            origin=self._origin(claim.number),
            report=claim.report,
            stop=stop,
        )

    def _origin(self, number: int) -> Origin:
        spec = self.task.spec
        return Origin(
            study=spec.name,
            trial=number,
            data_digest=spec.data_digest,
            split_digest=spec.split_digest,
            synthetic=self.task.view.tracks.synthetic,
        )

    def _fetch_resume(self, claim: Claim) -> bool:
        """Download the resume point that another machine has stored in MLflow, if there is one.

        The worker waits for a tracking server that is down: without the resume point, hours of
        training may be lost. Return False if the worker is stopped meanwhile, or loses the trial.
        """
        from harness.tracking import Tracker  # takes three seconds, and only a trial that has moved needs it

        folder = journal_path(self.task.work_folder, claim.number).with_suffix("")
        while not (self.stopping.is_set() or claim.is_lost):
            try:
                tracker = Tracker(self.task.stores.tracking_uri)
                tracker.fetch_resume(self.study.name, self.study.context.identity, claim.number, folder)
            except TrackingError:
                self.stopping.wait(FETCH_SECONDS)
            else:
                return True
        return False

    def _end(self, claim: Claim, journal: Journal, result: TrialResult) -> None:
        if claim.is_lost:
            claim.abandon()
            journal.close()
            return
        journal.append(Ended(result=result), sync=True)
        if result.state != "interrupted":
            clear_resume(journal_path(self.task.work_folder, claim.number).with_suffix(""))  # not before
        self._finish(claim, journal, result)

    def _finish(self, claim: Claim, journal: Journal, result: TrialResult) -> None:
        if result.state == "interrupted" and self.study.is_shared:
            claim.leave()  # requeued by the sweep, once MLflow has all that another machine needs
        elif claim.finish(result) and result.state != "interrupted":
            journal.append(Acknowledged())
        journal.close()


def work(task: WorkerTask) -> None:
    """Run a worker process of a study."""

    def run(stopping: threading.Event) -> None:
        with reaching(task.stores.storage):
            worker = Worker(task)
            worker.stopping = stopping
            worker.run()

    worker_main(run)
