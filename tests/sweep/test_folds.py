"""Sweeps with folds and their refit: what both stores have, what export, reproduce and delete make of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from mlflow.entities import Run
from safetensors.torch import load_file

from harness.core.errors import CheckpointError, DataError, SettingsError
from harness.data import FEATURE_COLUMNS, Tracks, View, stratified_split, validation_folds
from harness.export.bundle import export_best
from harness.models.registry import MODELS
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.refit import refit
from harness.sweep.reproduce import reproduce
from harness.sweep.summary import StudySummary
from harness.tracking import Tracker
from harness.training.description import read_description
from harness.training.loop import fit, start_training
from tests.support.commands import Harness, last_json
from tests.support.stores import Stores, artifacts
from tests.support.sweeps import FAST, changed, no_pictures

pytestmark = pytest.mark.usefixtures("place")
FOLDED = changed(FAST, folds=3, epochs=4, trials=3)


def swept(**changes: object) -> StudySummary:
    plan = plan_sweep(changed(FOLDED, **changes))
    study = open_study(plan)
    with no_pictures():
        summary = run_sweep(plan, study)
        return replace(summary, refit=refit(plan, study)) if plan.refits else summary


def trial_runs(study: str = "demo-fcnn") -> list[Run]:
    return Stores.here().runs(study, "trial")


def test_what_both_stores_have() -> None:
    swept(refit=False)
    stores = Stores.here()
    for trial, run in zip(stores.trials("demo-fcnn"), trial_runs(), strict=True):
        folds = [dict(stores.history(run, f"val_accuracy_fold_{fold}")) for fold in (1, 2, 3)]
        assert all(list(curve) == [1, 2, 3, 4] for curve in folds)
        mean, std = dict(stores.history(run, "val_accuracy")), dict(stores.history(run, "val_accuracy_std"))
        for epoch in (1, 2, 3, 4):
            values = [curve[epoch] for curve in folds]
            assert (mean[epoch], std[epoch]) == (fmean(values), stdev(values))
        best = int(run.data.metrics["best_epoch"])
        assert trial.value == max(mean.values()) == mean[best] == run.data.metrics["best_val_accuracy"]
        assert run.data.metrics["best_val_accuracy_std"] == std[best]
        assert run.data.params["folds"] == "3"
        assert not stores.client().list_artifacts(run.info.run_id, "checkpoint")
    (parent,) = stores.runs("demo-fcnn", "study")
    with (artifacts(parent) / "trials.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["val_accuracy_std"]) == trial_runs()[0].data.metrics["best_val_accuracy_std"]


@pytest.mark.long
def test_reproduce_agrees() -> None:
    summary = swept(trials=1)
    assert summary.refit is not None
    for run_id in (summary.best_run_id, summary.refit.best_run_id):
        found = reproduce(str(run_id))
        assert found.agrees, found.as_json()


@pytest.mark.parametrize("schedule", [pytest.param("constant", marks=pytest.mark.long), "cosine"])
def test_the_refit_is_the_network_that_is_trained_by_hand(schedule: str, demo_tracks: Tracks) -> None:
    summary = swept(trials=2, set={"schedule": schedule})
    assert summary.best is not None
    assert summary.refit is not None
    run = Stores.here().client().get_run(str(summary.refit.best_run_id))
    assert (run.info.status, run.data.tags["refit_of"]) == ("FINISHED", "demo-fcnn")
    assert not any("val_" in name for name in run.data.metrics)
    description = read_description(artifacts(run) / "checkpoint")
    config = description.config
    assert config.last_epoch == summary.best.best_epoch
    assert {**summary.best.params, "schedule": schedule} == dict(config.params)
    split = stratified_split(demo_tracks, seed=0)
    data = View(demo_tracks, "features", FEATURE_COLUMNS).training(split.merged())
    assert len(data.train) == len(split.train) + len(split.valid)
    torch.set_num_threads(1)
    state = start_training(config, MODELS["fcnn"], data, torch.device("cpu"))
    assert [metrics.epoch for metrics in fit(state, data)] == list(range(1, (config.last_epoch or 0) + 1))
    weights = load_file(artifacts(run) / "checkpoint" / "model.safetensors")
    for name, tensor in state.classifier.state_dict().items():
        assert torch.equal(tensor, weights[name])


@pytest.mark.long
def test_export_takes_the_refit_and_refuses_a_trial_with_folds() -> None:
    summary = swept(trials=2, keep="best:1")  # of trials that have no checkpoint
    assert summary.refit is not None
    with pytest.raises(CheckpointError, match="has no network"):
        export_best(Path("fold"), run_id=summary.best_run_id)
    exported = export_best(Path("best"), study="demo-fcnn")
    assert (exported.run_id, exported.val_accuracy) == (summary.refit.best_run_id, None)
    assert exported.test.tracks == 60
    assert json.loads(Path("best/model.json").read_text())["parts"] == {"train": 240, "valid": 0, "test": 60}
    assert "none: a refit" in Path("best/README.md").read_text()


@pytest.mark.long
def test_a_refit_is_made_once_for_a_trial() -> None:
    first, again = swept(trials=2), swept(trials=2)
    assert first.refit is not None
    assert again.refit is not None
    assert first.refit.best_run_id == again.refit.best_run_id
    tracker = Tracker(first.tracking_uri)
    assert tracker.studies.names() == ["demo-fcnn"]
    assert tracker.parts.network_run("demo-fcnn").run_id == first.refit.best_run_id
    more = swept(trials=6)
    assert more.refit is not None
    assert more.best is not None
    assert first.best is not None
    assert (more.refit.best_run_id == first.refit.best_run_id) == (more.best.number == first.best.number)
    assert tracker.parts.network_run("demo-fcnn").run_id == more.refit.best_run_id


def test_status_doctor_and_delete(inside: Harness) -> None:
    swept(trials=1)
    assert [study["name"] for study in last_json(inside("status", "--json"))] == ["demo-fcnn"]
    assert inside("doctor").stdout == "nothing is wrong\n"
    inside("delete", "demo-fcnn", "--yes")
    stores = Stores.here()
    client = stores.client()
    left = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert left == []
    assert not list(Path("mlruns/work").glob("demo-fcnn*"))
    assert inside("status").stdout.startswith("no studies yet")


def test_a_bad_trial_ends_after_two_folds(inside: Harness) -> None:
    """Two folds at a tiny learning rate are far behind the first trial, which has the report's setting."""
    swept(trials=2, sampler="grid", search={"lr": [0.001, 1e-6], "batch_size": [32]}, pruner="median")
    good, bad = trial_runs()
    assert (good.data.params["lr"], bad.data.params["lr"]) == ("0.001", "1e-06")
    assert good.data.tags["trial_state"] == "complete"
    assert bad.data.tags["trial_state"] == "pruned"
    assert "below the worst fold of the best trial" in bad.data.tags["reason"]
    assert "val_accuracy_fold_2" in bad.data.metrics
    assert "val_accuracy_fold_3" not in bad.data.metrics


