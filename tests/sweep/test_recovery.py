"""Journals of trials whose workers died: kept, ended or removed, as the study has them."""

from pathlib import Path

from optuna.storages import RDBStorage

from harness.core.events import Ended, Resumed
from harness.core.files import FileLock
from harness.core.journal import Journal, journal_path, read_events
from harness.core.names import WorkerId
from harness.core.records import TrialResult
from harness.study import Study
from harness.sweep.recovery import close_journals, handle_worker_death, requeue_stopped
from harness.workers.supervisor import STOPPED_BY_SIGTERM
from tests.support.studies import CONTEXT, SPEC, complete, machine, metrics, take


def test_what_lies_here_of_a_trial_that_another_machine_ended_goes(storage: RDBStorage, tmp_path: Path) -> None:
    here, there = machine(storage, tmp_path / "here"), machine(storage, tmp_path / "there")
    kept = take(here)
    with here.registered():
        take(here).leave()
        here.requeue_or_fail(1, 1, 3)
        for number in (0, 1):
            journal = Journal(journal_path(here.work_folder, number))
            journal.append(Resumed(epoch=1))
            journal.close()
        close_journals(here)  # neither has ended
        taken = take(there)
        assert (taken.number, taken.moved) == (1, True)
        assert taken.finish(TrialResult(state="complete", best=metrics(3, 0.5)))
        assert kept.finish(TrialResult(state="complete", best=metrics(3, 0.5)))
        close_journals(here)
        assert [path.name for path in here.work_folder.glob("trial-*.jsonl")] == ["trial-00000.jsonl"]


def test_an_empty_journal_of_an_ended_trial_is_a_damaged_one(storage: RDBStorage, tmp_path: Path) -> None:
    """A trial that is given up before its first event has an end in its journal: an empty one has lost it."""
    study = Study.create(storage, SPEC, CONTEXT, tmp_path, WorkerId(sweep="s"))
    complete(take(study), 0.5)
    path = journal_path(tmp_path, 0)
    path.touch()
    close_journals(study)
    end = read_events(path)[0][0]
    assert isinstance(end, Ended)
    assert end.mended is not None
    assert end.result == study.result(0)


def test_the_lock_that_a_worker_left_at_the_end_of_its_trial_goes_and_that_of_a_live_one_stays(
    storage: RDBStorage, tmp_path: Path
) -> None:
    study = Study.create(storage, SPEC, CONTEXT, tmp_path, WorkerId(sweep="s"))
    left, live = tmp_path / "trial-00000.lock", FileLock(tmp_path / "trial-00001.lock")
    for number in (0, 1):
        complete(take(study), 0.5)
        journal_path(tmp_path, number).touch()
    left.write_text("{}")
    live.acquire()
    close_journals(study)
    assert not left.exists()
    assert live.path.exists()
    live.release()


def test_a_trial_that_is_given_up_before_its_first_event_has_its_reason_on_record(
    storage: RDBStorage, tmp_path: Path
) -> None:
    study = Study.create(storage, SPEC, CONTEXT, tmp_path, WorkerId(sweep="s", worker="w"))
    with study.registered():
        take(study).leave()
        assert handle_worker_death(study, "w", "out of memory", attempts=1)
    end = read_events(journal_path(tmp_path, 0))[0][0]
    assert isinstance(end, Ended)
    assert (end.mended, end.result.reason) == (None, study.result(0).reason)


def test_a_stop_by_sigterm_is_no_death_of_the_trial(storage: RDBStorage, tmp_path: Path) -> None:
    study = Study.create(storage, SPEC, CONTEXT, tmp_path, WorkerId(sweep="s", worker="w"))
    with study.registered():
        take(study).leave()
        assert handle_worker_death(study, "w", STOPPED_BY_SIGTERM, attempts=1)
        assert [row.state for row in study.rows()] == ["WAITING"]
        assert not handle_worker_death(study, "w", STOPPED_BY_SIGTERM, attempts=1)  # it has no trial now


def test_a_trial_whose_state_is_not_in_mlflow_is_left_to_its_lease(storage: RDBStorage, tmp_path: Path) -> None:
    here, there = machine(storage, tmp_path / "here"), machine(storage, tmp_path / "there")
    with here.registered():
        take(here).leave()
        requeue_stopped(here, is_sent=False)
    assert there.recover() == []
    assert here.recover() == [0]  # the next sweep of this machine
    with here.registered():
        take(here).leave()
        requeue_stopped(here, is_sent=True)
    assert [row.state for row in here.rows()] == ["WAITING"]
