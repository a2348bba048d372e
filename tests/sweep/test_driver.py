"""Whole sweeps on the demo set, read back with MLflow's and Optuna's own clients."""

import csv
import json
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState
from PIL import Image

from harness.core.errors import DataError, HarnessError, SettingsError, StudyError
from harness.core.events import Ended, Event
from harness.core.records import Split
from harness.data import Pictures, Tracks, stratified_split
from harness.study import list_studies, reading_storage
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.placing import worker_tasks
from harness.sweep.plan import plan_sweep
from harness.training.checkpoint import load_checkpoint
from tests.support.commands import Harness
from tests.support.stores import Stores, artifacts
from tests.support.sweeps import FAST, changed, sweep, write_lists

pytestmark = pytest.mark.usefixtures("place")


def client() -> MlflowClient:
    return Stores.here().client()


def runs(study: str = "demo-fcnn", kind: str = "trial") -> list[Run]:
    return Stores.here().runs(study, kind)


def trials(study: str = "demo-fcnn") -> list[optuna.trial.FrozenTrial]:
    return Stores.here().trials(study)


def history(run: Run, metric: str) -> list[tuple[int, float]]:
    return Stores.here().history(run, metric)


def test_what_a_sweep_leaves_in_both_stores() -> None:
    summary = sweep(trials=4)
    assert summary.counts.complete == 4
    (parent,) = runs("demo-fcnn", "study")
    children = runs("demo-fcnn")
    found = trials("demo-fcnn")
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 4
    assert len(children) == 4
    assert client().get_experiment(parent.info.experiment_id).name == "demo"
    for trial, run in zip(found, children, strict=True):
        assert run.info.status == "FINISHED"
        tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
        assert tags["mlflow.parentRunId"] == parent.info.run_id == summary.parent_run_id
        assert tags["trial_state"] == "complete"
        assert (tags["study"], tags["model"], tags["kind"]) == ("demo-fcnn", "fcnn", "trial")
        assert len(tags["data_digest"]) == len(tags["split_digest"]) == 64
        assert tags["device"] == "cpu"
        assert float(params["lr"]) == trial.params["lr"]
        assert int(params["batch_size"]) == trial.params["batch_size"]
        assert (params["epochs"], params["seed"], params["columns_count"]) == ("4", "0", "58")
        assert metrics["trial"] == trial.number
        for metric in ("train_loss", "val_loss", "val_accuracy", "epoch_seconds"):
            assert [step for step, _ in history(run, metric)] == [1, 2, 3, 4]
        accuracies = dict(history(run, "val_accuracy"))
        assert trial.value == max(accuracies.values()) == metrics["best_val_accuracy"]
        assert accuracies[int(metrics["best_epoch"])] == trial.value
        assert run.inputs is not None
        (dataset,) = run.inputs.dataset_inputs
        assert "synthetic" in dataset.dataset.name
        assert tags["data_digest"].startswith(dataset.dataset.digest)
        _, about = load_checkpoint(artifacts(run) / "checkpoint")
        assert about.config.params["lr"] == trial.params["lr"]
        assert about.metrics.epoch == metrics["best_epoch"]
    assert found[0].params == {"lr": 0.001, "batch_size": 32}  # the report's own setting


