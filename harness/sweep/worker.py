"""The worker of a study: takes one trial after another and has it trained.

A worker uses Optuna (which trial, prune or not) and writes the journal of its trial. It does not import MLflow,
except to fetch the resume point of a trial that another machine began. Its trials train in this process, or where
else its place is (see workers/link.py). The sweep sends the journals to MLflow (see uploader.py).
"""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import TrackingError
from harness.core.events import Acknowledged, Ended, TrialStarted, has_ended
from harness.core.journal import Journal, journal_path, remove_journal
from harness.core.names import WorkerId
from harness.core.records import TrialResult
from harness.core.study_record import Budget
from harness.core.workspace import Stores, clear_resume
from harness.study import STORAGE_ERRORS, Claim, Study, open_storage, reaching
from harness.training.trainer import TrialMaterial, TrialOrder, TrialTrainer
from harness.workers.child import is_machine_fault, worker_main
from harness.workers.link import Here, Link, Place, PlaceDied, PlaceLost, TrainingBug

FETCH_SECONDS = 5.0  # between two tries to reach a tracking server that is down
WAIT_SECONDS = 0.25  # between two looks at whether other workers have finished the last trials


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTask:
    """All that a worker needs; it is sent to a worker process when that starts.

    `deadline` is a time of `time.monotonic`, which all processes of a machine share: no trial is begun after it.
    With `stack` seats it trains so many trials at once, `at_once`, in threads that share stacks of them.
    """

    material: TrialMaterial
    stores: Stores
    budget: Budget
    device: str
    threads: int
    worker_id: WorkerId
    deadline: float | None = None
    stack: int | None = None
    at_once: int = 1

    @property
    def work_folder(self) -> Path:
        """Where the study's work in progress lies on this machine."""
        return self.stores.work_folder(self.material.spec.name)

    def for_worker(self, worker: str) -> WorkerTask:
        """Return the task for the worker of that name."""
        return replace(self, worker_id=replace(self.worker_id, worker=worker))


class Worker:
    """Runs trials of one study, one at a time, until no trial is left or `stopping` is set.

    One that `may_leave` ends also where others run the last trials.
    """

    def __init__(
        self,
        task: WorkerTask,
        place: Place[TrialOrder, TrialResult],
        stopping: threading.Event,
        study: Study,
        may_leave: bool = False,
    ) -> None:
        self.task = task
        self.place = place
        self.stopping = stopping
        self.study = study
        self.may_leave = may_leave

    def run(self) -> None:
        """Take trials and run them."""
        task = self.task
        while not self.stopping.is_set() and (task.deadline is None or time.monotonic() < task.deadline):
            claim = self.study.claim(task.budget)
            if claim is not None:
                self.run_claim(claim)
            elif self.study.is_over(task.budget) or self.may_leave:
                return
            else:  # other workers run the last trials; if one dies, its trial is run here
                self.stopping.wait(WAIT_SECONDS)

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
        if isinstance(last, Ended) and (has_ended(journal.events) or claim.has_paused(last.result)):
            if not last.result.is_over:
                journal.append(Ended(result=last.result), sync=True)  # once more: the sweep has sent the first one
            self._finish(claim, journal, last.result)
        else:
            self._train(claim, journal, path.with_suffix(""))

    def _train(self, claim: Claim, journal: Journal, folder: Path) -> None:
        """Have a claimed trial trained; raises what stops the sweep or the place, after it is recorded."""
        where, spec = self.place.where, self.task.material.spec
        config = spec.trial_config(claim.number, claim.params, where.threads, where.stack)
        journal.append(
            TrialStarted(
                trial=claim.number,
                sweep=self.task.worker_id.sweep,
                config=config,
                resumed=claim.resumed,
                device=where.device,
                gpu=where.gpu,
                total=self.task.budget.n_trials,
                node=where.node,
                ray=where.ray,
            )
        )

        def stop() -> bool:
            return self.stopping.is_set() or claim.is_lost

        try:
            result = self.place.run(
                TrialOrder(claim.number, config, claim.until), Link(journal, folder, stop, claim)
            )
        except PlaceLost as loss:
            self._end(claim, journal, TrialResult(state="interrupted", best=None, reason=str(loss)))
            raise
        except Exception as error:
            if isinstance(error, PlaceDied) or is_machine_fault(error, also=STORAGE_ERRORS):
                claim.leave()  # its sweep requeues it
                journal.close()
                raise
            # A bug, not an outcome: it is recorded and then raised, which stops the sweep.
            text = str(error) if isinstance(error, TrainingBug) else traceback.format_exc(limit=-8)
            self._end(claim, journal, TrialResult(state="failed", best=None, reason=text))
            raise
        self._end(claim, journal, result)

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
        if result.is_over:
            clear_resume(journal_path(self.task.work_folder, claim.number).with_suffix(""))  # not before
        self._finish(claim, journal, result)

    def _finish(self, claim: Claim, journal: Journal, result: TrialResult) -> None:
        if not result.is_over and self.study.is_shared:
            claim.hand_over(result)  # requeued by the sweep, once MLflow has all that another machine needs
        elif claim.finish(result) and result.is_over:
            journal.append(Acknowledged())
        journal.close()


def work(task: WorkerTask) -> None:
    """Run a worker process of a study."""
    worker_main(lambda stopping: (work_at if task.stack is None else work_stacked)(task, stopping))


def work_at(
    task: WorkerTask, stopping: threading.Event, place: Place[TrialOrder, TrialResult] | None = None
) -> None:
    """Run trials of a study at a place, by default in this process, until none is left or `stopping` is set."""
    with reaching(task.stores.storage):
        place = place or Here(task.material.trainer(task.device, task.threads))
        storage = open_storage(task.stores.storage)
        study = Study.open(storage, task.material.spec.name, task.work_folder, task.worker_id)
        Worker(task, place, stopping, study).run()


def work_stacked(task: WorkerTask, stopping: threading.Event) -> None:
    """Run trials of a study in this process, several at once in stacks, until none is left or `stopping` is set.

    Each runs in a thread of its own. An error in one stops the others in good order, and is then raised. Where no
    trial is left to be begun, the first thread waits whether one is given back, and the others end.
    """
    from harness.training.devices import choose_device
    from harness.training.stacks import Stacks  # imports PyTorch

    assert task.stack is not None
    with reaching(task.stores.storage):
        storage = open_storage(task.stores.storage)
    stacks = Stacks(task.stack, choose_device(task.device))
    place = Here(TrialTrainer(task.material, task.device, task.threads, stacks))
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            with reaching(task.stores.storage):
                study = Study.open(storage, task.material.spec.name, task.work_folder, task.worker_id)
                Worker(task, place, stopping, study, may_leave=number > 0).run()
        except BaseException as error:  # noqa: BLE001 - raised by the main thread
            errors.append(error)
            stopping.set()

    seats = [threading.Thread(target=run, args=(number,)) for number in range(task.at_once)]
    for thread in seats:
        thread.start()
    for thread in seats:
        thread.join()
    if errors:
        raise errors[0]
