"""The network that takes pictures and features: its parts, its training, and the commands with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.compare.traits.plan import TraitsSettings, plan_traits
from harness.core.errors import StudyError
from harness.core.journal import Journal
from harness.core.records import TrialConfig
from harness.data import Joined, Tracks, View, stratified_split
from harness.export.opening import open_bundle
from harness.export.predict import predict
from harness.models.both import GenreClassifierBoth
from harness.models.cnn import GenreClassifierCNN
from harness.models.fcnn import GenreClassifierFCNN
from harness.models.registry import MODELS
from harness.training.checkpoint import load_checkpoint
from harness.training.loop import evaluate
from harness.training.run import run_trial
from tests.support.commands import Harness, last_json
from tests.support.stores import Stores
from tests.support.sweeps import sweep

BOTH = TrialConfig(model="both", params={"lr": 0.001, "batch_size": 32}, epochs=1, seed=3, threads=1)


def test_it_is_the_reports_networks_up_to_their_last_hidden_layers() -> None:
    torch.manual_seed(0)
    network = GenreClassifierBoth(58, 10, width=0.5)
    pictures, rows = torch.rand(4, 3, 216, 144), torch.randn(4, 58)
    found = network.eval()(Joined(pictures, rows))
    cnn, fcnn = GenreClassifierCNN(10).eval(), GenreClassifierFCNN(58, 10, width=0.5).eval()
    hidden = []
    for whole, part, last in ((cnn, network.cnn, "fc2"), (fcnn, network.fcnn, "fc4")):
        whole.load_state_dict(part.state_dict(), strict=False)
        setattr(whole, last, torch.nn.Identity())
        hidden.append(whole(pictures if last == "fc2" else rows))
    assert [each.shape[1] for each in hidden] == [128, 32]
    assert torch.equal(found, network.head(torch.cat(hidden, 1)))
    names = {name.rpartition(".")[0] for name, _ in network.named_parameters()}
    assert not {"fcnn.fc4", "cnn.fc2"} & names


def test_it_trains_on_both_and_is_read_back(demo_tracks: Tracks, tmp_path: Path) -> None:
    split = stratified_split(demo_tracks, seed=0)
    chosen = replace(split, train=split.train[:65], valid=split.valid[:20])
    columns = tuple(name for name in demo_tracks.columns if name != "length")
    data = View(demo_tracks, "both", columns).training(chosen)
    assert isinstance(data.train.inputs, Joined)
    parts = [View(demo_tracks, kind, columns).training(chosen) for kind in ("pictures", "features")]
    assert torch.equal(data.train.inputs.pictures, parts[0].train.tensor)
    assert torch.equal(data.train.inputs.features, parts[1].train.tensor)
    device = torch.device("cpu")
    journal, folder = Journal(tmp_path / "trial.jsonl"), tmp_path / "trial"
    result = run_trial(BOTH, MODELS["both"], data, device, journal=journal, folder=folder, stop=lambda: False)
    journal.close()
    assert result.state == "complete"
    assert result.best is not None
    classifier, description = load_checkpoint(tmp_path / "trial" / "checkpoint")
    assert (description.architecture.representation, description.architecture.columns) == ("both", columns)
    logits = evaluate(classifier, data.valid)
    accuracy = (logits.argmax(1) == data.valid.targets).float().mean().item()
    assert accuracy == pytest.approx(result.best.val_accuracy)
    # Either input decides: with the other one of another track the logits differ.
    other = Joined(data.valid.inputs[:].pictures.flip(0), data.valid.inputs[:].features)  # type: ignore[union-attr]
    assert not torch.allclose(logits, evaluate(classifier, replace(data.valid, inputs=other)))


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_the_commands_take_it(inside: Harness, demo_data: Path, tmp_path: Path) -> None:
    swept = sweep(model="both", trials=1, epochs=2)
    assert swept.best is not None
    (trial,) = Stores.here().runs("demo-both", "trial")
    assert "identical to the last digit" in inside("reproduce", trial.info.run_id).stdout
    inside("export", "--study", "demo-both", "--out", str(tmp_path / "best"))
    found = predict(open_bundle(tmp_path / "best"), [demo_data])
    assert len(found.made) == 300
    assert not found.errors
    picture = found.made[7].file
    (alone,) = predict(open_bundle(tmp_path / "best"), [Path(picture), demo_data / "features_30_sec.csv"]).made
    assert alone == found.made[7]
    ((_, error),) = predict(open_bundle(tmp_path / "best"), [Path(picture)]).errors
    assert "no table among the paths has a row of this track" in error
    ((_, error),) = predict(open_bundle(tmp_path / "best"), [demo_data / "features_30_sec.csv"]).errors
    assert "a table without pictures" in error
    sweep(model="fcnn", trials=1, epochs=2)
    compared = last_json(inside("compare", "--repeats", "5", "--no-baselines", "--no-untuned", "--json"))
    assert {row["representation"] for row in compared["models"]} == {"both", "features"}
    with pytest.raises(StudyError, match="is of both inputs"):
        plan_traits(TraitsSettings(study="demo-both"))