def test_what_the_parent_run_shows() -> None:
    summary = sweep(trials=6, pictures=True)
    (parent,) = runs("demo-fcnn", "study")
    complete = [trial for trial in trials("demo-fcnn") if trial.value is not None]
    best = max(complete, key=lambda trial: (trial.value or 0, -trial.user_attrs["result"]["best"]["val_loss"]))
    assert summary.best is not None
    assert summary.best.number == best.number
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_val_accuracy"] == best.value
    assert parent.data.metrics["best_lr"] == best.params["lr"]
    assert parent.data.tags["best_run_id"] == summary.best_run_id == runs("demo-fcnn")[best.number].info.run_id
    assert "Synthetic" in parent.data.tags["mlflow.note.content"]
    folder = artifacts(parent)
    for name in ("optimization_history", "slice", "param_importances"):
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.size[0] > 400
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 10
    with (folder / "trials.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["run_id"] for row in table] == [run.info.run_id for run in runs("demo-fcnn")]
    assert [float(row["val_accuracy"]) for row in table] == [trial.value for trial in trials("demo-fcnn")]
    split = json.loads((folder / "split.json").read_text())
    assert len(split["train"]) + len(split["valid"]) + len(split["test"]) == 300


@pytest.mark.long
@pytest.mark.parametrize(("model", "epochs"), [("fcnn", 3), ("cnn", 1)])
def test_the_test_part_stays_closed(model: str, epochs: int, tmp_path: Path) -> None:
    """A sweep whose test part has no usable row or label gives the figures of one whose test part is sound."""
    settings = changed(FAST, model=model, trials=2, epochs=epochs)
    sweep(settings, study="sound")
    plan = plan_sweep(changed(settings, data="demo", study="spoilt"))
    plan = replace(plan, tracks=without_test_part(plan.tracks, plan.split, tmp_path / "pictures.npy"))
    run_sweep(plan, open_study(plan))
    for sound, spoilt in zip(runs("sound"), runs("spoilt"), strict=True):
        assert sound.data.params == {**spoilt.data.params}
        for metric in ("train_loss", "val_loss", "val_accuracy"):
            assert len(history(sound, metric)) == epochs
            assert history(sound, metric) == history(spoilt, metric)
    for run in (*runs("spoilt"), *runs("spoilt", "study")):
        assert not any("test" in name for name in (*run.data.metrics, *run.data.tags))


def without_test_part(tracks: Tracks, split: Split, pictures: Path) -> Tracks:
    """Return tracks whose test part has NaN as features, labels of no genre and no picture."""
    test = tracks.indices(split.test)
    assert tracks.features is not None
    assert tracks.pictures is not None
    features, labels, rows = tracks.features.copy(), tracks.labels.copy(), tracks.pictures.rows.copy()
    features[test], labels[test], rows[test] = np.nan, -1, 10**6  # no such row: reading it raises IndexError
    pictures.symlink_to(tracks.pictures.path)
    return replace(tracks, features=features, labels=labels, pictures=Pictures(pictures, rows))


@pytest.mark.parametrize("model", ["fcnn", "cnn"])
def test_a_worker_is_sent_nothing_of_the_test_part(model: str) -> None:
    plan = plan_sweep(changed(FAST, model=model, data="demo"))
    task = worker_tasks(plan, open_study(plan))[0]("worker")
    assert set(task.material.view.tracks.ids) == {*plan.split.train, *plan.split.valid}
    sent = pickle.dumps(task)
    assert not [track for track in plan.split.test if track.encode() in sent]
    assert plan.split.train[0].encode() in sent
    tracks, kept = task.material.view.tracks, plan.tracks.indices(task.material.view.tracks.ids)
    assert tracks.features is not None
    assert plan.tracks.features is not None
    np.testing.assert_array_equal(tracks.features, plan.tracks.features[kept])
    np.testing.assert_array_equal(tracks.labels, plan.tracks.labels[kept])
    assert tracks.pictures is not None
    assert plan.tracks.pictures is not None
    np.testing.assert_array_equal(tracks.pictures.rows, plan.tracks.pictures.rows[kept])


@pytest.mark.long
def test_running_it_again_continues_and_then_is_done() -> None:
    sweep(trials=2)
    before = [(trial.number, trial.value, trial.datetime_complete) for trial in trials("demo-fcnn")]
    assert sweep(trials=5).counts.finished == 5
    assert [(t.number, t.value, t.datetime_complete) for t in trials("demo-fcnn")][:2] == before
    assert sweep(trials=5).counts.finished == 5
    assert sweep(trials=3).counts.finished == 5
    assert len(runs("demo-fcnn", "study")) == 1
    assert len(runs("demo-fcnn")) == 5
    # In pieces or in one go: the same trials.
    sweep(trials=5, study="whole")
    assert [t.params for t in trials("whole")] == [t.params for t in trials("demo-fcnn")]
    assert [t.value for t in trials("whole")] == [t.value for t in trials("demo-fcnn")]


@pytest.mark.long
def test_both_models_see_the_same_tracks_in_one_experiment() -> None:
    sweep(trials=1)
    sweep(trials=1, model="cnn", epochs=1)
    (fcnn,), (cnn,) = runs("demo-fcnn"), runs("demo-cnn")
    assert fcnn.info.experiment_id == cnn.info.experiment_id
    for tag in ("data_digest", "split_digest"):
        assert fcnn.data.tags[tag] == cnn.data.tags[tag]
    classifier, about = load_checkpoint(artifacts(cnn) / "checkpoint")
    assert about.architecture.representation == "pictures"
    assert sum(p.numel() for p in classifier.parameters()) == 7_969_130


def test_the_record_shows_which_columns_were_used() -> None:
    sweep(trials=1, without=("length", "tempo"))
    (run,) = runs("demo-fcnn")
    assert run.data.params["columns_count"] == "56"
    assert "length" not in run.data.params["columns"]
    assert "rms_mean" in run.data.params["columns"]
    _, about = load_checkpoint(artifacts(run) / "checkpoint")
    assert len(about.architecture.columns) == 56
    with pytest.raises(DataError, match="'tempi'"):
        plan_sweep(changed(FAST, without=("tempi",)))


@pytest.mark.long
def test_several_jobs_make_the_exact_total() -> None:
    assert sweep(trials=9, jobs=3, epochs=2).counts.finished == 9
    assert sorted(trial.number for trial in trials("demo-fcnn")) == list(range(9))
    found = runs("demo-fcnn")
    assert [int(run.data.tags["trial"]) for run in found] == list(range(9))
    assert all(len(history(run, "val_loss")) == 2 for run in found)
    assert not list(Path("mlruns", "work", "demo-fcnn").glob("trial-*"))


def test_divergence_is_a_result() -> None:
    hot = {"lr": {"low": 1e28, "high": 1e30}, "batch_size": [32]}
    with pytest.raises(StudyError, match=r"gave up after 10 failed trials[\s\S]*loss of epoch"):
        sweep(trials=2, search=hot)
    found = trials("demo-fcnn")
    assert [trial.state for trial in found] == [TrialState.FAIL] * 10
    for run in runs("demo-fcnn"):
        assert run.info.status == "FAILED"
        assert run.data.tags["trial_state"] == "diverged"
        assert "loss of epoch" in run.data.tags["reason"]
        assert not (artifacts(run) / "checkpoint").exists()
    assert runs("demo-fcnn", "study")[0].info.status == "FAILED"


def test_a_grid_with_a_failed_point_is_complete(inside: Harness) -> None:
    words = ("sweep", "--model", "fcnn", "--data", "demo", "--jobs", "1", "--epochs", "2", "--pruner", "none")
    grid = ("--sampler", "grid", "--search", "lr=0.001,1e29", "--set", "batch_size=32", "--trials", "2", "--refit")
    printed = inside(*words, *grid)
    assert "1 of 2 trials finished (1 complete, 0 pruned), 1 failed" in printed.stdout
    assert "the grid has no other points in place of those that failed" in printed.stdout
    assert "left" not in printed.stdout
    assert "refit: run " in printed.stdout  # as of every study that is complete
    again = inside(*words, *grid)
    assert "already has 1 finished trials of 2" in again.stderr
    with reading_storage(Stores.here().storage) as storage:
        (line,) = [line for line in list_studies(storage) if line.name == "demo-fcnn"]
    assert line.is_finished


def test_a_grid_all_of_whose_points_fail_is_an_error(inside: Harness) -> None:
    words = ("sweep", "--model", "fcnn", "--data", "demo", "--jobs", "1", "--epochs", "2", "--pruner", "none")
    grid = ("--sampler", "grid", "--search", "lr=1e29,1e30", "--set", "batch_size=32", "--trials", "2")
    printed = inside(*words, *grid, code=1)
    assert "all 2 points of the grid of 'demo-fcnn' have failed" in printed.stderr
    assert "export" not in printed.stdout
    assert runs("demo-fcnn", "study")[0].info.status == "FAILED"


def test_workers_that_end_before_the_trials_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.sweep.placing.work", bool)  # a worker that ends at once, without an error
    with pytest.raises(StudyError, match=r"has 0 of 2 trials, and no worker is left"):
        sweep(trials=2)
    assert runs("demo-fcnn", "study")[0].info.status == "FAILED"


def test_pruned_trials() -> None:
    summary = sweep(trials=10, epochs=9, pruner="median")
    assert summary.counts.pruned > 0
    assert summary.counts.finished == 10
    states = {TrialState.COMPLETE: ("complete", "FINISHED"), TrialState.PRUNED: ("pruned", "KILLED")}
    for trial, run in zip(trials("demo-fcnn"), runs("demo-fcnn"), strict=True):
        assert (run.data.tags["trial_state"], run.info.status) == states[trial.state]
        assert list(trial.intermediate_values) == [step for step, _ in history(run, "val_accuracy")]
        assert (artifacts(run) / "checkpoint" / "model.safetensors").is_file()


def test_a_bug_in_a_trial_stops_the_sweep_and_is_on_record() -> None:
    plan = plan_sweep(FAST)
    study = open_study(plan)
    # A file where the trial's folder should be: nothing that a trial is prepared for.
    plan.work_folder.mkdir(parents=True, exist_ok=True)
    (plan.work_folder / "trial-00000").write_text("in the way")
    with pytest.raises(StudyError, match=r"a worker met an error[\s\S]*trial-00000"):
        run_sweep(plan, study)
    (run,) = runs("demo-fcnn")
    assert run.info.status == "FAILED"
    assert run.data.tags["trial_state"] == "failed"
    assert "Traceback" in run.data.tags["reason"]
    assert trials("demo-fcnn")[0].state == TrialState.FAIL
    assert runs("demo-fcnn", "study")[0].info.status == "FAILED"


@pytest.mark.long
def test_no_trial_is_begun_after_the_timeout() -> None:
    summary = sweep(trials=500, timeout=0.1)
    assert 0 < summary.counts.finished < 500
    assert summary.counts.running == 0
    assert runs("demo-fcnn", "study")[0].data.tags["study_state"] == "timed out"
    assert all(run.info.status == "FINISHED" for run in runs("demo-fcnn"))


def set_clock(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    """Set the clock of this process, which is not the steady one."""
    read, read_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: read() + 3600 * hours)
    monkeypatch.setattr(time, "time_ns", lambda: read_ns() + round(3600e9 * hours))


def test_the_timeout_does_not_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, -24)  # the workers have the right one
    assert sweep(trials=2, timeout=5).counts.finished == 2


