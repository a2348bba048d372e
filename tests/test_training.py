"""The loop: the same numbers each time, the plain form's numbers, and what happens at the edges."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from harness.core.errors import Diverged, Interrupted, SettingsError
from harness.core.events import EpochDone
from harness.core.journal import Journal
from harness.core.records import EpochMetrics, TrialConfig, TrialResult, derive_seed
from harness.core.space import Value
from harness.data import Part, Tracks, TrainingData, View, stratified_split
from harness.models.fcnn import GenreClassifierFCNN
from harness.models.registry import model_spec
from harness.training.checkpoint import load_checkpoint
from harness.training.devices import choose_device
from harness.training.loop import (
    _batches,
    accepted_by,
    evaluate,
    fit,
    lr_factor,
    make_optimizer,
    start_training,
)
from harness.training.resume import ResumePoint, load_resume, save_resume
from harness.training.run import run_trial

CPU = torch.device("cpu")
FCNN = TrialConfig(model="fcnn", params={"lr": 0.001, "batch_size": 32}, epochs=6, seed=3, threads=1)
CNN = replace(FCNN, model="cnn", epochs=2, threads=2)
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


@pytest.fixture(scope="module")
def features(demo_tracks: Tracks) -> TrainingData:
    return View(demo_tracks, "features", demo_tracks.columns).training(stratified_split(demo_tracks, seed=0))


@pytest.fixture(scope="module")
def pictures(demo_tracks: Tracks) -> TrainingData:
    data = View(demo_tracks, "pictures").training(stratified_split(demo_tracks, seed=0))
    return TrainingData(first(data.train, 48), first(data.valid, 20), (), data.genres)


def first(part: Part, count: int) -> Part:
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:count]
    return Part(tuple(part.ids[i] for i in order.tolist()), part.inputs[order], part.targets[order])


def train(config: TrialConfig, data: TrainingData) -> list[EpochMetrics]:
    torch.set_num_threads(config.threads)
    return list(fit(start_training(config, model_spec(config.model), data, CPU), data))


def numbers(epochs: list[EpochMetrics]) -> list[EpochMetrics]:
    return [replace(metrics, seconds=0.0) for metrics in epochs]


@pytest.mark.parametrize("config", [FCNN, CNN], ids=["fcnn", "cnn"])
def test_twice_the_same(config: TrialConfig, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue("features" if config.model == "fcnn" else "pictures")
    once = numbers(train(config, data))
    torch.rand(5)  # the global random state is no input
    assert numbers(train(config, data)) == once
    assert numbers(train(replace(config, seed=4), data)) != once


def test_the_plain_loop_gives_the_same_losses(features: TrainingData) -> None:
    """Default Adam, an index for each batch, the scaler applied to each batch, the loss read each step."""
    torch.set_num_threads(1)
    torch.manual_seed(derive_seed(FCNN.seed, "weights"))
    mean, std = features.train.inputs.double().mean(0), features.train.inputs.double().std(0, correction=0)
    model = GenreClassifierFCNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    plain = []
    for epoch in range(1, 4):
        torch.manual_seed(derive_seed(FCNN.seed, "epoch", epoch))
        model.train()
        losses = 0.0
        for index in torch.split(torch.randperm(len(features.train)), 32):
            x = ((features.train.inputs[index] - mean) / std).float()
            loss = F.cross_entropy(model(x), features.train.targets[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses += loss.item() * len(index)
        plain.append(losses / len(features.train))
    ours = [metrics.train_loss for metrics in train(FCNN, features)[:3]]
    assert ours == pytest.approx(plain, rel=1e-4)


def test_learning_happens(features: TrainingData, pictures: TrainingData) -> None:
    assert train(FCNN, features)[-1].val_accuracy > 0.35
    epochs = train(replace(CNN, epochs=8), pictures)
    assert epochs[-1].train_loss < epochs[0].train_loss


@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 64, 65, 97])
def test_batches_cover_all_and_none_is_single(rows: int) -> None:
    inputs = torch.arange(rows)
    batches = [batch.tolist() for batch, _ in _batches(inputs, inputs, 32)]
    assert [row for batch in batches for row in batch] == list(range(rows))
    assert all(len(batch) > 1 for batch in batches) or rows == 1
    assert max(map(len, batches)) <= 33


def test_one_row_too_many_trains(features: TrainingData) -> None:
    data = TrainingData(first(features.train, 65), features.valid, features.columns, features.genres)
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


def run(config: TrialConfig, data: TrainingData, folder: Path, **hooks: object) -> TrialResult:
    journal = Journal(folder / "trial-00000.jsonl")
    try:
        return run_trial(config, data, CPU, journal=journal, folder=folder / "trial-00000", **hooks)  # type: ignore[arg-type]
    finally:
        journal.close()


def test_value_epoch_and_checkpoint_name_the_same_epoch(features: TrainingData, tmp_path: Path) -> None:
    result = run(replace(FCNN, epochs=12, params={"lr": 0.01}), features, tmp_path)
    assert result.best is not None
    classifier, about = load_checkpoint(tmp_path / "trial-00000" / "checkpoint")
    logits = evaluate(classifier, features.valid)
    assert (logits.argmax(1) == features.valid.targets).float().mean().item() == pytest.approx(
        result.best.val_accuracy
    )
    assert F.cross_entropy(logits, features.valid.targets).item() == pytest.approx(result.best.val_loss, rel=1e-5)
    assert about.metrics.epoch == result.best.epoch
    journal = Journal(tmp_path / "trial-00000.jsonl")
    epochs = [event for event in journal.events if isinstance(event, EpochDone)]
    journal.close()
    best = max(epochs, key=lambda event: (event.metrics.val_accuracy, -event.metrics.val_loss))
    assert best.metrics.epoch == result.best.epoch


def test_an_interrupted_trial_goes_on_and_writes_each_epoch_once(features: TrainingData, tmp_path: Path) -> None:
    calls = 0

    def stop_in_epoch_three() -> bool:
        nonlocal calls
        calls += 1
        return calls > 9

    first_result = run(FCNN, features, tmp_path, stop=stop_in_epoch_three)
    assert first_result.state == "interrupted"
    second = run(FCNN, features, tmp_path)
    assert second.state == "complete"
    whole_folder = tmp_path / "whole"
    whole = run(FCNN, features, whole_folder)
    assert second.best is not None
    assert whole.best is not None
    assert numbers([second.best]) == numbers([whole.best])
    histories = []
    for folder in (tmp_path, whole_folder):
        journal = Journal(folder / "trial-00000.jsonl")
        epochs = [event.metrics for event in journal.events if isinstance(event, EpochDone)]
        histories.append([(m.epoch, m.train_loss, m.val_loss) for m in epochs])
        journal.close()
    assert histories[0] == histories[1]
    assert [epoch for epoch, *_ in histories[0]] == list(range(1, FCNN.epochs + 1))


def test_a_pruned_trial_keeps_its_best_epoch(features: TrainingData, tmp_path: Path) -> None:
    result = run(FCNN, features, tmp_path, report=lambda metrics: metrics.epoch < 3)
    assert result.state == "pruned"
    assert (tmp_path / "trial-00000" / "checkpoint" / "model.safetensors").is_file()


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    for wrong in ("gpu", "cpu:0", "cuda:x", ""):
        with pytest.raises(SettingsError, match="auto, cpu, cuda or cuda:N"):
            choose_device(wrong)
    with pytest.raises(SettingsError, match="CUDA device"):
        choose_device("cuda:99")


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
        weights = [torch.randn(4, 3, requires_grad=True)]
        config = replace(FCNN, params=changes)
        optimizer = make_optimizer(weights, config) if ours else reference(weights)
        for _ in range(5):
            optimizer.zero_grad()
            (weights[0] ** 2).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        updated.append(weights[0])
    assert torch.allclose(updated[0], updated[1], rtol=1e-5)


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
