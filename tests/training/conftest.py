"""The demo set as training data, and a short training."""

import pytest
import torch

from harness.data import Part, Tracks, TrainingData, View, stratified_split
from harness.models.registry import model_spec
from harness.training.loop import TrainingState, fit, start_training
from tests.support.trainings import COLUMNS, CPU, GENRES, SMALL, some_of


@pytest.fixture(scope="session")
def features(demo_tracks: Tracks) -> TrainingData:
    return View(demo_tracks, "features", demo_tracks.columns).training(stratified_split(demo_tracks, seed=0))


@pytest.fixture(scope="session")
def pictures(demo_tracks: Tracks) -> TrainingData:
    data = View(demo_tracks, "pictures").training(stratified_split(demo_tracks, seed=0))
    return TrainingData(some_of(data.train, 48), some_of(data.valid, 20), (), data.genres)


@pytest.fixture
def data() -> TrainingData:
    """Thirty rows of random numbers, as train and validation part."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 3, generator=generator) * 1000
    part = Part(tuple(map(str, range(30))), inputs, (inputs[:, 0] > 0).long())
    return TrainingData(part, part, COLUMNS, GENRES)


@pytest.fixture
def state(data: TrainingData) -> TrainingState:
    """The state of a training on those rows after its first epoch."""
    state = start_training(SMALL, model_spec("fcnn"), data, CPU)
    next(fit(state, data))
    return state
