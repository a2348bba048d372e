"""Leases: a machine that was away for too long writes nothing more."""

from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from harness.core.names import WorkerId, new_name
from harness.core.records import TrialResult
from harness.study import Study, open_storage
from tests.support.studies import SPEC, let_time_pass, machine, metrics, take


def trials(storage: RDBStorage) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=SPEC.name, storage=storage).get_trials()


RESULT = TrialResult(state="complete", best=metrics(3, 0.5))


def test_another_machines_trial_is_left_alone_until_its_lease_runs_out(
    storage: RDBStorage, tmp_path: Path
) -> None:
    here, there = machine(storage, tmp_path / "here"), machine(storage, tmp_path / "there")
    first = take(here)
    second = take(there)
    assert (first.number, second.number) == (0, 1)
    assert there.stale() == []
    let_time_pass(storage)
    assert there.stale() == [0]
    again = take(there)
    assert (again.number, again.resumed, again.moved) == (0, True, True)
    for claim in (again, second):
        claim.finish(RESULT)
    first.abandon()


def test_a_trial_that_was_lost_goes_on_though_its_sweep_lives(storage: RDBStorage, tmp_path: Path) -> None:
    sweep = machine(storage, tmp_path / "here")
    with sweep.registered():
        worker = Study.open(storage, SPEC.name, tmp_path / "here", WorkerId(sweep.worker_id.sweep, new_name()))
        lost = take(worker)
        let_time_pass(storage)
        assert not lost._lock.secure()  # what the renewal finds out
        lost.abandon()
        again = take(worker)
        assert (again.number, again.moved) == (0, True)
        assert again.finish(RESULT)


def test_a_dead_workers_trial_that_another_took_is_not_given_back(storage: RDBStorage, tmp_path: Path) -> None:
    here, there = machine(storage, tmp_path / "here"), machine(storage, tmp_path / "there")
    with here.registered():
        dead = take(here)
        dead.leave()
        let_time_pass(storage)
        taken = take(there)
        here.requeue_or_fail(0, 0, 1)
        assert trials(storage)[0].state == TrialState.RUNNING
        assert taken.finish(RESULT)
        here.requeue_or_fail(0, 0, 1)  # nor is one that has ended
        assert trials(storage)[0].state == TrialState.COMPLETE


def test_who_has_lost_a_trial_writes_nothing_about_it(storage: RDBStorage, tmp_path: Path) -> None:
    here, there = machine(storage, tmp_path / "here"), machine(storage, tmp_path / "there")
    old = take(here)
    assert here.owns_upload(0)
    let_time_pass(storage)
    new = take(there)
    assert not old.finish(TrialResult(state="complete", best=metrics(3, 0.9)))
    assert old.is_lost
    assert old.report(metrics(20, 0.1)) is None  # neither reported nor judged
    assert not here.owns_upload(0)
    assert trials(storage)[0].state == TrialState.RUNNING
    assert trials(storage)[0].intermediate_values == {}
    assert there.owns_upload(0)
    assert new.finish(RESULT)
    assert trials(storage)[0].value == 0.5


def test_a_lease_that_ran_out_unnoticed_is_given_up(storage: RDBStorage, tmp_path: Path) -> None:
    claim = take(machine(storage, tmp_path / "here"))
    let_time_pass(storage)
    assert not claim.finish(RESULT)
    assert trials(storage)[0].state == TrialState.RUNNING


def test_a_journal_whose_trial_nobody_took_is_still_ours(storage: RDBStorage, tmp_path: Path) -> None:
    here, there = machine(storage, tmp_path / "here"), machine(storage, tmp_path / "there")
    claim = take(here)
    let_time_pass(storage)
    assert here.owns_upload(0)  # and this renews it
    assert take(there).number == 1
    assert claim.finish(RESULT)


def test_the_same_machine_needs_no_lease_to_run_out(storage: RDBStorage, tmp_path: Path) -> None:
    take(machine(storage, tmp_path / "here")).leave()
    again = take(machine(storage, tmp_path / "here"))
    assert (again.number, again.resumed, again.moved) == (0, True, False)
    again.finish(RESULT)


def test_tables_are_made_once_however_many_begin(new_database: Callable[[], str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = new_database()
    with ThreadPoolExecutor(6) as pool:
        storages = list(pool.map(lambda _: open_storage(url), range(6)))
    for opened in storages:
        assert opened.get_all_studies() == []
        opened.engine.dispose()
