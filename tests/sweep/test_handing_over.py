"""Trials that a worker hands over in a database that machines share: who may go on with them, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from optuna.storages import RDBStorage

from harness.core.events import Ended, TrialStarted
from harness.core.halving import Until
from harness.core.journal import Journal, journal_path
from harness.core.names import WorkerId, new_name
from harness.core.records import TrialResult
from harness.core.study_record import Budget
from harness.study import Claim, Study
from harness.sweep.recovery import handle_worker_death
from harness.sweep.uploader import JournalUploader
from harness.tracking import Tracker, TrialLog
from harness.tracking.tags import Kind, study_tags
from tests.support.studies import CONTEXT, SPEC, let_time_pass, metrics, take

pytestmark = pytest.mark.machines
HALVED = replace(SPEC, pruner="asha")
PAUSED = TrialResult(state="paused", best=metrics(3, 0.5), reason="paused at rung 1 of 2", rung=1)
BUDGET = Budget(1, 10)


@dataclass
class Sweep:
    """A sweep on one machine: its study, and what sends its journals to a real MLflow store."""

    storage: RDBStorage
    folder: Path
    study: Study
    uploader: JournalUploader

    def worker(self, name: str) -> Study:
        return opened(self.storage, self.folder, WorkerId(self.study.worker_id.sweep, name))

    def journal(self, study: Study, claim: Claim) -> Journal:
        """The journal of a trial that a worker has begun."""
        journal = Journal(journal_path(self.folder, claim.number))
        config = HALVED.trial_config(claim.number, claim.params, 1)
        journal.append(
            TrialStarted(
                trial=claim.number,
                sweep=study.worker_id.sweep,
                config=config,
                resumed=claim.resumed,
                device="cpu",
                gpu=None,
                total=1,
            )
        )
        return journal


def opened(storage: RDBStorage, folder: Path, worker_id: WorkerId) -> Study:
    return Study.create(storage, HALVED, CONTEXT, folder, worker_id)


@contextmanager
def sweep_on(storage: RDBStorage, folder: Path) -> Iterator[Sweep]:
    folder.mkdir()
    study = opened(storage, folder / "work", WorkerId(new_name()))
    tracker = Tracker(f"sqlite:///{folder}/mlflow.db")
    experiment = tracker.experiment_id(HALVED.experiment)
    parent = tracker.runs.create(experiment, "parent", study_tags(HALVED, Kind.STUDY), 0)
    uploader = JournalUploader(TrialLog(tracker, HALVED, parent, CONTEXT.dataset), study)
    with study.registered():
        yield Sweep(storage, folder / "work", study, uploader)


@pytest.fixture
def sweep(storage: RDBStorage, tmp_path: Path) -> Iterator[Sweep]:
    with sweep_on(storage, tmp_path / "here") as found:
        yield found


def test_a_worker_is_killed_between_the_journals_pause_and_the_studys(sweep: Sweep) -> None:
    worker = sweep.worker("first")
    claim = take(worker, 1)
    journal = sweep.journal(worker, claim)
    journal.append(Ended(result=PAUSED), sync=True)
    journal.close()
    claim.leave()  # as a dying process does
    sweep.uploader.pump(flush=True)
    sweep.uploader.pump(flush=True)
    assert sweep.study.states([0]) == {0: "RUNNING"}  # not handed over: its death is to be counted
    assert handle_worker_death(sweep.study, "first", "killed by SIGKILL", 3)
    again = take(sweep.worker("second"), 1)
    assert again.has_paused(PAUSED)
    journal = Journal(journal_path(sweep.folder, 0))
    journal.append(Ended(result=PAUSED), sync=True)
    again.hand_over(PAUSED)
    journal.close()
    for _ in range(2):
        sweep.uploader.pump(flush=True)
    assert sweep.study.states([0]) == {0: "WAITING"}


def test_the_pause_is_sent_before_the_study_has_it(sweep: Sweep) -> None:
    worker = sweep.worker("first")
    claim = take(worker, 1)
    journal = sweep.journal(worker, claim)
    journal.append(Ended(result=PAUSED), sync=True)
    for _ in range(3):
        sweep.uploader.pump(flush=True)
    assert sweep.study.states([0]) == {0: "RUNNING"}
    claim.hand_over(PAUSED)
    journal.close()
    sweep.uploader.pump(flush=True)
    assert sweep.study.states([0]) == {0: "WAITING"}


def test_what_is_not_sent_goes_on_here_and_nowhere_else(sweep: Sweep, storage: RDBStorage, tmp_path: Path) -> None:
    worker = sweep.worker("first")
    claim = take(worker, 1)
    sweep.journal(worker, claim).close()
    claim.hand_over(PAUSED)
    assert sweep.study.stale() == []
    with sweep_on(storage, tmp_path / "there") as other:
        assert other.worker("other").claim(BUDGET) is None
    last = take(worker, 1)  # a third of one trial is none, but one reaches its end
    assert (last.number, last.until, last.moved) == (0, Until(10, 2, 2), False)
    last.hand_over(replace(PAUSED, rung=2))


def test_a_trial_that_another_machine_has_taken_is_left_alone(
    sweep: Sweep, storage: RDBStorage, tmp_path: Path
) -> None:
    take(sweep.worker("first"), 1).hand_over(PAUSED)
    let_time_pass(storage)  # the upload takes longer than the lease
    with sweep_on(storage, tmp_path / "there") as other:
        taken = take(other.worker("other"), 1)
        assert taken.moved
        assert sweep.study.requeue_sent(0)
        assert sweep.study.states([0]) == {0: "RUNNING"}
        assert taken.finish(TrialResult(state="complete", best=metrics(30, 0.5)))