def test_what_is_refused(demo_tracks: Tracks) -> None:
    for folds in (0, 21):
        with pytest.raises((SettingsError, ValueError)):
            changed(FOLDED, folds=folds)
    with pytest.raises(SettingsError, match="refit"):
        plan_sweep(changed(FOLDED, study="mine.refit-3-9"))
    with pytest.raises(DataError, match="folds were requested"):
        validation_folds(demo_tracks, stratified_split(demo_tracks, seed=0), 25)


def _genres(tracks: Tracks, ids: Sequence[str]) -> list[int]:
    label = dict(zip(tracks.ids, tracks.labels.tolist(), strict=True))
    return [label[track] for track in ids]


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_cut_train_and_validation_part(demo_tracks: Tracks, folds: int) -> None:
    twins = (demo_tracks.ids[0], demo_tracks.ids[1])
    tracks = replace(demo_tracks, duplicates=(twins,))
    split = stratified_split(tracks, seed=1)
    found = validation_folds(tracks, split, folds)
    pool = set(split.train + split.valid)
    assert sorted(track for fold in found for track in fold.valid) == sorted(pool)
    for fold in found:
        assert set(fold.train) == pool - set(fold.valid)
        assert fold.test == ()
        assert len({track in fold.valid for track in twins if track in pool}) <= 1
        counts = [_genres(tracks, fold.valid).count(genre) for genre in range(10)]
        assert max(counts) - min(counts) <= 2
    assert found == validation_folds(tracks, split, folds)
