"""`harness reproduce`: the same numbers from the record alone, or what differs and by how much."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run

from harness.sweep.reproduce import EpochPair, Reproduction
from harness.tracking.environment import code_version, environment
from tests.support.commands import Harness, last_json
from tests.support.planted import Planted
from tests.support.stores import Stores, artifacts

SWEEP = ["sweep", "--data", "demo", "--jobs", "1"]
MODEL = """
from torch import nn

class Wide(nn.Sequential):
    representation = "features"
    search = {"lr": {"low": 1e-4, "high": 1e-2}, "batch_size": [32]}

    def __init__(self, inputs, classes):
        super().__init__(nn.Linear(inputs, 64), nn.Dropout(0.5), nn.ReLU(), nn.Linear(64, classes))
"""


def run_of(study: str, number: int) -> Run:
    return Stores.here().runs(study, "trial")[number]


@pytest.mark.long
@pytest.mark.parametrize("model", ["fcnn", "cnn"])
def test_the_same_to_the_last_digit(place: Path, inside: Harness, model: str) -> None:
    inside(*SWEEP, "--model", model, "--trials", "2", "--epochs", "2" if model == "cnn" else "5")
    run = run_of(f"demo-{model}", 1)
    found = last_json(inside("reproduce", run.info.run_id, "--json"))
    assert found["agrees"] is True
    assert found["largest_differences"] == {"train_loss": 0.0, "val_loss": 0.0, "val_accuracy": 0.0}
    points = Stores.here().client().get_metric_history(run.info.run_id, "train_loss")
    assert [pair["found"]["train_loss"] for pair in found["epochs"]] == [
        point.value for point in sorted(points, key=lambda point: point.step)
    ]
    text = inside("reproduce", run.info.run_id).stdout
    assert "every loss and accuracy is identical to the last digit" in text


@pytest.mark.long
def test_a_pruned_trial_is_trained_as_far_as_it_went(place: Path, inside: Harness) -> None:
    inside(*SWEEP, "--model", "fcnn", "--trials", "12", "--epochs", "9")
    pruned = [r for r in Stores.here().runs("demo-fcnn", "trial") if r.data.tags["trial_state"] == "pruned"]
    assert pruned
    found = last_json(inside("reproduce", pruned[0].info.run_id, "--json"))
    assert found["agrees"] is True
    assert 0 < len(found["epochs"]) < 9


def test_the_largest_differences_are_of_the_figures_on_record() -> None:
    """A refit has no validation figures, a network with a loss of its own has others."""
    recorded = {"train_loss": 0.5, "val_closeness": 0.25}
    pairs = [
        EpochPair(epoch=1, recorded=recorded, found={"train_loss": 0.5, "val_closeness": 0.5}),
        EpochPair(epoch=2, recorded=recorded, found={"train_loss": 1.0, "val_closeness": 0.25}),
    ]
    result = Reproduction(run_id="r", study="s", trial=0, epochs=tuple(pairs), differences=(), ended=None)
    assert result.gaps == {"train_loss": 0.5, "val_closeness": 0.25}
    missing = EpochPair(epoch=3, recorded=recorded, found=None)
    gaps = replace(result, epochs=(*pairs, missing)).gaps
    assert gaps == {"train_loss": math.inf, "val_closeness": math.inf}


@pytest.mark.long
def test_other_data_are_named_with_how_far_apart_the_numbers_are(
    place: Path, inside: Harness, demo_copy: Path
) -> None:
    inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "3")
    run_id = run_of("demo-fcnn", 0).info.run_id
    csv_file = demo_copy / "features_30_sec.csv"
    lines = csv_file.read_text().splitlines()
    for number in range(1, len(lines), 7):
        cells = lines[number].split(",")
        cells[10] = str(float(cells[10]) * 1.5)
        lines[number] = ",".join(cells)
    csv_file.write_text("\n".join(lines) + "\n")
    found = last_json(inside("reproduce", run_id, "--data", str(demo_copy), "--json", code=1))
    assert found["agrees"] is False
    assert "data digest" in [difference["what"] for difference in found["environment_differs"]]
    assert found["largest_differences"]["train_loss"] > 0
    text = inside("reproduce", run_id, "--data", str(demo_copy), code=1).stdout
    assert "epochs differ, the first is epoch 1" in text
    assert "largest difference of train_loss" in text
    shutil.copy(place / "input" / "demo" / "features_30_sec.csv", csv_file)
    csv_file.write_text("\n".join(csv_file.read_text().splitlines()[:-1]) + "\n")
    assert "lacks" in inside("reproduce", run_id, "--data", str(demo_copy), code=1).stderr


def test_a_model_from_a_file_is_taken_from_the_record(place: Path, inside: Harness) -> None:
    Path("wide.py").write_text(MODEL)
    inside(*SWEEP, "--model", "wide.py:Wide", "--trials", "1", "--epochs", "3")
    run_id = run_of("demo-Wide", 0).info.run_id
    Path("wide.py").unlink()
    assert last_json(inside("reproduce", run_id, "--json"))["agrees"] is True


def test_code_in_a_record_runs_only_if_it_is_trusted(
    place: Path, inside: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("wide.py").write_text(MODEL)
    inside(*SWEEP, "--model", "wide.py:Wide", "--trials", "1", "--epochs", "1")
    run, parent = run_of("demo-Wide", 0), Stores.here().runs("demo-Wide", "study")[0]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of another user"))
    digest = run.data.tags["source_digest"]
    refusal = inside("reproduce", run.info.run_id, code=1).stderr.replace("\n", "")
    for words in (digest, "context.json", "--trust-code"):
        assert words in refusal
    assert last_json(inside("reproduce", run.info.run_id, "--trust-code", "--json"))["agrees"] is True

    planted = Planted.at(Path("planted.py"))
    context = artifacts(parent) / "context.json"
    context.write_text(json.dumps({**json.loads(context.read_text()), "model_source": planted.code}))
    for flag in ((), ("--trust-code",)):
        assert "is not the code that run" in inside("reproduce", run.info.run_id, *flag, code=1).stderr
    assert not planted.ran


def test_the_code_in_the_record_of_a_model_of_the_package_is_never_run(place: Path, inside: Harness) -> None:
    inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "1")
    planted = Planted.at(Path("planted.py"))
    context = artifacts(Stores.here().runs("demo-fcnn", "study")[0]) / "context.json"
    context.write_text(json.dumps({**json.loads(context.read_text()), "model_source": planted.code}))
    inside("reproduce", run_of("demo-fcnn", 0).info.run_id, "--trust-code")
    assert not planted.ran


def test_what_cannot_be_reproduced(place: Path, inside: Harness) -> None:
    inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "1")
    parent = Stores.here().runs("demo-fcnn", "study")[0].info.run_id
    assert "is no trial's (kind study)" in inside("reproduce", parent, code=1).stderr
    assert "there is no run 'nothing'" in inside("reproduce", "nothing", code=1).stderr


def test_each_run_says_what_it_was_made_with(place: Path, inside: Harness) -> None:
    inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "1")
    tags = run_of("demo-fcnn", 0).data.tags
    code = code_version()
    if code is not None:  # the tests may run from an installed package
        assert (tags["mlflow.source.git.commit"], tags["code_dirty"]) == (code[0], "yes" if code[1] else "no")
    assert environment()["torch"] in tags["environment"]
    assert {"device", "config", "data_digest", "split_digest"} <= tags.keys()
