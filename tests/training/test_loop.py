"""The loop: repeatable numbers, equal to those of a plain implementation, and edge cases."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from harness.core.errors import Diverged, Interrupted, SettingsError
from harness.core.names import derive_seed
from harness.core.records import EpochMetrics, TrialConfig
from harness.core.space import Hyperparameter, Value
from harness.data import TrainingData
from harness.models.fcnn import GenreClassifierFCNN
from harness.models.registry import model_spec
from harness.training.hyperparameters import accepted_by
from harness.training.loop import (
    _batches,
    fit,
    lr_factor,
    make_optimizer,
    start_training,
)
from tests.support.trainings import CNN, CPU, FCNN, numbers, some_of


def train(config: TrialConfig, data: TrainingData) -> list[EpochMetrics]:
    torch.set_num_threads(config.threads)
    return list(fit(start_training(config, model_spec(config.model), data, CPU), data))


@pytest.mark.parametrize(
    "config", [pytest.param(FCNN, id="fcnn"), pytest.param(CNN, id="cnn", marks=pytest.mark.long)]
)
def test_twice_the_same(config: TrialConfig, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue("features" if config.model == "fcnn" else "pictures")
    once = numbers(train(config, data))
    torch.rand(5)  # the global random state is no input
    assert numbers(train(config, data)) == once
    assert numbers(train(replace(config, seed=4), data)) != once


def test_the_plain_loop_gives_the_same_losses(features: TrainingData) -> None:
    """Train in plain PyTorch: default Adam, batches by index, each batch scaled, the loss read at each step."""
    torch.set_num_threads(1)
    torch.manual_seed(derive_seed(FCNN.seed, "weights"))
    mean, std = features.train.tensor.double().mean(0), features.train.tensor.double().std(0, correction=0)
    model = GenreClassifierFCNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    plain = []
    for epoch in range(1, 4):
        torch.manual_seed(derive_seed(FCNN.seed, "epoch", epoch))
        model.train()
        losses = 0.0
        for index in torch.split(torch.randperm(len(features.train)), 32):
            x = ((features.train.tensor[index] - mean) / std).float()
            loss = F.cross_entropy(model(x), features.train.targets[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses += loss.item() * len(index)
        plain.append(losses / len(features.train))
    ours = [metrics.train_loss for metrics in train(FCNN, features)[:3]]
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.long
def test_learning_happens(features: TrainingData, pictures: TrainingData) -> None:
    assert (train(FCNN, features)[-1].val_accuracy or 0.0) > 0.35
    epochs = train(replace(CNN, epochs=8), pictures)
    assert epochs[-1].train_loss < epochs[0].train_loss


@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 64, 65, 97])
def test_batches_cover_all_and_none_is_single(rows: int) -> None:
    inputs = torch.arange(rows)
    batches = [batch.tolist() for _, batch in _batches(inputs, inputs, 32)]
    assert [row for batch in batches for row in batch] == list(range(rows))
    assert all(len(batch) > 1 for batch in batches) or rows == 1
    assert max(map(len, batches)) <= 33


def test_one_row_too_many_trains(features: TrainingData) -> None:
    data = TrainingData(some_of(features.train, 65), features.valid, features.columns, features.genres)
    assert len(train(FCNN, data)) == FCNN.epochs


def test_divergence_is_noticed(features: TrainingData) -> None:
    with pytest.raises(Diverged, match=r"the (train|validation) loss of epoch \d is (nan|inf)"):
        train(replace(FCNN, params={"lr": 1e30}), features)


def test_stopping_between_batches(features: TrainingData) -> None:
    asked = iter([False] * 3 + [True] * 9)
    state = start_training(FCNN, model_spec("fcnn"), features, CPU)
    with pytest.raises(Interrupted, match="epoch 1"):
        list(fit(state, features, stop=lambda: next(asked)))
    assert state.epoch == 0


def test_ties_go_to_the_lower_loss() -> None:
    a, b = EpochMetrics(1, 1, 0.9, 0.5, 0), EpochMetrics(2, 1, 0.8, 0.5, 0)
    assert b.better_than(a)
    assert not a.better_than(b)
    assert EpochMetrics(3, 1, 9.0, 0.6, 0).better_than(b)
    assert not b.better_than(b)


@pytest.mark.long
def test_bf16_trains_too(pictures: TrainingData) -> None:
    epochs = train(replace(CNN, precision="bf16"), pictures)
    plain = train(CNN, pictures)
    assert epochs[-1].train_loss == pytest.approx(plain[-1].train_loss, rel=0.2)
    assert epochs[-1].train_loss != plain[-1].train_loss


@pytest.mark.parametrize(
    ("changes", "reference"),
    [
        ({"weight_decay": 0.3}, lambda weights: torch.optim.Adam(weights, lr=1e-3, weight_decay=0.3)),
        (
            {"optimizer": "adamw", "weight_decay": 0.3},
            lambda weights: torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.3),
        ),
        (
            {"optimizer": "sgd", "momentum": 0.5},
            lambda weights: torch.optim.SGD(weights, lr=1e-3, momentum=0.5),
        ),
    ],
    ids=["adam", "adamw", "sgd"],
)
def test_optimizer_is_the_one_that_is_named(
    changes: dict[str, Value], reference: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
) -> None:
    updated = []
    for ours in (True, False):
        torch.manual_seed(0)
        weights = [torch.randn(4, 3, requires_grad=True), torch.randn(2, requires_grad=True)]  # one is not used
        config = replace(FCNN, params=changes)
        optimizer = make_optimizer(weights, config) if ours else reference(weights)
        for _ in range(5):
            optimizer.zero_grad()
            (weights[0] ** 2).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        updated.append(weights)
    for mine, theirs in zip(*updated, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5)


@pytest.mark.parametrize("name", ["lr", "sampler", "seed", "run_id"])
def test_a_network_cannot_take_a_name_that_a_trial_uses(name: str) -> None:
    model = replace(model_spec("fcnn"), hyperparameters={name: Hyperparameter(float, 0.0)})
    with pytest.raises(SettingsError, match=name):
        accepted_by(model)


def test_cosine_falls_to_zero_and_one_cycle_is_torchs() -> None:
    assert [lr_factor("cosine", share) for share in (0.0, 0.5)] == pytest.approx([1.0, 0.5])
    assert lr_factor("cosine", 1.0) == pytest.approx(0.0)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    # PyTorch's schedule of n steps begins at 0 and ends at n - 1.
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=101, cycle_momentum=False)
    for step in range(100):
        assert lr_factor("one-cycle", step / 100) == pytest.approx(optimizer.param_groups[0]["lr"], abs=0.05)
        optimizer.step()
        torchs.step()
    assert {lr_factor("constant", share) for share in (0.0, 0.3, 1.0)} == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_a_shorter_schedule_is_a_shorter_training(schedule: str, features: TrainingData) -> None:
    params: dict[str, Value] = {**FCNN.params, "schedule": schedule}
    short = replace(FCNN, epochs=3, params=params)
    share = replace(FCNN, epochs=6, params={**params, "schedule_length": 0.5})
    assert (share.schedule_epochs, share.end) == (3, 3)
    assert numbers(train(share, features)) == numbers(train(short, features))
    assert replace(share, last_epoch=2).end == 2
    assert replace(share, params={**params, "schedule_length": 0.01}).end == 1
    assert (
        replace(share, params={**share.params, "schedule": "constant"}).end == 6
    )  # it is used with a schedule only


@pytest.mark.parametrize(
    "changes",
    [{"schedule": "cosine"}, {"label_smoothing": 0.2}, {"dropout": 0.5}, {"width": 0.5}, {"weight_decay": 1}],
)
def test_each_hyperparameter_changes_the_numbers(changes: dict[str, Value], features: TrainingData) -> None:
    short = replace(FCNN, epochs=2)
    changed = replace(short, params={**FCNN.params, **changes})
    assert numbers(train(changed, features)) != numbers(train(short, features))


def test_defaults_are_the_reports_setting(features: TrainingData) -> None:
    assert numbers(train(replace(FCNN, params={}), features)) == numbers(train(FCNN, features))
    defaults = {name: known.default for name, known in accepted_by(model_spec("fcnn")).items()}
    assert {name: defaults[name] for name in ("lr", "batch_size", "optimizer", "schedule")} == {
        "lr": 0.001,
        "batch_size": 32,
        "optimizer": "adam",
        "schedule": "constant",
    }
    assert numbers(train(replace(FCNN, params=defaults), features)) == numbers(train(FCNN, features))
