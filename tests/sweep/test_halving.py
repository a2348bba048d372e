"""Sweeps whose trials pause at rungs: what both stores have, lost resume points, folds, other samplers."""

from __future__ import annotations

import os
import signal

import pytest
from optuna.trial import TrialState

from harness.core.errors import SettingsError
from harness.core.events import Ended, Event
from harness.core.halving import Halving
from harness.models.registry import MODELS
from harness.study import Study
from harness.sweep.doctor import examine
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.reproduce import reproduce
from tests.support.commands import Harness
from tests.support.stores import Stores, left_behind, work_folder
from tests.support.sweeps import FAST, changed, no_pictures, sweep, train_without_uploading

pytestmark = pytest.mark.usefixtures("place")
HALVED = changed(FAST, pruner="asha", trials=9, epochs=30)


def test_a_third_goes_on_from_rung_to_rung() -> None:
    summary = sweep(HALVED)
    stores = Stores.here()
    trained = stores.check_halved("demo-fcnn", 9, (3, 10), 30)
    assert trained.count(30) == summary.counts.complete >= 1
    assert trained.count(3) > len(trained) / 2
    assert summary.counts.finished == 9
    assert left_behind(work_folder("demo-fcnn")) == []
    assert summary.best is not None
    assert stores.trials("demo-fcnn")[summary.best.number].state == TrialState.COMPLETE
    # Each network is that of the same setting trained at one go: nothing shows that it has paused.
    for number in (trained.index(30), trained.index(3)):
        assert reproduce(stores.runs("demo-fcnn", "trial")[number].info.run_id).agrees


@pytest.mark.long
def test_more_trials_later() -> None:
    sweep(HALVED)
    sweep(HALVED, trials=14)
    found = Stores.here().trials("demo-fcnn")
    assert len(found) == 14
    assert all(trial.state.is_finished() for trial in found)


@pytest.mark.long
def test_a_lost_resume_point_costs_time_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(HALVED, study="whole")
    claim, number = Study.claim, iter(range(1000))

    def forgetful(self: Study, *arguments: object) -> object:
        if next(number) % 3 == 0:
            for path in self.work_folder.glob("trial-*/resume*"):
                path.unlink()
        return claim(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Study, "claim", forgetful)
    unsent = train_without_uploading(**HALVED.model_dump(exclude_unset=True))
    assert next(number) > 18
    unsent.uploader.pump(flush=True)
    stores = Stores.here()
    stores.same_numbers("demo-fcnn", "whole")
    assert stores.check_halved("demo-fcnn", 9, (3, 10), 30) == stores.check_halved("whole", 9, (3, 10), 30)


def test_the_record_of_a_sweep_that_is_stopped_in_between(inside: Harness) -> None:
    """Trials that pause are WAITING with their rung, and SCHEDULED in MLflow; nothing is amiss with them."""
    plan = plan_sweep(changed(HALVED, trials=12, epochs=90))
    study = open_study(plan)
    heard: list[Event] = []

    def stop(_number: int, event: Event) -> None:
        heard.append(event)
        if sum(isinstance(each, Ended) for each in heard) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run_sweep(plan, study, stop).signal == signal.SIGTERM
    stores = Stores.here()
    found, runs = stores.trials("demo-fcnn"), stores.runs("demo-fcnn", "trial")
    paused = [(t, run) for t, run in zip(found, runs, strict=False) if t.state == TrialState.WAITING]
    assert paused
    for trial, run in paused:
        halving = Halving.of(trial.user_attrs.get("halving"))
        reached = len(halving.reached)
        if not halving.pauses:
            continue  # it was stopped on its way to a rung
        assert (run.info.status, run.data.tags["trial_state"]) == ("SCHEDULED", "paused")
        assert run.data.tags["rung"] == str(reached)
        assert run.data.tags["reason"] == f"paused at rung {reached} of 3"
        assert list(trial.intermediate_values) == [3, 10, 30][:reached]
    assert list(examine(plan.stores, fix=False)) == []
    assert f"demo-fcnn: trials that wait: {len(paused)}" in inside("status").stdout
    with no_pictures():
        run_sweep(plan, open_study(plan))
    stores.check_halved("demo-fcnn", 12, (3, 10, 30), 90)


def test_fewer_trials_than_were_begun() -> None:
    """Those that pause are the best ones: what was begun comes to its end, and one of it to its last epoch."""
    plan = plan_sweep(changed(HALVED, trials=30))
    study = open_study(plan)

    def stop(_number: int, event: Event) -> None:
        if isinstance(event, Ended) and study.counts().total >= 7:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run_sweep(plan, study, stop).signal == signal.SIGTERM
    begun = study.counts().total
    assert study.counts().waiting > 1
    summary = sweep(HALVED, trials=1)
    assert summary.is_complete
    assert summary.counts.finished == begun
    assert summary.counts.complete >= 1
    Stores.here().check_halved("demo-fcnn", begun, (3, 10), 30)


def test_folds_are_the_rungs_of_a_trial_that_has_several() -> None:
    summary = sweep(HALVED, folds=4, epochs=5, trials=6, confirm=0, refit=False)
    stores = Stores.here()
    assert summary.counts.finished == 6
    for trial, run in zip(stores.trials("demo-fcnn"), stores.runs("demo-fcnn", "trial"), strict=True):
        folds = 4 if trial.state == TrialState.COMPLETE else 1 + trial.user_attrs["halving"]["promoted"] * 2
        assert folds in (1, 4)  # one rung, at the first fold
        for fold in range(1, 5):
            points = stores.history(run, f"val_accuracy_fold_{fold}")
            assert sorted(step for step, _ in points) == ([1, 2, 3, 4, 5] if fold <= folds else [])
        assert sorted(step for step, _ in stores.history(run, "val_accuracy")) == [1, 2, 3, 4, 5]
    assert summary.counts.complete == 2


def test_patience_does_not_go_with_it() -> None:
    with pytest.raises(SettingsError, match=r"patience is 3, and the pruner is asha[\s\S]*fewer --trials"):
        plan_sweep(changed(HALVED, patience=3))


def test_networks_that_take_pictures_are_halved_by_default() -> None:
    by_model = {model: plan_sweep(changed(FAST, model=model, pruner=None)).spec.pruner for model in MODELS}
    assert by_model == {"fcnn": "median", "cnn": "asha", "both": "asha"}
    with pytest.raises(SettingsError, match=r"the pruner is asha[\s\S]*--pruner median"):
        plan_sweep(changed(FAST, model="cnn", pruner=None, patience=3))
