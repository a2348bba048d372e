"""The networks are the published ones; another network is one class and one entry."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from harness.core.errors import SettingsError
from harness.core.journal import Journal
from harness.core.records import TrialConfig
from harness.data import Tracks, View, stratified_split
from harness.models.cnn import GenreClassifierCNN
from harness.models.fcnn import GenreClassifierFCNN
from harness.models.normalise import ScalePixels, StandardizeFeatures, mean_and_scale
from harness.models.registry import MODELS, model_spec
from harness.models.spec import ModelSpec
from harness.training.checkpoint import load_checkpoint
from harness.training.loop import evaluate
from harness.training.run import run_trial


def test_the_reports_layers() -> None:
    cnn, fcnn = GenreClassifierCNN(), GenreClassifierFCNN()
    shapes = {name: tuple(value.shape) for name, value in cnn.state_dict().items() if name.endswith("weight")}
    assert shapes == {
        "conv1.weight": (16, 3, 3, 3),
        "conv2.weight": (32, 16, 3, 3),
        "fc1.weight": (128, 62208),
        "fc2.weight": (10, 128),
    }
    shapes = {name: tuple(value.shape) for name, value in fcnn.state_dict().items() if name.endswith("weight")}
    assert shapes == {
        "fc1.weight": (256, 58),
        "bn1.weight": (256,),
        "fc2.weight": (128, 256),
        "bn2.weight": (128,),
        "fc3.weight": (64, 128),
        "fc4.weight": (10, 64),
    }


def cnn_as_published(model: GenreClassifierCNN, x: Tensor) -> Tensor:
    """The published forward pass: ReLU before the pooling."""
    x = model.pool(F.relu(model.conv1(x)))
    x = model.pool(F.relu(model.conv2(x)))
    x = torch.relu(model.fc1(torch.flatten(x, 1)))
    return model.fc2(x)  # type: ignore[no-any-return]


def test_the_cnn_computes_what_the_reports_does() -> None:
    torch.manual_seed(0)
    model, x = GenreClassifierCNN(), torch.rand(4, 3, 216, 144)
    targets = torch.tensor([0, 1, 2, 3])
    results = []
    for forward in (model, lambda x: cnn_as_published(model, x)):
        model.zero_grad()
        loss = F.cross_entropy(forward(x), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        results.append((loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[0], results[1])


def test_standardising_is_fitted_on_what_it_is_given() -> None:
    raw = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1e6, 0.0])
    out = StandardizeFeatures.fit(raw)(raw)
    torch.testing.assert_close(out[:, :2].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:, :2].std(0, correction=0), torch.ones(2))
    assert (out[:, 2] == 0).all()  # a column that never varies


def test_pixels_are_scaled_as_by_totensor() -> None:
    picture = torch.arange(256, dtype=torch.uint8).reshape(1, 8, 32, 1).expand(1, 8, 32, 3).contiguous()
    scaled = ScalePixels()(picture)
    assert scaled.shape == (1, 3, 8, 32)
    assert torch.equal(scaled[0, 0].flatten(), torch.arange(256) / 255)
    assert torch.equal(picture.flatten()[::3], torch.arange(256, dtype=torch.uint8))  # the input is as it was


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="cnn, fcnn"):
        model_spec("rnn")


class Linear(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(x)
        return logits


def test_a_third_model_is_one_class_and_one_entry(
    demo_tracks: Tracks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "linear", ModelSpec(name="linear", network=Linear, representation="features"))
    data = View(demo_tracks, "features", demo_tracks.columns).training(stratified_split(demo_tracks, seed=0))
    config = TrialConfig(model="linear", params={"lr": 0.01, "batch_size": 32}, epochs=5, seed=1, threads=1)
    journal = Journal(tmp_path / "trial-00000.jsonl")
    result = run_trial(
        config,
        MODELS["linear"],
        data,
        torch.device("cpu"),
        journal=journal,
        folder=tmp_path / "trial-00000",
    )
    journal.close()
    assert result.state == "complete"
    assert result.best is not None
    assert (result.best.val_accuracy or 0.0) > 0.3
    classifier, _ = load_checkpoint(tmp_path / "trial-00000" / "checkpoint")
    hits = evaluate(classifier, data.valid).argmax(1) == data.valid.targets
    assert hits.float().mean().item() == pytest.approx(result.best.val_accuracy)


ROWS = st.tuples(st.integers(2, 30), st.integers(1, 4)).flatmap(
    lambda shape: arrays.arrays(np.float64, shape, elements=st.floats(-1e6, 1e6, width=32))
)


@given(ROWS)
def test_the_scaler_is_that_of_scikit_learn(rows: np.ndarray) -> None:
    mean, scale = mean_and_scale(rows)
    expected = StandardScaler().fit(rows)
    assert mean.tolist() == expected.mean_.tolist()
    assert scale.tolist() == expected.scale_.tolist()


@pytest.mark.parametrize(
    ("model", "jobs", "cores", "threads"),
    [
        ("cnn", 1, 1, 1),
        ("cnn", 1, 2, 2),
        ("cnn", 2, 2, 1),
        ("cnn", 2, 8, 2),
        ("both", 16, 8, 1),
        ("fcnn", 1, 8, 1),
    ],
)
def test_threads_fill_the_cores_where_a_network_has_a_use_for_them(
    model: str, jobs: int, cores: int, threads: int
) -> None:
    assert MODELS[model].threads_of(jobs, cores) == threads


def test_a_network_gets_the_threads_that_it_wants() -> None:
    """A model of a file says how many it wants."""
    wants_three = replace(MODELS["fcnn"], threads=3)
    assert [wants_three.threads_of(jobs, cores) for jobs, cores in ((1, 8), (8, 8), (1, 2))] == [3, 3, 2]
