"""A model with a loss of its own: the search, the record, and what is said of it everywhere."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
import torch
from mlflow.entities import Run
from safetensors.torch import load_file

import harness
from harness.data import load_tracks, stratified_split
from tests.support.commands import Harness, last_json
from tests.support.own_loss import SOURCE
from tests.support.stores import Stores, artifacts
from tests.support.sweeps import sweep

SWEEP = ("--data", "demo", "--trials", "4", "--epochs", "4", "--jobs", "1")


@pytest.fixture
def swept(place: Path, inside: Harness) -> list[Run]:
    """The runs of the trials of a study of the autoencoder, by number."""
    (place / "net.py").write_text(SOURCE)
    found = inside("sweep", "--model", "net.py:Autoencoder", *SWEEP, "--pruner", "none")
    assert "val_loss" in found.stderr
    assert "validation loss" in found.stdout + found.stderr
    runs = Stores.here().runs("demo-Autoencoder", "trial")
    return sorted(runs, key=lambda run: int(run.data.tags["trial"]))


def values(runs: Sequence[Run], name: str) -> list[float]:
    return [run.data.metrics[name] for run in runs]


def test_the_least_loss_is_the_best(swept: list[Run], inside: Harness) -> None:
    stores = Stores.here()
    study = optuna.load_study(study_name="demo-Autoencoder", storage="sqlite:///mlruns/optuna.db")
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    losses = values(swept, "best_val_loss")
    assert [trial.value for trial in study.trials] == losses
    best = losses.index(min(losses))
    assert study.best_trial.number == best
    (parent,) = stores.runs("demo-Autoencoder", "study")
    assert parent.data.tags["best_run_id"] == swept[best].info.run_id
    assert parent.data.params["objective"] == "val_loss, minimise"
    assert parent.data.metrics["best_val_loss"] == min(losses)
    assert "best_val_accuracy" not in parent.data.metrics
    for run in swept:
        history = {name: dict(stores.history(run, name)) for name in ("val_loss", "val_largest", "val_closeness")}
        assert all(set(points) == {1, 2, 3, 4} for points in history.values())
        epoch = int(run.data.metrics["best_epoch"])
        assert history["val_loss"][epoch] == min(history["val_loss"].values()) == run.data.metrics["best_val_loss"]
        assert history["val_largest"][epoch] == run.data.metrics["best_val_largest"]
        assert "val_accuracy" not in run.data.metrics
    with (artifacts(parent) / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == losses
    assert [float(row["val_largest"]) for row in rows] == values(swept, "best_val_largest")
    assert {row["val_accuracy"] for row in rows} == {""}
    for name in ("optimization_history.png", "slice.png"):
        assert (artifacts(parent) / name).stat().st_size > 5000
    (line,) = last_json(inside("status", "--json"))
    assert line["best"] == min(losses)
    assert "best is the validation loss" in inside("status").stdout
    inside("doctor")


def test_the_figures_are_those_of_the_weights(swept: list[Run], inside: Harness) -> None:
    """By hand: the validation loss on record is that of the checkpoint; so are the test figures of the export."""
    best = min(swept, key=lambda run: run.data.metrics["best_val_loss"])
    shown = inside("export", "--study", "demo-Autoencoder", "--out", "best", "--trust-code").stdout
    assert "test_loss" in shown
    assert "registered" not in shown
    weights = load_file("best/model.safetensors")
    tracks = load_tracks(Path("input/demo"))
    split = stratified_split(tracks, seed=0)
    assert tracks.features is not None

    def loss(part: tuple[str, ...]) -> float:
        assert tracks.features is not None
        rows = torch.from_numpy(tracks.features[tracks.indices(part)]).float()
        x = (rows - weights["normalise.mean"]) / weights["normalise.scale"]
        hidden = torch.relu(x @ weights["network.there.weight"].T + weights["network.there.bias"])
        back = hidden @ weights["network.back.weight"].T + weights["network.back.bias"]
        return float((back - x).square().mean())

    assert loss(split.valid) == pytest.approx(best.data.metrics["best_val_loss"], rel=1e-5)
    about = json.loads(Path("best/model.json").read_text())
    assert about["metrics"]["test"]["figures"]["test_loss"] == pytest.approx(loss(split.test), rel=1e-5)
    assert about["metrics"]["test"]["accuracy"] is None
    run = Stores.here().client().get_run(best.info.run_id)
    assert run.data.metrics["test_loss"] == pytest.approx(loss(split.test), rel=1e-5)
    assert run.data.tags["test_openings"] == "1"
    card = Path("best/README.md").read_text()
    assert "A network with a loss of its own" in card
    assert "classes" not in card
    rows = torch.from_numpy(tracks.features[:5]).float()
    given = harness.load_bundle("best", trust_code=True).probabilities(rows)
    assert torch.allclose(given, harness.load("demo-Autoencoder", trust_code=True).network()(rows), atol=1e-5)
    error = inside("predict", "best", "input/demo", "--trust-code", code=1).stderr
    assert "what it gives are no classes" in error


def test_a_trial_is_reproduced(swept: list[Run], inside: Harness) -> None:
    shown = inside("reproduce", swept[1].info.run_id, "--trust-code").stdout
    assert "identical to the last digit" in shown
    found = last_json(inside("reproduce", swept[1].info.run_id, "--trust-code", "--json"))
    assert {"val_largest", "val_closeness"} <= set(json.dumps(found).replace('"', " ").split())


@pytest.mark.usefixtures("swept")
def test_what_is_about_accuracy_is_refused(inside: Harness) -> None:
    model = ("sweep", "--model", "net.py:Autoencoder", *SWEEP, "--study", "other")
    for flag in (("--folds", "3"), ("--refit",), ("--ensemble", "3"), ("--patience", "3")):
        error = inside(*model, *flag, code=1).stderr
        assert f"has a loss of its own, and {flag[0]} is for validation accuracy" in error.replace("\n", " ")
    assert "label_smoothing" in inside(*model, "--set", "label_smoothing=0.1", code=1).stderr
    sweep(study="plain", trials=1, epochs=1)
    words = ("--study", "demo-Autoencoder", "--trust-code")
    assert "looked for val_loss, minimise" in inside("compare", *words, "--study", "plain", code=1).stderr
    assert "looked for val_loss, minimise" in inside("traits", *words, code=1).stderr


@pytest.mark.usefixtures("place")
def test_a_metric_may_be_looked_for_and_pruned_by() -> None:
    Path("net.py").write_text(SOURCE)
    study = harness.sweep("net.py:Closest", data="demo", trials=8, epochs=6, jobs="1", progress=False)
    rows = [row for row in study.rows if row.state == "COMPLETE"]
    assert study.best is not None
    assert study.best.own["val_closeness"] == max(row.own["val_closeness"] for row in rows)
    assert len(rows) < 8  # the median pruner, which maximises here
    pruned = [row for row in study.rows if row.state == "PRUNED"]
    assert all("median pruner" in (row.reason or "") for row in pruned)
    assert max(row.own["val_closeness"] for row in pruned) < study.best.own["val_closeness"]
    assert {"val_closeness", "val_largest"} <= set(study.trials().columns)


def test_a_metric_that_is_undefined_at_first_is_judged_later(place: Path, inside: Harness) -> None:
    (place / "net.py").write_text(SOURCE)
    words = ("sweep", "--data", "demo", "--trials", "1", "--epochs", "4", "--jobs", "1", "--set", "batch_size=64")
    inside(*words, "--model", "net.py:Undefined")
    stores = Stores.here()
    (run,) = stores.runs("demo-Undefined", "trial")
    history = dict(stores.history(run, "val_largest"))
    assert math.isnan(history[1])
    later = [history[epoch] for epoch in (2, 3, 4)]
    assert run.data.metrics["best_val_largest"] == min(later) == stores.trials("demo-Undefined")[0].value

    # Never defined: both stores say that the trial has failed, and why.
    shown = inside(*words, "--model", "net.py:Never", code=1).stderr
    assert "validation largest is nan" in shown
    runs = stores.runs("demo-Never", "trial")
    assert {(each.info.status, each.data.tags["trial_state"]) for each in runs} == {("FAILED", "diverged")}
    assert {each.data.tags["reason"] for each in runs} == {"validation largest is nan"}
    assert {trial.state.name for trial in stores.trials("demo-Never")} == {"FAIL"}
