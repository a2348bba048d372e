"""Samplers and pruners by name: legal combinations, and each one in a study."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from harness.core.errors import SettingsError
from harness.core.records import EpochMetrics, StudySpec, TrialResult
from harness.core.space import Choice, Condition, Distribution, Range
from harness.core.study_record import Budget
from harness.study import Study, open_storage
from harness.study.samplers import PRUNERS, SAMPLERS, check_search
from tests.support import studies

CONDITION = Condition("optimizer", ("sgd",))
LISTS: dict[str, Distribution] = {"lr": Choice((0.1, 0.01)), "batch_size": Choice((16, 32, 64))}
RANGES: dict[str, Distribution] = {"lr": Range(1e-5, 1e-1, log=True), "batch_size": Choice((16, 32))}
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
            if not claim.report(metrics):
                state = "pruned"
                break
        claim.finish(TrialResult(state="pruned" if state == "pruned" else "complete", best=metrics))
    storage.engine.dispose()
    back = RDBStorage(url)
    trials = optuna.load_study(study_name=spec.name, storage=back).get_trials()
    back.engine.dispose()
    return trials


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
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


def test_nothing_is_reported_where_nothing_is_pruned(workspace: Path) -> None:
    assert all(not trial.intermediate_values for trial in run(workspace, SPEC, 3))


@pytest.mark.parametrize(
    ("sampler", "pruner", "space", "trials", "words"),
    [
        ("annealing", None, RANGES, 4, ["annealing", "tpe, gp, random, cmaes, qmc, grid"]),
        ("tpe", "asha", RANGES, 4, ["asha", "median, hyperband, wilcoxon, none"]),
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
        check_search(sampler, pruner, space, trials)
    for word in words:
        assert word in str(error.value)


def test_default_pruner_suits_the_sampler() -> None:
    assert check_search("tpe", None, RANGES, 4) == "median"
    assert check_search("gp", None, RANGES, 4) == "none"
    assert check_search("grid", None, LISTS, 6) == "median"
