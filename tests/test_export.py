"""Export: the best checkpoint, loadable and measured; the one place (with comparison) that opens the test part."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from scipy.stats import norm

from harness.checkpoint import load_checkpoint
from harness.data import DEMO_FOLDER, Tracks, stratified_split
from harness.errors import CheckpointError, DataError, HarnessError, StudyError, TrackingError
from harness.export import export_best
from harness.plan import plan_sweep
from harness.settings import SweepSettings
from harness.statistics import wilson_interval
from harness.sweep import StudySummary, open_study, run_sweep


@pytest.fixture
def swept(workspace: Path, demo_data: Path) -> StudySummary:
    (workspace / "input").mkdir()
    (workspace / DEMO_FOLDER).symlink_to(demo_data)
    plan = plan_sweep(SweepSettings(model="fcnn", data="demo", trials=3, epochs=4, jobs=1, pruner="none"))
    return run_sweep(plan, open_study(plan))


def test_the_bundle_and_its_measurement(swept: StudySummary, demo_tracks: Tracks, workspace: Path) -> None:
    bundle = export_best(Path("best"), study="demo-fcnn")
    assert bundle.run_id == swept.best_run_id
    assert sorted(path.name for path in Path("best").iterdir()) == ["README.md", "model.json", "model.safetensors"]
    description = json.loads(Path("best/model.json").read_text())
    assert description["run_id"] == swept.best_run_id
    assert description["architecture"]["genres"] == list(demo_tracks.genres)
    assert len(description["architecture"]["columns"]) == 58
    for key in ("config", "data_digest", "split_digest", "metrics", "versions"):
        assert key in description
    # Measured again by hand, from the folder alone, on raw rows.
    classifier, _ = load_checkpoint(Path("best"))
    test = stratified_split(demo_tracks, seed=0).test
    rows = [demo_tracks.ids.index(track) for track in test]
    assert demo_tracks.features is not None
    with torch.no_grad():
        guesses = classifier(torch.from_numpy(demo_tracks.features[rows]).float()).argmax(1)
    correct = int((guesses.numpy() == demo_tracks.labels[rows]).sum())
    assert (bundle.test.tracks, bundle.test.correct) == (60, correct)
    assert description["metrics"]["test"]["correct"] == correct
    assert bundle.test.low < bundle.test.accuracy < bundle.test.high
    text = bundle.as_text()
    assert "SYNTHETIC" in text
    assert "95 % interval" in text


def test_each_opening_of_the_test_part_is_on_record(swept: StudySummary) -> None:
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


def test_what_cannot_be_exported(swept: StudySummary, demo_copy: Path) -> None:
    refused("there is no study 'none'[\\s\\S]*demo-fcnn", StudyError, study="none")
    refused("reading run 'abc'", TrackingError, run_id="abc")
    refused("has no checkpoint", TrackingError, run_id=swept.parent_run_id)
    refused("no data folder", DataError, study="demo-fcnn", data="nowhere")
    (demo_copy / "images_original" / "amber" / "amber00000.png").unlink()
    refused("holds other data", DataError, study="demo-fcnn", data=str(demo_copy))
    Path("full").mkdir()
    Path("full/file").touch()
    refused("not an empty folder", CheckpointError, out="full", study="demo-fcnn")
    refused("no MLflow store", TrackingError, study="x", tracking_uri="sqlite:///none.db")
    assert not Path("none.db").exists()


def test_a_checkpoint_damaged_or_removed(swept: StudySummary) -> None:
    client = MlflowClient(swept.tracking_uri)
    assert swept.best_run_id is not None
    run = client.get_run(swept.best_run_id)
    weights = Path(run.info.artifact_uri.removeprefix("file://")) / "checkpoint" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\0\1\2\3")
    refused("missing or damaged", CheckpointError, study="demo-fcnn")
    client.set_tag(swept.best_run_id, "checkpoint", "removed")
    refused("removed by --keep", CheckpointError, study="demo-fcnn")


def test_another_folder_with_the_same_data(swept: StudySummary, demo_data: Path, workspace: Path) -> None:
    shutil.copytree(demo_data, workspace / "moved")
    (workspace / DEMO_FOLDER).unlink()
    bundle = export_best(Path("best"), study="demo-fcnn", data="moved")
    assert bundle.test.tracks == 60


def test_pictures_too(workspace: Path, demo_data: Path) -> None:
    settings = SweepSettings(model="cnn", data=str(demo_data), trials=1, epochs=1, jobs=1)
    plan = plan_sweep(replace(settings, study="pictures"))
    run_sweep(plan, open_study(plan))
    assert export_best(Path("best"), study="pictures").test.tracks == 60


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (7, 10), (150, 199), (10, 10)])
def test_wilson_interval(successes: int, trials: int) -> None:
    """Against the closed form of the score interval (Wilson 1927)."""
    z, p = float(norm.ppf(0.975)), successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * (p * (1 - p) / trials + z * z / (4 * trials**2)) ** 0.5
    low, high = wilson_interval(successes, trials)
    assert low == pytest.approx(centre - half, abs=1e-12)
    assert high == pytest.approx(centre + half, abs=1e-12)
