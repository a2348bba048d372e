"""Samplers and pruners by name: legal combinations, and each one in a study."""

import json
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from harness.core.errors import SettingsError
from harness.core.halving import Until
from harness.core.records import EpochMetrics, StudySpec, TrialResult
from harness.core.space import Choice, Condition, Distribution, Range
from harness.core.study_record import Budget
from harness.study import Study, open_storage
from harness.study.samplers import PRUNERS, SAMPLERS, Sampler, check_search, make_sampler
from tests.support import studies

LISTS: dict[str, Distribution] = {"lr": Choice((0.1, 0.01)), "batch_size": Choice((16, 32, 64))}
RANGES: dict[str, Distribution] = {"lr": Range(1e-5, 1e-1, log=True), "batch_size": Choice((16, 32))}
PLAIN: dict[str, Distribution] = {"lr": Range(1e-5, 1e-1, log=True), "dropout": Range(0.0, 0.6)}
CONDITIONAL: dict[str, Distribution] = {
    "optimizer": Choice(("adam", "sgd")),
    "momentum": Range(0.5, 0.9, when=Condition("optimizer", ("sgd",))),
}
SPEC = replace(studies.SPEC, epochs=9, space=RANGES)


def run(folder: Path, spec: StudySpec, total: int) -> list[optuna.trial.FrozenTrial]:
    """Run a study in which the accuracy grows with the epoch and falls with the number of the trial."""
    url = f"sqlite:///{folder}/mlruns/optuna.db"
    storage = open_storage(url)
    study = Study.create(storage, spec, studies.CONTEXT, folder / "work")
    while claim := study.claim(Budget(total, 1)):
        state = "complete"
        for epoch in range(1, spec.epochs + 1):
            metrics = EpochMetrics(epoch, 1.0, 1.0, epoch / 10 / (1 + claim.number), 0.1)
            if claim.report(metrics) is not None:
                state = "pruned"
                break
        claim.finish(TrialResult(state="pruned" if state == "pruned" else "complete", best=metrics))
    storage.engine.dispose()
    back = RDBStorage(url)
    trials = optuna.load_study(study_name=spec.name, storage=back).get_trials()
    back.engine.dispose()
    return trials


@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(name, marks=[pytest.mark.long] if name in ("gp", "cmaes") else [])
        for name in SAMPLERS
        if name != "grid"
    ],
)
@pytest.mark.parametrize("space", [RANGES, CONDITIONAL], ids=["plain", "conditional"])
def test_each_sampler_stays_in_the_space(workspace: Path, sampler: str, space: dict[str, Distribution]) -> None:
    trials = run(workspace, replace(SPEC, sampler=sampler, space=space), 14)
    assert len(trials) == 14
    for trial in trials:
        assert all(space[name].contains(value) for name, value in trial.params.items())
        if space is CONDITIONAL:
            assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
    if sampler != "gp":
        assert len({tuple(trial.params.values()) for trial in trials}) > 5


class Planted:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_cmaes_runs_no_pickle_of_the_storage_and_stores_none(workspace: Path) -> None:
    spec = replace(studies.SPEC, sampler="cmaes", space=PLAIN)
    assert not any("optimizer" in key for trial in run(workspace, spec, 12) for key in trial.system_attrs)
    mark = workspace / "pickle.ran"
    with closing(sqlite3.connect(workspace / "mlruns" / "optuna.db")) as connection, connection:
        connection.execute(
            "INSERT INTO trial_system_attributes (trial_id, key, value_json) "
            "SELECT trial_id, 'cma:optimizer:0', ? FROM trials",
            (json.dumps(pickle.dumps(Planted(mark)).hex()),),
        )
    assert len(run(workspace, spec, 15)) == 15
    assert not mark.exists()


def test_the_state_of_cmaes_follows_from_the_trials(workspace: Path) -> None:
    """The state that Optuna pickles, and the state that is told the same trials, agree."""
    study = optuna.create_study(direction="maximize")
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    study.sampler = optuna.samplers.CmaEsSampler(seed=1)
    study.optimize(
        lambda trial: -((trial.suggest_float("x", 0, 1) - 0.2) ** 2) - trial.suggest_float("y", 0, 1), 40
    )
    trials, trans = study.get_trials(), _SearchSpaceTransform(space, transform_0_1=True)
    pickled = study.sampler._restore_optimizer(trials)
    ours = make_sampler(
        replace(studies.SPEC, sampler="cmaes", seed=1, space={"x": Range(0, 1), "y": Range(0, 1)}), 40, None
    )
    assert isinstance(ours, optuna.samplers.CmaEsSampler)
    assert ours._restore_optimizer(trials) is None
    told = ours._init_optimizer(trans, study.direction)
    # Trials that ended since the last state was pickled may fill one more generation.
    assert pickled is not None
    assert told.generation - pickled.generation in (0, 1)
    assert pickled.generation >= 4
    if told.generation > pickled.generation:
        solutions = [(trans.transform(t.params), -t.values[0]) for t in trials]
        last = [
            s
            for t, s in zip(trials, solutions, strict=True)
            if t.system_attrs.get("cma:generation") == pickled.generation
        ]
        pickled.tell(last[: pickled.population_size])
    for name in ("_mean", "_sigma", "_C", "_p_sigma", "_pc"):
        assert np.allclose(getattr(told, name), getattr(pickled, name), rtol=1e-12, atol=0), name


