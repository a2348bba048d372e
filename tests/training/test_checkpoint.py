import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.core.errors import CheckpointError
from harness.core.files import sha256_of
from harness.core.records import EpochMetrics
from harness.data import TrainingData
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from harness.training.description import (
    Architecture,
    Description,
    Exported,
    FormatCheck,
    Origin,
    TestResult,
    read_description,
    write_description,
)
from harness.training.loop import TrainingState
from harness.training.resume import ResumePoint, save_resume
from tests.support.trainings import COLUMNS, GENRES


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
    """Other users can read a checkpoint in a shared folder."""
    assert [path.stat().st_mode & 0o444 for path in (saved, *saved.iterdir())] == [0o444] * 3


def test_the_umask_is_respected(state: TrainingState, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        save_checkpoint(tmp_path / "own", state.classifier.state_dict(), describe(state, "s"))
        save_resume(tmp_path / "resume", ResumePoint.of(state))
    finally:
        os.umask(before)
    for folder in ("own", "resume"):
        files = list((tmp_path / folder).iterdir())
        assert [path.stat().st_mode & 0o777 for path in (tmp_path / folder, *files)] == [0o700, 0o600, 0o600]


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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "{",
        '{"format": 1}',
        '{"format": 1, "metrics": 2}',
        '{"format": 1, "metrics": {}, "architecture": ' + "[" * 100_000,
        '{"format": ' + "9" * 5000 + "}",
    ],
    ids=lambda text: text[:40],
)
def test_a_description_that_is_none(saved: Path, text: str) -> None:
    (saved / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a checkpoint's description"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "wrong",
    [{"columns": [1]}, {"genres": [None]}, {"representation": "sound"}, {"representation": []}, {"model": 3}],
    ids=str,
)
def test_an_architecture_that_is_none(saved: Path, wrong: dict[str, object]) -> None:
    description = json.loads((saved / "model.json").read_text())
    description["architecture"] |= wrong
    (saved / "model.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="not a checkpoint's description"):
        load_checkpoint(saved)


def test_a_description_that_is_a_pipe(saved: Path) -> None:
    (saved / "model.json").unlink()
    os.mkfifo(saved / "model.json")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(saved)


def test_another_format_and_no_checkpoint(saved: Path, tmp_path: Path) -> None:
    description = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(saved)
    with pytest.raises(CheckpointError, match=r"holds no model\.json"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(state: TrainingState, tmp_path: Path, value: float) -> None:
    weights = {name: tensor.clone() for name, tensor in state.classifier.state_dict().items()}
    weights["network.fc1.weight"][0, 0] = value
    save_checkpoint(tmp_path / "bad", weights, describe(state, "s"))
    with pytest.raises(CheckpointError, match=r"not finite numbers: network\.fc1\.weight"):
        load_checkpoint(tmp_path / "bad")


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("columns", ["tempo"] * 1_000_000, "1000000 columns"),
        ("genres", ["blues"] * 1_000_000, "1000000 genres"),
        ("genres", [1, 2], "genres is"),
        ("representation", "sound", "representation is 'sound'"),
    ],
)
def test_an_architecture_that_no_network_has_is_refused(
    saved: Path, name: str, value: list[object], found: str
) -> None:
    description = json.loads((saved / "model.json").read_text())
    description["architecture"][name] = value
    (saved / "model.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match=found):
        read_description(saved)


def test_a_description_of_more_than_16_mib_is_not_read(saved: Path) -> None:
    with (saved / "model.json").open("ab") as file:
        file.truncate(17 << 20)
    with pytest.raises(CheckpointError, match="too large"):
        read_description(saved)


def test_an_origin_of_other_types_is_refused(saved: Path) -> None:
    description = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps({**description, "study": None}))
    with pytest.raises(CheckpointError, match="study is None"):
        read_description(saved)
