"""Studies: exact totals, each trial claimed once, interruptions that change nothing."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from harness.core.errors import StudyError
from harness.core.halving import Until
from harness.core.names import WorkerId, new_name
from harness.core.records import EpochMetrics, StudySpec, TrialResult
from harness.core.study_record import Budget
from harness.study import Claim, Study, delete_study, list_studies, open_storage
from harness.study.overview import ENOUGH_TRIALS
from tests.support.studies import CONTEXT, SPEC, complete, metrics, take


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.machines)])
def folder(request: pytest.FixtureRequest, workspace: Path) -> Iterator[Path]:
    """A folder with a study in an SQLite file or in PostgreSQL: both pass the same tests."""
    if request.param == "postgres":
        database = request.getfixturevalue("new_database")()
        (workspace / "storage").write_text(database)
    yield workspace
    while OPENED:
        OPENED.pop().engine.dispose()


def url(folder: Path) -> str:
    other = folder / "storage"
    return other.read_text() if other.exists() else f"sqlite:///{folder}/mlruns/optuna.db"


OPENED: list[RDBStorage] = []


def opened(folder: Path) -> RDBStorage:
    OPENED.append(open_storage(url(folder)))
    return OPENED[-1]


def study_in(folder: Path, spec: StudySpec = SPEC) -> Study:
    return Study.create(
        opened(folder),
        spec,
        CONTEXT,
        folder / "work" / spec.name,
        first_trial={"lr": 0.001, "batch_size": 32},
    )


def read_back(folder: Path, name: str = SPEC.name) -> list[optuna.trial.FrozenTrial]:
    storage = RDBStorage(url(folder))
    trials = optuna.load_study(study_name=name, storage=storage).get_trials()
    storage.engine.dispose()
    return trials


def test_the_reports_setting_comes_first(workspace: Path) -> None:
    claim = take(study_in(workspace))
    assert (claim.number, claim.params["lr"], claim.params["batch_size"], claim.resumed) == (0, 0.001, 32, False)
    complete(claim)


def test_the_total_is_exact_and_then_there_is_none(folder: Path) -> None:
    study = study_in(folder)
    for number in range(5):
        claim = take(study, total=5)
        assert claim.number == number
        complete(claim)
    assert study.claim(Budget(5, 10)) is None
    running = take(study, total=6)
    assert study.claim(Budget(6, 10)) is None
    complete(running)


def test_failed_trials_do_not_count_until_there_are_too_many(folder: Path) -> None:
    study = study_in(folder)
    for _ in range(3):
        take(study, total=2, allowed_failures=3).finish(TrialResult(state="diverged", best=None, reason="nan"))
    assert study.claim(Budget(2, 3)) is None
    assert study.counts().failed == 3
    assert study.rows()[0].reason == "nan"
    assert study.best() is None


def run_worker(folder: str, total: int) -> None:
    study = Study.open(open_storage(url(Path(folder))), SPEC.name, Path(folder) / "work" / SPEC.name)
    while claim := study.claim(Budget(total, 10)):
        time.sleep(0.01)
        (Path(folder) / f"ran-{claim.number}-{os.getpid()}").touch()
        complete(claim)


@pytest.mark.process
def test_many_workers_run_each_trial_once(folder: Path) -> None:
    study_in(folder)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=run_worker, args=(str(folder), 40)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    trials = read_back(folder)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 40
    assert sorted(trial.number for trial in trials) == list(range(40))
    ran = [path.name.split("-") for path in folder.glob("ran-*")]
    assert len(ran) == 40
    assert len({worker for _, _, worker in ran}) > 1  # it was really several


def claim_and_die(folder: str) -> None:
    study = Study.open(open_storage(url(Path(folder))), SPEC.name, Path(folder) / "work" / SPEC.name)
    claim = take(study)
    assert claim.number == 0
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_workers_trial_is_taken_up_again(folder: Path) -> None:
    study = study_in(folder)
    process = multiprocessing.get_context("spawn").Process(target=claim_and_die, args=(str(folder),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert read_back(folder)[0].state == TrialState.RUNNING
    again = take(study)
    assert (again.number, again.params["lr"], again.resumed) == (0, 0.001, True)
    complete(again)
    assert len(read_back(folder)) == 1


def test_a_live_workers_trial_is_left_alone(folder: Path) -> None:
    study = study_in(folder)
    first = take(study)
    study.recover()
    assert read_back(folder)[0].state == TrialState.RUNNING
    second = take(study)
    assert second.number == 1
    complete(first)
    complete(second)


def run_all(study: Study, total: int, interrupt: Callable[[Claim], bool] = lambda _: False) -> None:
    interrupted = set()
    while claim := study.claim(Budget(total, 10)):
        if interrupt(claim) and claim.number not in interrupted:
            interrupted.add(claim.number)
            claim.finish(TrialResult(state="interrupted", best=None))
        else:
            complete(claim)


@pytest.mark.parametrize(
    "sampler", ["tpe", *(pytest.param(name, marks=pytest.mark.long) for name in ("random", "gp", "cmaes", "qmc"))]
)
def test_an_interrupted_study_equals_an_uninterrupted_one(workspace: Path, sampler: str) -> None:
    spec = replace(SPEC, sampler=sampler)
    run_all(study_in(workspace, spec), 16)
    broken = replace(spec, name="broken")
    for total in (3, 11, 12, 16):  # and begun anew four times
        run_all(study_in(workspace, broken), total, interrupt=lambda claim: claim.number in (0, 2, 11, 14))
    whole, pieces = read_back(workspace), read_back(workspace, "broken")
    assert [trial.params for trial in pieces] == [trial.params for trial in whole]
    assert [trial.value for trial in pieces] == [trial.value for trial in whole]
    assert [trial.state for trial in pieces] == [TrialState.COMPLETE] * 16


@pytest.mark.parametrize(
    "sampler", ["tpe", "random", "qmc", *(pytest.param(name, marks=pytest.mark.long) for name in ("gp", "cmaes"))]
)
@pytest.mark.parametrize("number", [1, 2, 12])
def test_a_trial_whose_process_died_while_it_drew_is_the_one_that_it_would_have_been(
    workspace: Path, sampler: str, number: int
) -> None:
    """Of trial `number` the first parameter is on record when its process dies."""
    spec = replace(SPEC, sampler=sampler)
    run_all(study_in(workspace, spec), 14)
    whole, broken = read_back(workspace), replace(spec, name="broken")
    study = study_in(workspace, broken)
    for _ in range(number):
        complete(take(study))
    storage = opened(workspace)
    trial_id = storage.create_new_trial(storage.get_study_id_from_name(broken.name))
    drawn, (first, *_) = whole[number], spec.space
    distribution = drawn.distributions[first]
    storage.set_trial_param(trial_id, first, distribution.to_internal_repr(drawn.params[first]), distribution)
    run_all(study_in(workspace, broken), 14)
    assert [trial.params for trial in read_back(workspace, "broken")] == [trial.params for trial in whole]


def test_seeds_matter(workspace: Path) -> None:
    run_all(study_in(workspace), 4)
    run_all(study_in(workspace, replace(SPEC, name="other", seed=1)), 4)
    assert read_back(workspace)[1].params != read_back(workspace, "other")[1].params


@pytest.mark.long
def test_the_median_pruner_prunes_what_lags(workspace: Path) -> None:
    study = study_in(workspace, replace(SPEC, pruner="median"))
    for _ in range(6):
        claim = take(study)
        assert not any(claim.report(metrics(epoch, 0.5)) for epoch in range(1, 31))
        complete(claim, 0.5)
    claim = take(study)
    going = [claim.report(metrics(epoch, 0.1)) for epoch in range(1, 31)]
    assert going.index("median pruner, epoch 10") == 9  # after a third of the epochs
    claim.finish(TrialResult(state="pruned", best=metrics(3, 0.1)))
    last = read_back(workspace)[-1]
    assert last.state == TrialState.PRUNED
    assert study.rows()[-1].val_accuracy == 0.1


def test_a_rewound_trial_is_not_judged_by_what_it_has_yet_to_repeat(folder: Path) -> None:
    study = study_in(folder, replace(SPEC, pruner="median"))
    for _ in range(6):
        claim = take(study)
        for epoch in range(1, 31):
            claim.report(metrics(epoch, 0.5))
        complete(claim, 0.5)
    claim = take(study)
    for epoch in range(1, 10):
        claim.report(metrics(epoch, 0.1))
    # The worker reported epoch 10, where the trial would be pruned, and died before it asked.
    claim._trial.report(0.1, 10)
    claim.finish(TrialResult(state="interrupted", best=None))
    again = take(study)
    assert again.resumed
    pruned = "median pruner, epoch 10"
    assert [again.report(metrics(epoch, 0.1)) for epoch in range(1, 11)] == [None] * 9 + [pruned]
    assert len(read_back(folder)[-1].intermediate_values) == 10
    again.finish(TrialResult(state="pruned", best=metrics(3, 0.1)))


def test_a_trial_that_pauses_goes_on_in_its_turn(folder: Path) -> None:
    """In a database that machines share, it waits until MLflow has its resume point."""
    spec = replace(SPEC, pruner="asha")
    worker = WorkerId(new_name(), new_name())
    study = Study.create(opened(folder), spec, CONTEXT, folder / "work" / spec.name, worker)

    def pause(claim: Claim, rung: int, value: float) -> None:
        result = TrialResult(state="paused", best=metrics(3, value), reason=f"rung {rung}", rung=rung)
        if not study.is_shared:
            assert claim.finish(result)
            return
        claim.hand_over(result)
        assert study.states([claim.number]) == {claim.number: "RUNNING"}
        assert study.requeue_sent(claim.number)
        assert study.requeue_sent(claim.number)  # a second time: nothing to do

    def end(claim: Claim) -> None:
        assert claim.until is not None
        assert claim.until.reason is not None
        assert "asha pruner, rung 1: place 2 of" in claim.until.reason
        claim.finish(TrialResult(state="pruned", best=metrics(3, 0.1), reason=claim.until.reason))

    over = []
    for value in (0.2, 0.6, 0.4):
        claim = take(study, total=4)
        if claim.resumed:  # of four trials one goes on, and it is not the first
            over.append(claim.number)
            end(claim)
            claim = take(study, total=4)
        assert (claim.until, claim.resumed) == (Until(3, 1, 2), False)
        pause(claim, 1, value)
    claim = take(study, total=4)
    assert (claim.number, claim.until, claim.resumed) == (1, Until(10, 2, 2), True)
    last = take(study, total=4)
    over.append(last.number)
    end(last)
    rest = take(study, total=4)
    assert (rest.number, rest.until) == (3, Until(3, 1, 2))
    assert study.claim(Budget(4, 10)) is None  # those that run may change who goes on
    assert not study.is_over(Budget(4, 10))
    pause(claim, 2, 0.5)
    complete(rest, 0.3)
    claim = take(study, total=4)
    assert (claim.number, claim.until) == (1, None)  # one trial reaches its end, though a third of two is less
    complete(claim, 0.6)
    assert study.claim(Budget(4, 10)) is None
    assert study.is_over(Budget(4, 10))
    found = read_back(folder)
    assert over == [0, 2]
    assert [trial.state.name for trial in found] == ["PRUNED", "COMPLETE", "PRUNED", "COMPLETE"]
    assert found[0].user_attrs["halving"]["reached"] == [[0.2, 1.0]]
    assert all(row.seconds is not None and row.seconds >= row.paused_seconds for row in study.rows())


def test_another_fingerprint_is_refused_by_name(folder: Path) -> None:
    study_in(folder)
    study_in(folder)  # the same one goes on
    with pytest.raises(StudyError) as error:
        study_in(folder, replace(SPEC, epochs=31, data_digest="e", sampler="gp"))
    for word in ("epochs: the study has 30, this sweep 31", "data_digest", "sampler", "--study NEW"):
        assert word in str(error.value)
    assert "seed" not in str(error.value)
    assert "--pruner" not in str(error.value)
    with pytest.raises(StudyError, match=f"--pruner {SPEC.pruner}, or with --study NEW"):
        study_in(folder, replace(SPEC, pruner="asha"))
    # Its record would be in two experiments.
    with pytest.raises(StudyError, match=r'experiment: the study has "\w+", this sweep "elsewhere"'):
        study_in(folder, replace(SPEC, experiment="elsewhere"))


def test_a_missing_study_lists_those_there_are(workspace: Path) -> None:
    study_in(workspace)
    with pytest.raises(StudyError, match="test-fcnn"):
        Study.open(open_storage(url(workspace)), "none", workspace)


def test_list_and_delete(folder: Path) -> None:
    run_all(study_in(folder), 3)
    storage = opened(folder)
    (overview,) = list_studies(storage)
    assert (overview.name, overview.model, overview.counts.finished) == ("test-fcnn", "fcnn", 3)
    assert overview.best == max(trial.value or 0 for trial in read_back(folder))
    for _ in range(2):  # one that is not there is no error
        delete_study(storage, SPEC.name)
    assert list_studies(storage) == []


def test_of_equal_trials_the_one_with_the_lower_loss_is_the_best(folder: Path) -> None:
    study = study_in(folder)
    for loss, accuracy in ((0.9, 0.7), (0.4, 0.7), (0.4, 0.7), (0.1, 0.6)):
        best = EpochMetrics(1, 1.0, loss, accuracy, 0.1)
        take(study).finish(TrialResult(state="complete", best=best))
    assert [row.number for row in study.ranked()] == [1, 2, 0, 3]
    found = study.best()
    (overview,) = list_studies(opened(folder))
    assert found is not None
    assert found.number == 1
    assert overview.best_params == found.params  # `status` shows the same trial


def test_importances(workspace: Path) -> None:
    study = study_in(workspace)
    assert study.importances() == {}
    run_all(study, ENOUGH_TRIALS - 1)
    assert study.importances() == {}  # of few trials the shares are noise
    run_all(study, ENOUGH_TRIALS)
    importances = study.importances()
    assert set(importances) == {"lr", "batch_size"}
    assert sum(importances.values()) == pytest.approx(1)


def test_a_storage_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_text("not a database, and long enough to be looked at as one" * 30)
    with pytest.raises(StudyError, match="cannot open Optuna's storage"):
        open_storage(f"sqlite:///{tmp_path}/optuna.db")