@pytest.mark.long
def test_a_clock_that_is_set_back_in_mid_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []

    def listen(_number: int, event: Event) -> None:
        if not heard:
            set_clock(monkeypatch, -1)
        heard.append(event)

    plan = plan_sweep(changed(FAST))
    run_sweep(plan, open_study(plan), listen)
    assert sum(isinstance(event, Ended) for event in heard) == 2
    (study,) = Stores.here().runs("demo-fcnn", "study")
    assert 0 <= study.info.end_time - study.info.start_time < 600_000
    Stores.here().check("demo-fcnn", 2, 4)


def test_keeping_the_best_checkpoints_only() -> None:
    sweep(trials=5, keep=2)
    kept = [run for run in runs("demo-fcnn") if (artifacts(run) / "checkpoint").exists()]
    removed = [run for run in runs("demo-fcnn") if run.data.tags.get("checkpoint") == "removed"]
    assert len(kept) + len(removed) == 5
    figures = {
        int(run.data.tags["trial"]): (-run.data.metrics["best_val_accuracy"], run.data.metrics["best_val_loss"])
        for run in runs("demo-fcnn")
    }
    assert {int(run.data.tags["trial"]) for run in kept} == set(sorted(figures, key=figures.__getitem__)[:2])


def test_another_fingerprint_is_refused_and_changes_nothing() -> None:
    sweep(trials=1)
    plan = plan_sweep(changed(FAST, trials=2, epochs=5, split_seed=1))
    with pytest.raises(StudyError, match=r"split_digest[\s\S]*--study NEW"):
        open_study(plan)
    assert len(trials("demo-fcnn")) == 1
    assert sweep(trials=1, epochs=5, study="new").counts.finished == 1


