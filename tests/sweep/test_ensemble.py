"""The ensemble of a refit: what is stored, what export makes of it, what is trained again and what is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow.entities import Run

from harness.core.errors import CheckpointError, SettingsError
from harness.data import DEMO_FOLDER, FEATURE_COLUMNS, Tracks, View, stratified_split
from harness.export.bundle import export_best
from harness.export.opening import open_bundle
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.refit import refit
from harness.sweep.summary import StudySummary
from harness.tracking import Tracker
from harness.training.checkpoint import load_checkpoint
from tests.support.commands import Harness, last_json
from tests.support.stores import Stores, artifacts
from tests.support.sweeps import FAST, changed, no_pictures

STUDY = "demo-fcnn"


def swept(**changes: object) -> StudySummary:
    plan = plan_sweep(changed(FAST, **{"trials": 1, "ensemble": 3, **changes}))
    study = open_study(plan)
    with no_pictures():
        summary = run_sweep(plan, study)
        return replace(summary, refit=refit(plan, study))


def members() -> list[Run]:
    stores = Stores.here()
    return stores.runs(stores.refit_of(STUDY), "trial")


def mean_of(runs: list[Run], rows: torch.Tensor) -> torch.Tensor:
    """The mean of the probabilities of single checkpoints, read one by one."""
    networks = [load_checkpoint(artifacts(run) / "checkpoint")[0] for run in runs]
    with torch.inference_mode():
        return torch.stack([torch.softmax(network(rows), 1) for network in networks]).mean(0)


@pytest.mark.usefixtures("place")
@pytest.mark.long
def test_the_mean_of_refits_is_one_network_in_every_file(demo_tracks: Tracks, inside: Harness) -> None:
    summary = swept()
    assert summary.refit is not None
    runs = members()
    assert len({run.data.params["trial_seed"] for run in runs}) == 3
    assert (summary.refit.members, summary.refit.best_run_id) == (3, runs[0].info.run_id)
    ensemble = {"run_id": summary.refit.parent_run_id, "networks": 3}
    assert summary.as_json()["refit"] == {"run_id": runs[0].info.run_id, "ensemble": ensemble}

    exported = export_best(Path("best"), study=STUDY, ensemble=True)
    assert (exported.run_id, exported.members) == (summary.refit.parent_run_id, 3)
    view, split = View(demo_tracks, "features", FEATURE_COLUMNS), stratified_split(demo_tracks, seed=0)
    part = view.open_test(split)
    expected = mean_of(runs, part.tensor)
    assert exported.test.correct == int((expected.argmax(1) == part.targets).sum())
    assert {check.format for check in exported.formats} == {"safetensors", "pt2"}
    for name in ("model.safetensors", "model.pt2"):
        bundle = open_bundle(Path("best"), trust_code=True)
        assert torch.allclose(bundle.probabilities(part.tensor), expected, atol=1e-6)
        assert bundle.spread is not None
        (Path("best") / name).unlink()
    run = Stores.here().client().get_run(exported.run_id)
    assert (run.data.tags["members"], run.data.tags["test_openings"]) == ("3", "1")
    card = Path("best/README.md").read_text()
    assert "the mean of the probabilities of 3 networks `fcnn`" in card
    assert "3 different seeds" in card
    # The single network stays what it was.
    single = export_best(Path("single"), study=STUDY)
    assert (single.run_id, single.members) == (runs[0].info.run_id, 1)
    assert inside("doctor").stdout == "nothing is wrong\n"


@pytest.mark.usefixtures("place")
@pytest.mark.long
def test_more_networks_train_only_what_is_missing() -> None:
    first = swept(ensemble=2)
    before = {run.info.run_id: run.info.end_time for run in members()}
    stored = Tracker(first.tracking_uri).artifacts
    assert first.refit is not None

    def stamp() -> float:
        folder = stored.download_checkpoint(first.refit.parent_run_id, Path("copy"))  # type: ignore[union-attr]
        return float(json.loads((folder / "model.json").read_text())["architecture"]["members"])

    Path("copy").mkdir()
    assert stamp() == 2
    more = swept(ensemble=3)
    after = {run.info.run_id: run.info.end_time for run in members()}
    assert len(after) == 3
    assert before.items() <= after.items()
    assert stamp() == 3
    assert more.refit is not None
    # The refit's run of the single network is the first as before, whichever has the lowest train loss.
    assert more.refit.best_run_id == first.refit.best_run_id
    assert Tracker(more.tracking_uri).parts.network_run(STUDY).run_id == first.refit.best_run_id


@pytest.mark.usefixtures("place")
def test_without_an_ensemble_there_is_none_to_export() -> None:
    swept(ensemble=1)
    with pytest.raises(CheckpointError, match="study 'demo-fcnn' has no ensemble"):
        export_best(Path("best"), study=STUDY, ensemble=True)
    assert not Path("best").exists()
    with pytest.raises(SettingsError, match="ensemble is 2, and there is no refit"):
        plan_sweep(changed(FAST, ensemble=2, refit=False))


@pytest.mark.long
def test_from_the_command_line(harness: Harness, place: Path) -> None:
    words = ["sweep", "--model", "fcnn", "--data", "demo", "--trials", "2", "--epochs", "3", "--ensemble", "2"]
    said = harness(*words).stdout
    assert "ensemble: 2 networks, run " in said
    assert f"harness export --study {STUDY} --ensemble --out DIR" in said
    found = last_json(
        harness("export", "--study", STUDY, "--ensemble", "--out", "best", "--format", "onnx", "--json")
    )
    assert found["members"] == 2
    rows = place / DEMO_FOLDER / "features_30_sec.csv"
    assert len(last_json(harness("predict", "best", str(rows), "--json"))["predictions"]) == 300
    assert "--ensemble is of a study" in harness("export", "--run", "x", "--ensemble", "--out", "b", code=2).stderr
