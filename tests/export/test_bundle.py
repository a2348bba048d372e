"""Export: the best checkpoint is loadable and measured, and each use of the test part is recorded."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from harness.core.errors import CheckpointError, DataError, HarnessError, StudyError, TrackingError
from harness.core.files import sha256_of
from harness.data import DEMO_FOLDER, Tracks, View, stratified_split
from harness.export.bundle import export_best
from harness.sweep.summary import StudySummary
from harness.tracking import fix_artifact_paths
from harness.training.checkpoint import load_checkpoint
from tests.support.commands import Harness, last_json, python
from tests.support.sweeps import sweep


def test_the_bundle_and_its_measurement(swept: StudySummary, demo_tracks: Tracks) -> None:
    bundle = export_best(Path("best"), study="demo-fcnn")
    assert bundle.run_id == swept.best_run_id
    assert {path.name for path in Path("best").iterdir()} == {
        "README.md",
        "model.json",
        "model.pt2",
        "model.safetensors",
    }
    description = json.loads(Path("best/model.json").read_text())
    assert description["run_id"] == swept.best_run_id
    assert description["architecture"]["genres"] == list(demo_tracks.genres)
    assert len(description["architecture"]["columns"]) == 58
    for key in ("config", "data_digest", "split_digest", "metrics", "versions"):
        assert key in description
    # Measured again without the export code, from the folder alone, on raw rows.
    classifier, _ = load_checkpoint(Path("best"))
    test = stratified_split(demo_tracks, seed=0).test
    rows = [demo_tracks.ids.index(track) for track in test]
    assert demo_tracks.features is not None
    with torch.no_grad():
        guesses = classifier(torch.from_numpy(demo_tracks.features[rows]).float()).argmax(1)
    correct = int((guesses.numpy() == demo_tracks.labels[rows]).sum())
    assert (bundle.test.tracks, bundle.test.correct) == (60, correct)
    assert description["metrics"]["test"]["correct"] == correct
    assert bundle.test.accuracy is not None
    assert bundle.test.low is not None
    assert bundle.test.high is not None
    assert bundle.test.low < bundle.test.accuracy < bundle.test.high
    text = bundle.as_text()
    assert "SYNTHETIC" in text
    assert "95 % interval" in text


def test_each_use_of_the_test_part_is_recorded(swept: StudySummary) -> None:
    assert swept.best_run_id is not None
    for number, folder in enumerate(("a", "b"), start=1):
        bundle = export_best(Path(folder), run_id=swept.best_run_id)
        assert bundle.test.openings == number
    client = MlflowClient(swept.tracking_uri)
    run = client.get_run(swept.best_run_id)
    assert run.data.tags["test_openings"] == "2"
    points = client.get_metric_history(swept.best_run_id, "test_accuracy")
    assert [(point.step, point.value) for point in points] == [
        (1, bundle.test.accuracy),
        (2, bundle.test.accuracy),
    ]
    assert run.info.status == "FINISHED"


def refused(match: str, kind: type[HarnessError], out: str = "best", **arguments: Any) -> None:
    with pytest.raises(kind, match=match):
        export_best(Path(out), **arguments)
    assert not Path(out).exists() or out == "full"
    assert not list(Path.cwd().glob(f".{out}*"))


def test_bad_requests_are_refused(swept: StudySummary, demo_copy: Path) -> None:
    refused("there is no study 'none'[\\s\\S]*demo-fcnn", StudyError, study="none")
    refused("there is no run 'abc'", TrackingError, run_id="abc")
    refused("has no checkpoint", TrackingError, run_id=swept.parent_run_id)
    refused("no data folder", DataError, study="demo-fcnn", data="nowhere")
    (demo_copy / "images_original" / "amber" / "amber00000.png").unlink()
    refused("holds other data", DataError, study="demo-fcnn", data=str(demo_copy))
    Path("full").mkdir()
    Path("full/file").touch()
    refused("not an empty folder", CheckpointError, out="full", study="demo-fcnn")
    refused("no MLflow store", TrackingError, study="x", tracking_uri="sqlite:///none.db")
    assert not Path("none.db").exists()


def test_an_export_that_fails_leaves_no_folders(swept: StudySummary, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        export_best(tmp_path / "some" / "where" / "best", study=swept.spec.name, data="nowhere")
    assert not (tmp_path / "some").exists()


def test_a_damaged_and_a_removed_checkpoint_are_refused(swept: StudySummary) -> None:
    client = MlflowClient(swept.tracking_uri)
    assert swept.best_run_id is not None
    run = client.get_run(swept.best_run_id)
    weights = Path(run.info.artifact_uri.removeprefix("file://")) / "checkpoint" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\0\1\2\3")
    refused("missing or damaged", CheckpointError, study="demo-fcnn")
    client.set_tag(swept.best_run_id, "checkpoint", "removed")
    refused("removed by --keep", CheckpointError, study="demo-fcnn")


def test_another_folder_with_the_same_data_is_accepted(swept: StudySummary, demo_data: Path) -> None:
    shutil.copytree(demo_data, "moved")
    DEMO_FOLDER.unlink()
    bundle = export_best(Path("best"), study="demo-fcnn", data="moved")
    assert bundle.test.tracks == 60


@pytest.mark.long
def test_a_network_for_pictures_is_exported(workspace: Path, demo_data: Path) -> None:
    sweep(model="cnn", data=str(demo_data), trials=1, epochs=1, study="pictures")
    assert export_best(Path("best"), study="pictures").test.tracks == 60


def champion() -> tuple[int, str]:
    version = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db").get_model_version_by_alias(
        "demo-fcnn", "champion"
    )
    return int(version.version), str(version.run_id)


@pytest.mark.long
def test_a_run_gets_one_version(swept: StudySummary, inside: Harness) -> None:
    client = MlflowClient(swept.tracking_uri)
    best = swept.best_run_id
    assert best is not None
    other, *_ = [
        run.info.run_id
        for run in client.search_runs([client.get_run(best).info.experiment_id], "tags.kind = 'trial'")
        if run.info.run_id != best
    ]
    first = last_json(inside("export", "--model", "fcnn", "--experiment", "demo", "--out", "a", "--json"))
    assert first["registered"] == {
        "name": "demo-fcnn", "version": "1", "uri": "models:/demo-fcnn@champion", "reused": False,
    }  # fmt: skip
    assert "version 1, as before" in inside("export", "--study", "demo-fcnn", "--out", "b").stdout
    assert last_json(inside("export", "--run", other, "--out", "c", "--json"))["registered"] is None
    inside("export", "--study", "demo-fcnn", "--out", "d", "--no-register")
    assert champion() == (1, best)
    inside("export", "--run", other, "--out", "e", "--register")
    assert champion() == (2, other)
    inside("export", "--run", best, "--out", "f", "--register")
    assert champion() == (1, best)
    assert len(client.search_model_versions("name = 'demo-fcnn'")) == 2
    assert not Path("mlflow.db").exists()  # nothing was written to a default store


@pytest.mark.long
def test_only_the_chosen_formats_are_kept(swept: StudySummary, inside: Harness) -> None:
    out = last_json(inside("export", "--study", "demo-fcnn", "--out", "a", "--format", "onnx", "--json"))
    assert [check["file"] for check in out["formats"]] == ["model.onnx"]
    assert {path.name for path in Path("a").iterdir()} == {"README.md", "model.json", "model.onnx"}
    inside("export", "--study", "demo-fcnn", "--out", "b")
    assert {path.name for path in Path("b").iterdir()} == {
        "README.md",
        "model.json",
        "model.safetensors",
        "model.pt2",
    }
    refusal = inside("export", "--study", "demo-fcnn", "--out", "c", "--format", "pickle", code=1).stderr
    assert "expected: safetensors, pt2, onnx" in refusal
    assert not Path("c").exists()
    assert MlflowClient(swept.tracking_uri).get_run(swept.best_run_id or "").data.tags["test_openings"] == "2"


def test_a_network_with_nan_weights_is_not_exported(swept: StudySummary) -> None:
    client = MlflowClient(swept.tracking_uri)
    run = client.get_run(swept.best_run_id or "")
    folder = Path(run.info.artifact_uri.removeprefix("file://"), "checkpoint")
    weights = load_file(folder / "model.safetensors")
    weights["network.fc4.bias"].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors")
    about = json.loads((folder / "model.json").read_text())
    about["sha256"] = sha256_of(folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match="not finite numbers"):
        export_best(Path("best"), study="demo-fcnn", formats=("safetensors", "pt2", "onnx"))
    assert not list(Path.cwd().glob("*best*"))
    assert client.search_registered_models() == []


@pytest.mark.long
def test_a_moved_store_is_refused_until_it_is_fixed(
    swept: StudySummary, tmp_path: Path, stranger: dict[str, str]
) -> None:
    bundle = export_best(Path("best"), study="demo-fcnn")
    assert bundle.registered is not None
    Path("mlruns").rename(tmp_path / "moved")
    with pytest.raises(TrackingError, match="moved or copied"):
        export_best(Path("x"), study="demo-fcnn", tracking_uri=f"sqlite:///{tmp_path}/moved/mlflow.db")
    fix_artifact_paths(tmp_path / "moved" / "mlflow.db")
    code = f"import mlflow; print(type(mlflow.pyfunc.load_model({bundle.registered.uri!r})).__name__)"
    uri = f"sqlite:///{tmp_path}/moved/mlflow.db"
    assert "PyFuncModel" in python(code, tmp_path, {**stranger, "MLFLOW_TRACKING_URI": uri})


def test_a_place_that_cannot_be_replaced_is_refused_before_the_test_part_is_opened(
    swept: StudySummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(View, "open_test", lambda *_: pytest.fail("the test part was opened"))
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    Path("dangling").symlink_to("nowhere")
    for name in ("link", "dangling"):
        with pytest.raises(CheckpointError, match="is not an empty folder"):
            export_best(Path(name), study="demo-fcnn")
    monkeypatch.chdir("empty")
    with pytest.raises(CheckpointError, match="cannot be replaced"):
        export_best(Path(), study="demo-fcnn", tracking_uri=swept.tracking_uri)
    assert list(Path().iterdir()) == []


def test_an_export_has_the_permissions_that_the_umask_leaves(swept: StudySummary) -> None:
    Path("out").mkdir()
    before = os.umask(0o027)
    try:
        export_best(Path("out"), study="demo-fcnn", formats=("safetensors",), register=False)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (Path("out"), *Path("out").iterdir())}
    assert modes == {"out": 0o750, "model.safetensors": 0o640, "model.json": 0o640, "README.md": 0o640}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"trial": 99}, "its study, trial, data or split differ"),
        ({"split_digest": "another"}, "its study, trial, data or split differ"),
        (None, "does not say where it comes from"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    swept: StudySummary, changes: dict[str, Any] | None, found: str
) -> None:
    run = MlflowClient(swept.tracking_uri).get_run(swept.best_run_id or "")
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "checkpoint" / "model.json"
    description = json.loads(path.read_text())
    if changes is None:
        for name in ("study", "trial", "data_digest", "split_digest", "synthetic"):
            del description[name]
    path.write_text(json.dumps(description | (changes or {})))
    refused(found, CheckpointError, study="demo-fcnn")
    assert "test_accuracy" not in MlflowClient(swept.tracking_uri).get_run(run.info.run_id).data.metrics


def test_a_checkpoint_of_other_columns_is_refused(swept: StudySummary) -> None:
    run = MlflowClient(swept.tracking_uri).get_run(swept.best_run_id or "")
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "checkpoint" / "model.json"
    description = json.loads(path.read_text())
    description["architecture"]["columns"][3] = "loudness"
    path.write_text(json.dumps(description))
    refused("no feature column 'loudness'", DataError, study="demo-fcnn")
