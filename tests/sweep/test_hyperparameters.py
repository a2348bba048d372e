"""A new hyperparameter, of the loop and of a network, shows wherever parameters show, and nobody names it."""

import csv
import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient

# The file adds a hyperparameter of the loop as its author would: an entry of the table and its use. Being the
# model's file it is imported by the workers too.
MODEL = """
import torch
from harness import Hyperparameter
from harness.training import loop

loop.HYPERPARAMETERS["lr_scale"] = Hyperparameter(float, 1.0, above=0, log=True)
plain = loop.make_optimizer

def make_optimizer(parameters, config):
    optimizer = plain(parameters, config)
    optimizer.lr *= config.params.get("lr_scale", 1.0)
    return optimizer

loop.make_optimizer = make_optimizer

class Small(torch.nn.Module):
    representation = "features"
    hyperparameters = {"hidden": Hyperparameter(int, 8, at_least=1)}

    def __init__(self, inputs, classes, hidden=8):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(inputs, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, classes)
        )

    def forward(self, x):
        return self.layers(x)
"""
NAMES = ["lr", "batch_size", "lr_scale", "hidden"]


@pytest.fixture
def swept(place: Path, inside: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `harness sweep --json` says of a study that searches both new hyperparameters."""
    from harness.training import hyperparameters, loop

    own = dict(hyperparameters.HYPERPARAMETERS)
    for module in (hyperparameters, loop):
        monkeypatch.setattr(module, "HYPERPARAMETERS", own)
    monkeypatch.setattr(loop, "make_optimizer", loop.make_optimizer)
    (place / "net.py").write_text(MODEL)
    options = ["--search", "lr_scale=1:4", "--search", "hidden=8,16", "--set", "optimizer=adamw"]
    command = [
        "sweep",
        "--model",
        "net.py:Small",
        "--data",
        "demo",
        "--trials",
        "3",
        "--epochs",
        "2",
        "--jobs",
        "1",
    ]
    said: dict[str, Any] = json.loads(inside(*command, *options, "--json").stdout)
    return said


def test_new_hyperparameters_show_everywhere(swept: dict[str, Any], place: Path, inside: Any) -> None:
    assert list(swept["best"]["params"]) == NAMES
    assert swept["fixed"] == {"optimizer": "adamw"}

    study = optuna.load_study(study_name=swept["study"], storage=f"sqlite:///{place}/mlruns/optuna.db")
    assert [sorted(trial.params) for trial in study.trials] == [sorted(NAMES)] * 3
    assert study.trials[0].params == {"lr": 0.001, "batch_size": 32, "lr_scale": 1.0, "hidden": 8}

    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    best = client.get_run(swept["best"]["run_id"])
    assert {name: best.data.params[name] for name in NAMES} == {
        name: str(value) for name, value in swept["best"]["params"].items()
    }
    assert best.data.params["optimizer"] == "adamw"
    parent = client.get_run(swept["parent_run_id"])
    assert float(parent.data.tags["best_lr_scale"]) == swept["best"]["params"]["lr_scale"]
    assert json.loads(parent.data.params["search"])["hidden"] == [8, 16]

    with Path(client.download_artifacts(parent.info.run_id, "trials.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["hidden"] for row in rows] == [str(trial.params["hidden"]) for trial in study.trials]
    assert "slice.png" in [file.path for file in client.list_artifacts(parent.info.run_id)]

    (line,) = json.loads(inside("status", "--json").stdout)
    assert line["best_params"] == swept["best"]["params"]
    assert "lr_scale" in " ".join(inside("status", COLUMNS="200").stdout.split())

    inside("export", "--study", swept["study"], "--out", "best")
    card = (place / "best" / "README.md").read_text()
    assert all(f"{name} " in card for name in NAMES)
    assert json.loads((place / "best" / "model.json").read_text())["config"]["hidden"] in (8, 16)
