"""Resume points: a resumed training gives the numbers of one that was not interrupted."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.core.records import TrialConfig
from harness.core.space import Value
from harness.core.workspace import clear_resume
from harness.data import TrainingData
from harness.models.registry import model_spec
from harness.training.loop import TrainingState, fit, start_training
from harness.training.resume import ResumePoint, load_resume, resume_bytes, save_resume
from harness.training.run import DEATH_SECONDS, RESUME_SECONDS, RESUME_SHARE, resume_interval
from tests.support.trainings import CNN, CPU, FCNN, SMALL, numbers

SGD: dict[str, Value] = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "lr": 0.01,
    "schedule": "cosine",
    "weight_decay": 1e-3,
}


ADAMW: dict[str, Value] = {
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "schedule": "one-cycle",
    "dropout": 0.3,
    "label_smoothing": 0.1,
}


@pytest.mark.long
@pytest.mark.parametrize(
    "config",
    [FCNN, replace(CNN, epochs=4), replace(FCNN, params=SGD), replace(FCNN, params=ADAMW)],
    ids=["fcnn", "cnn", "sgd", "adamw"],
)
@pytest.mark.parametrize("after", [1, 2])
def test_resuming_changes_no_number(
    config: TrialConfig, after: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue("features" if config.model == "fcnn" else "pictures")
    torch.set_num_threads(config.threads)
    whole_state = start_training(config, model_spec(config.model), data, CPU)
    whole = list(fit(whole_state, data))
    state = start_training(config, model_spec(config.model), data, CPU)
    for metrics in fit(state, data):
        if metrics.epoch == after:
            save_resume(tmp_path, ResumePoint.of(state))
            break
    resumed = start_training(config, model_spec(config.model), data, CPU)
    assert load_resume(tmp_path, resumed)
    assert resumed.epoch == after
    assert numbers(list(fit(resumed, data))) == numbers(whole[after:])
    assert resumed.best == whole_state.best or numbers([resumed.best]) == numbers([whole_state.best])  # type: ignore[list-item]
    assert whole_state.best_weights is not None
    assert resumed.best_weights is not None
    for name, weights in whole_state.best_weights.items():
        assert torch.equal(weights, resumed.best_weights[name]), name


def test_resume_files(state: TrainingState, data: TrainingData, tmp_path: Path) -> None:
    def fresh(config: TrialConfig = SMALL) -> TrainingState:
        return start_training(config, model_spec("fcnn"), data, CPU)

    assert not load_resume(tmp_path, fresh())
    save_resume(tmp_path, ResumePoint.of(state))
    next(fit(state, data))
    save_resume(tmp_path, ResumePoint.of(state))
    assert len(list(tmp_path.iterdir())) == 2  # the older tensors are gone
    resumed = fresh()
    assert load_resume(tmp_path, resumed)
    assert resumed.epoch == 2
    other = TrialConfig.of({**SMALL.as_dict(), "lr": 0.02})
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


@given(cost=st.floats(0.0, 1000.0), other=st.floats(RESUME_SECONDS, 50_000.0))
def test_no_other_interval_loses_less(cost: float, other: float) -> None:
    """To resume points, and to the work that is done again after one death an hour: half an interval."""

    def lost(interval: float) -> float:
        return cost / interval + interval / 2 / DEATH_SECONDS

    chosen = resume_interval(cost)
    assert chosen >= RESUME_SECONDS
    assert cost <= RESUME_SHARE * chosen * (1 + 1e-9)
    if cost <= RESUME_SHARE * other:
        assert lost(chosen) <= lost(other) * (1 + 1e-9)


@pytest.mark.parametrize("config", [FCNN, CNN], ids=["fcnn", "cnn"])
def test_the_size_of_a_resume_point_is_known_before(
    config: TrialConfig, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue("features" if config.model == "fcnn" else "pictures")
    state = start_training(config, model_spec(config.model), data, CPU)
    foreseen = resume_bytes(state)
    next(iter(fit(state, data)))
    save_resume(tmp_path, ResumePoint.of(state))
    (file,) = tmp_path.glob("*.safetensors")
    assert foreseen <= file.stat().st_size <= foreseen + 10_000  # names and shapes
