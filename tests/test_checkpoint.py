import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.core.errors import CheckpointError
from harness.core.files import sha256_of
from harness.core.records import EpochMetrics, TrialConfig
from harness.data import Part, TrainingData
from harness.models.registry import model_spec
from harness.training.checkpoint import (
    Architecture,
    Description,
    Exported,
    FormatCheck,
    Origin,
    TestResult,
    load_checkpoint,
    read_description,
    save_checkpoint,
    write_description,
)
from harness.training.loop import TrainingState, fit, start_training
from harness.training.resume import ResumePoint, clear_resume, load_resume, save_resume

CONFIG = TrialConfig(model="fcnn", params={"lr": 0.01, "batch_size": 8}, epochs=3, seed=0, threads=1)
COLUMNS, GENRES = ("a", "b", "c"), ("x", "y")


@pytest.fixture
def data() -> TrainingData:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 3, generator=generator) * 1000
    part = Part(tuple(map(str, range(30))), inputs, (inputs[:, 0] > 0).long())
    return TrainingData(part, part, COLUMNS, GENRES)


@pytest.fixture
def state(data: TrainingData) -> TrainingState:
    state = start_training(CONFIG, model_spec("fcnn"), data, torch.device("cpu"))
    next(fit(state, data))
    return state


def describe(state: TrainingState, study: str) -> Description:
    return Description(
        architecture=Architecture(model="fcnn", representation="features", columns=COLUMNS, genres=GENRES),
        config=state.config,
        metrics=EpochMetrics(2, 0.5, 0.25, 0.75, 1.5),
        origin=Origin(study=study, trial=3, data_digest="d", split_digest="s", synthetic=True),
    )


@pytest.fixture
def saved(state: TrainingState, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint", state.classifier.state_dict(), describe(state, "s"))
    return tmp_path / "checkpoint"


def test_the_folder_alone_rebuilds_the_network(saved: Path, state: TrainingState, data: TrainingData) -> None:
    classifier, description = load_checkpoint(saved)
    assert description == replace(describe(state, "s"), sha256=sha256_of(saved / "model.safetensors"))
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "model.safetensors"]
    state.classifier.eval()
    assert torch.equal(classifier(data.train.inputs), state.classifier(data.train.inputs))


def test_others_may_read_it(saved: Path) -> None:
    """A shared folder is read by other users too."""
    assert [path.stat().st_mode & 0o444 for path in (saved, *saved.iterdir())] == [0o444] * 3


def test_saving_again_replaces_the_folder(saved: Path, state: TrainingState) -> None:
    save_checkpoint(saved, state.classifier.state_dict(), describe(state, "other"))
    origin = read_description(saved).origin
    assert origin is not None
    assert origin.study == "other"
    assert list(saved.parent.iterdir()) == [saved]


def test_damage_is_noticed(saved: Path) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_checkpoint(saved)


def test_what_an_export_adds_comes_back(saved: Path, state: TrainingState) -> None:
    test = TestResult(tracks=60, correct=30, accuracy=0.5, low=0.4, high=0.6, openings=2)
    check = FormatCheck(format="pt2", file="model.pt2", sha256="s", largest_difference=0.0, accuracy=0.5)
    for exported in (
        Exported(run_id="r", split="lists", parts={"train": 1, "valid": 2, "test": 3}),
        Exported(run_id="r", split="lists", parts={}, test=test, formats=(check,), registered="models:/m@a"),
    ):
        description = replace(read_description(saved), exported=exported)
        write_description(saved, description)
        assert read_description(saved) == description


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"format": 1}', '{"format": 1, "metrics": 2}'])
def test_a_description_that_is_none(saved: Path, text: str) -> None:
    (saved / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a checkpoint's description"):
        load_checkpoint(saved)


def test_another_format_and_no_checkpoint(saved: Path, tmp_path: Path) -> None:
    description = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(saved)
    with pytest.raises(CheckpointError, match=r"holds no model\.json"):
        load_checkpoint(tmp_path)


def test_resume_files(state: TrainingState, data: TrainingData, tmp_path: Path) -> None:
    def fresh(config: TrialConfig = CONFIG) -> TrainingState:
        return start_training(config, model_spec("fcnn"), data, torch.device("cpu"))

    assert not load_resume(tmp_path, fresh())
    save_resume(tmp_path, ResumePoint.of(state))
    next(fit(state, data))
    save_resume(tmp_path, ResumePoint.of(state))
    assert len(list(tmp_path.iterdir())) == 2  # the older tensors are gone
    resumed = fresh()
    assert load_resume(tmp_path, resumed)
    assert resumed.epoch == 2
    other = TrialConfig.of({**CONFIG.as_dict(), "lr": 0.02})
    assert not load_resume(tmp_path, fresh(other))
    (tensors,) = tmp_path.glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    assert not load_resume(tmp_path, fresh())
    clear_resume(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_resume_point_is_a_copy(state: TrainingState, data: TrainingData) -> None:
    point = ResumePoint.of(state)
    before = {name: tensor.clone() for name, tensor in point.tensors.items()}
    list(fit(state, data))
    assert all(torch.equal(before[name], tensor) for name, tensor in point.tensors.items())