@pytest.mark.parametrize("sampler", [pytest.param("gp", marks=pytest.mark.long), "random"])
def test_samplers(sampler: str) -> None:
    assert sweep(trials=12, epochs=1, sampler=sampler, pruner=None).counts.finished == 12
    assert runs("demo-fcnn")[0].data.params["sampler"] == sampler
    assert runs("demo-fcnn")[0].data.params["pruner"] == ("none" if sampler == "gp" else "median")


def test_split_lists(demo_tracks: Any, workspace: Path) -> None:
    drawn = stratified_split(demo_tracks, seed=5)
    write_lists(workspace / "lists", drawn)
    sweep(trials=1, split="lists")
    (run,) = runs("demo-fcnn")
    assert run.data.tags["split_digest"] == drawn.digest
    assert run.data.params["split"] == "lists, lists"


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"data": "nowhere"}, DataError, "no data folder"),
        ({"model": "rnn"}, SettingsError, "cnn, fcnn"),
        ({"split": "nowhere"}, DataError, "split lists"),
        ({"study": "a/b"}, SettingsError, "usable name"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_made(
    changes: dict[str, Any], error: type[HarnessError], match: str, workspace: Path
) -> None:
    before = {path: path.read_bytes() for path in (workspace / "mlruns").rglob("*") if path.is_file()}
    with pytest.raises(error, match=match):
        plan_sweep(changed(FAST, **changes))
    assert {path: path.read_bytes() for path in (workspace / "mlruns").rglob("*") if path.is_file()} == before