def test_grid_visits_every_point_once(workspace: Path) -> None:
    trials = run(workspace, replace(SPEC, sampler="grid", space=LISTS), 6)
    assert {(t.params["lr"], t.params["batch_size"]) for t in trials} == {
        (lr, size) for lr in (0.1, 0.01) for size in (16, 32, 64)
    }


def test_a_grid_with_a_failed_point_ends_when_every_point_was_tried_once(workspace: Path) -> None:
    storage = open_storage(f"sqlite:///{workspace}/mlruns/optuna.db")
    spec = replace(SPEC, sampler="grid", space=LISTS)
    study = Study.create(storage, spec, studies.CONTEXT, workspace / "work")
    for number in range(6):
        claim = studies.take(study, total=6)
        if number == 2:
            claim.finish(TrialResult(state="diverged", best=None, reason="the train loss of epoch 1 is nan"))
        else:
            studies.complete(claim)
    assert study.claim(Budget(6, 10)) is None
    assert study.is_over(Budget(6, 10))
    assert study.is_complete(6)
    assert len({tuple(row.params.values()) for row in study.rows()}) == 6
    storage.engine.dispose()


def test_hyperband_prunes_before_the_median_pruner_would_look(workspace: Path) -> None:
    trials = run(workspace, replace(SPEC, pruner="hyperband", sampler="random"), 20)
    pruned = [max(t.intermediate_values) for t in trials if t.state == optuna.trial.TrialState.PRUNED]
    assert pruned
    first = PRUNERS["median"].first_epoch(SPEC.epochs)
    assert first is not None
    assert min(pruned) < first


def test_median_pruner_waits_for_five_trials_and_a_third_of_the_epochs(workspace: Path) -> None:
    trials = run(workspace, replace(SPEC, pruner="median", sampler="random"), 12)
    states = [trial.state.name for trial in trials]
    assert states[:5] == ["COMPLETE"] * 5
    assert set(states[5:]) == {"PRUNED"}
    assert {max(trial.intermediate_values) for trial in trials[5:]} == {3}


class Watching(optuna.samplers.RandomSampler):
    """A sampler that keeps what it is shown."""

    shown: list[optuna.trial.FrozenTrial]

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> float | int | str:
        self.shown = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
        value: float | int | str = super().sample_independent(study, trial, param_name, param_distribution)
        return value


def test_samplers_learn_from_trials_that_pause_as_from_pruned_ones(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = Watching(seed=0)
    monkeypatch.setitem(SAMPLERS, "random", Sampler(lambda _seeds, _space: watching))
    storage = open_storage(f"sqlite:///{workspace}/mlruns/optuna.db")
    spec = replace(SPEC, sampler="random", pruner="asha")
    study = Study.create(storage, spec, studies.CONTEXT, workspace / "work")
    for value in (0.3, 0.2):
        claim = studies.take(study)
        assert claim.until == Until(3, 1, 1)
        claim.finish(TrialResult(state="paused", best=EpochMetrics(2, 1.0, 1.0, value, 0.1), rung=1))
    claim = studies.take(study)
    assert claim.number == 2
    shown = [(trial.number, trial.state, trial.intermediate_values) for trial in watching.shown]
    assert shown == [(0, TrialState.PRUNED, {3: 0.3}), (1, TrialState.PRUNED, {3: 0.2})]
    # Nothing else sees them so: on record they wait.
    counts = study.counts()
    assert (counts.waiting, counts.running, counts.finished) == (2, 1, 0)
    assert [row.reason for row in study.rows()] == [None, None, None]
    claim.leave()
    storage.engine.dispose()


def test_nothing_is_reported_where_nothing_is_pruned(workspace: Path) -> None:
    assert all(not trial.intermediate_values for trial in run(workspace, SPEC, 3))


@pytest.mark.parametrize(
    ("sampler", "pruner", "space", "trials", "words"),
    [
        ("annealing", None, RANGES, 4, ["annealing", "tpe, gp, random, cmaes, qmc, grid"]),
        ("tpe", "asah", RANGES, 4, ["asah", "median, hyperband, wilcoxon, asha, none"]),
        ("gp", "asha", RANGES, 4, ["gp", "--pruner none"]),
        ("gp", "median", RANGES, 4, ["gp", "--pruner none"]),
        ("grid", None, RANGES, 4, ["--search lr=A,B,C"]),
        ("grid", None, LISTS, 7, ["6 points", "--trials 6"]),
        (
            "grid",
            None,
            {**CONDITIONAL, "momentum": Choice((0.5,), Condition("optimizer", ("sgd",)))},
            1,
            ["no cond"],
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    sampler: str, pruner: str | None, space: dict[str, Distribution], trials: int, words: list[str]
) -> None:
    with pytest.raises(SettingsError) as error:
        check_search(sampler, pruner, space, trials, default="median")
    for word in words:
        assert word in str(error.value)


def test_default_pruner_suits_the_sampler() -> None:
    assert check_search("tpe", None, RANGES, 4, default="median") == "median"
    assert check_search("tpe", "none", RANGES, 4, default="median") == "none"
    assert check_search("gp", None, RANGES, 4, default="median") == "none"
    assert check_search("grid", None, LISTS, 6, default="asha") == "asha"
