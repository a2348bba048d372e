"""Stacks of FCNNs: the numbers of the loop to rounding, of a stack to the last bit, whoever else is in it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.core.errors import Interrupted
from harness.core.journal import Journal
from harness.core.records import EpochMetrics, Precision, TrialConfig
from harness.core.space import Params
from harness.data import Part, TrainingData
from harness.models.registry import model_spec
from harness.training.loop import TrainingState, fit, start_training
from harness.training.resume import ResumePoint, load_resume, save_resume
from harness.training.run import train
from harness.training.stack import EpochFigures, FcnnStack
from harness.training.stacks import KEPT_STACKS, Stacks
from tests.support.trainings import CNN, COLUMNS, CPU, GENRES, some_of

FCNN = model_spec("fcnn")
PARAMS: dict[str, Params] = {
    "plain": {"lr": 0.003, "batch_size": 16},
    "decay": {"lr": 0.002, "batch_size": 16, "weight_decay": 0.3, "dropout": 0.4, "label_smoothing": 0.1},
    "adamw": {"lr": 0.002, "batch_size": 16, "optimizer": "adamw", "weight_decay": 0.3, "schedule": "one-cycle"},
    "sgd": {"lr": 0.02, "batch_size": 16, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    "large": {"lr": 0.003, "batch_size": 64, "width": 0.5, "dropout": 0.2, "schedule": "cosine"},
}
# Batch normalisation takes a bias out again: its gradient is rounding, which Adam scales up to the learning rate.
CANCELLED = {f"network.{name}" for name in ("fc1.bias", "fc2.bias", "bn1.running_mean", "bn2.running_mean")}


def config(name: str, seed: int = 0, epochs: int = 3, stack: int = 4) -> TrialConfig:
    return TrialConfig(
        model="fcnn", params=PARAMS[name], epochs=epochs, seed=seed, threads=1, precision="fp32", stack=stack
    )


def rows(count: int, valid: int = 12) -> TrainingData:
    generator = torch.Generator().manual_seed(count)
    parts = []
    for size in (count, valid):
        inputs = torch.randn(size, len(COLUMNS), generator=generator) * 1000
        parts.append(Part(tuple(map(str, range(size))), inputs, (inputs[:, 0] > 0).long()))
    return TrainingData(parts[0], parts[1], COLUMNS, GENRES)


def figures(curve: Sequence[EpochMetrics]) -> list[EpochMetrics]:
    return [replace(metrics, seconds=0.0, gpu={}) for metrics in curve]


def weights(state: TrainingState) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.classifier.state_dict().items()}


def at_once(run: Callable[..., None], jobs: Sequence[tuple[Any, ...]]) -> None:
    """Call `run` with each of the arguments, in threads of this process, and wait for their ends."""
    threads = [threading.Thread(target=run, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def together(stacks: Stacks, configs: Sequence[TrialConfig], data: TrainingData) -> list[TrainingState]:
    """Train the configurations in threads of one process, and return their states."""
    states = [start_training(each, FCNN, data, CPU) for each in configs]
    errors: list[BaseException] = []

    def run(state: TrainingState) -> None:
        try:
            list(stacks.fit(state, data))
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    at_once(run, [(state,) for state in states])
    assert not errors, errors
    return states


@pytest.mark.parametrize("count", [48, 49, 53])  # whole batches; a single row left, joined to the last; five left
@pytest.mark.parametrize("name", PARAMS)
def test_the_numbers_are_the_loops_to_rounding(name: str, count: int) -> None:
    data = rows(count)
    alone = start_training(config(name), FCNN, data, CPU)
    expected = list(fit(alone, data))
    state = start_training(config(name), FCNN, data, CPU)
    found = list(Stacks(4, CPU).fit(state, data))
    for one, other in zip(found, expected, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3)
        assert one.val_loss == pytest.approx(other.val_loss, rel=2e-2)
        assert one.val_accuracy == pytest.approx(other.val_accuracy, abs=1.01 / 12)
    for (key, own), other_weights in zip(weights(state).items(), weights(alone).values(), strict=True):
        if key not in CANCELLED:
            assert torch.allclose(own.float(), other_weights.float(), rtol=1e-2, atol=5e-3), key


@settings(max_examples=15)
@given(
    names=st.lists(st.sampled_from(sorted(PARAMS)), min_size=1, max_size=5),
    seats=st.integers(5, 7),
    seed=st.integers(0, 1000),
)
def test_a_member_has_the_same_numbers_whoever_else_is_in_the_stack(
    names: list[str], seats: int, seed: int
) -> None:
    data = rows(53)
    configs = [config(name, seed + place, epochs=1 + place % 3) for place, name in enumerate(names)]
    found = together(Stacks(seats, CPU), configs, data)
    for each, state in zip(configs, found, strict=True):
        (alone,) = together(Stacks(1, CPU), [each], data)
        assert figures(state.curve) == figures(alone.curve)
        assert all(
            torch.equal(a, b) for a, b in zip(weights(state).values(), weights(alone).values(), strict=True)
        )


def test_a_seat_is_given_to_the_next_training() -> None:
    data, stacks = rows(53), Stacks(1, CPU)
    first, second, again = (
        together(stacks, [each], data)[0] for each in (config("decay"), config("plain"), config("decay"))
    )
    assert figures(first.curve) == figures(again.curve) != figures(second.curve)


def test_a_training_ends_with_tensors_of_its_own() -> None:
    data, stacks = rows(53), Stacks(1, CPU)
    (first,) = together(stacks, [config("plain")], data)
    before, kept = weights(first), ResumePoint.of(first).tensors
    together(stacks, [config("plain", seed=9)], data)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), weights(first).values(), strict=True))
    assert all(torch.equal(kept[key], tensor) for key, tensor in ResumePoint.of(first).tensors.items())


def test_a_resumed_training_has_the_numbers_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    data, stacks = rows(53), Stacks(3, CPU)
    (whole,) = together(stacks, [config("decay", epochs=4)], data)
    state = start_training(config("decay", epochs=4), FCNN, data, CPU)
    training = stacks.fit(state, data)
    for _ in range(2):
        next(training)
    save_resume(tmp_path, ResumePoint.of(state))
    training.close()
    resumed = start_training(config("decay", epochs=4, stack=2), FCNN, data, CPU)
    assert load_resume(tmp_path, resumed)
    list(Stacks(2, CPU).fit(resumed, data))
    assert figures(resumed.curve) == figures(whole.curve)
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed).values(), weights(whole).values(), strict=True))


def test_one_that_is_pruned_or_stopped_leaves_the_others_alone(tmp_path: Path) -> None:
    data, stacks = rows(53), Stacks(4, CPU)
    kept, pruned, stopped = (config("decay", seed=seed, epochs=6) for seed in range(3))
    found, asked = {}, Counter[str]()

    def asks(name: str) -> int:
        asked[name] += 1
        return asked[name]

    def run(name: str, wanted: TrialConfig, last: int, stop_after: int) -> None:
        with closing(Journal(tmp_path / f"{name}.jsonl")) as journal:
            found[name] = train(
                wanted,
                FCNN,
                data,
                CPU,
                journal=journal,
                folder=tmp_path / name,
                report=lambda metrics: "pruned" if metrics.epoch == last else None,
                stop=lambda: asks(name) >= stop_after,
                epochs=stacks.fit,
            )

    jobs = (("kept", kept, 99, 999), ("pruned", pruned, 2, 999), ("stopped", stopped, 99, 5))
    at_once(run, jobs)
    assert {name: result.state for name, (_, result) in found.items()} == {
        "kept": "complete",
        "pruned": "pruned",
        "stopped": "interrupted",
    }
    assert len(found["pruned"][0].curve) == 2
    (alone,) = together(Stacks(4, CPU), [kept], data)
    assert figures(found["kept"][0].curve) == figures(alone.curve)


def test_an_error_in_an_epoch_reaches_everybody_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    data, stacks = rows(53), Stacks(3, CPU)
    states = [start_training(config("plain", seed), FCNN, data, CPU) for seed in range(3)]
    barrier, found = threading.Barrier(3), list[str]()

    def failing(_stack: FcnnStack) -> list[EpochFigures]:
        raise MemoryError("no room")

    monkeypatch.setattr(FcnnStack, "epoch", failing)

    def run(state: TrainingState) -> None:
        training = stacks.fit(state, data, stop=lambda: barrier.wait(60) < 0)  # all sit before one goes on
        try:
            next(training)
        except MemoryError as error:
            found.append(str(error))

    at_once(run, [(state,) for state in states])
    assert found == ["no room"] * 3
    monkeypatch.undo()
    (again,) = together(stacks, [config("plain")], data)  # nobody holds a seat
    assert len(again.curve) == 3


def test_stop_is_asked_before_the_first_epoch() -> None:
    data = rows(53)
    state = start_training(config("plain"), FCNN, data, CPU)
    with pytest.raises(Interrupted):
        next(Stacks(1, CPU).fit(state, data, stop=lambda: True))
    assert state.epoch == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and HARNESS_GPU=1")
@pytest.mark.parametrize("name", PARAMS)
def test_a_graph_has_the_numbers_of_the_steps_that_it_replays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device, data = torch.device("cuda"), rows(53).to(torch.device("cuda"))
    graphed, plain = (start_training(config(name), FCNN, data, device) for _ in range(2))
    list(Stacks(3, device).fit(graphed, data))
    monkeypatch.setattr(FcnnStack, "_whole_step", FcnnStack._step)
    list(Stacks(3, device).fit(plain, data))
    assert figures(graphed.curve) == figures(plain.curve)
    assert all(torch.equal(a, b) for a, b in zip(weights(graphed).values(), weights(plain).values(), strict=True))


@pytest.mark.parametrize("method", ["sit_down", "stand_up"])
def test_a_member_that_fails_between_two_epochs_leaves_its_seat(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, stacks = rows(53), Stacks(2, CPU)

    def failing(_member: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(f"harness.training.stacks._Member.{method}", failing)
        with pytest.raises(MemoryError):
            list(stacks.fit(start_training(config("plain"), FCNN, data, CPU), data))
    found = together(stacks, [config("plain", seed) for seed in range(2)], data)
    assert [len(state.curve) for state in found] == [3, 3]


def test_stacks_that_nobody_sits_in_are_dropped() -> None:
    data, stacks = rows(20), Stacks(2, CPU)
    for step in range(KEPT_STACKS + 3):
        params: Params = {"lr": 0.003, "batch_size": 8, "width": 0.05 + step / 100}
        together(stacks, [replace(config("plain", epochs=1), params=params)], data)
    assert len(stacks._groups) == KEPT_STACKS


def test_a_network_that_is_no_fcnn_is_trained_by_the_loop(pictures: TrainingData) -> None:
    config = replace(CNN, epochs=1)
    alone, other = (start_training(config, model_spec("cnn"), pictures, CPU) for _ in range(2))
    assert figures(list(fit(alone, pictures))) == figures(list(Stacks(1, CPU).fit(other, pictures)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and HARNESS_GPU=1")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("rows", "params"),
    [
        (48, {"lr": 0.001, "batch_size": 16, "dropout": 0.3}),
        (48, {"lr": 0.001, "batch_size": 20, "schedule": "cosine", "optimizer": "adamw", "weight_decay": 0.1}),
        (47, {"lr": 0.01, "batch_size": 23, "optimizer": "sgd", "momentum": 0.9, "label_smoothing": 0.1}),
    ],
)
def test_a_graph_of_the_cnn_has_the_numbers_of_its_steps(
    pictures: TrainingData, precision: Precision, rows: int, params: Params
) -> None:
    device = torch.device("cuda")
    config = replace(CNN, precision=precision, params=params)
    data = replace(pictures, train=some_of(pictures.train, rows)).to(device)
    graphed, plain = (start_training(config, model_spec("cnn"), data, device) for _ in range(2))
    found, expected = list(fit(graphed, data, graphed=True)), list(fit(plain, data))
    for one, other in zip(found, expected, strict=True):  # some of its kernels add in no fixed order
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3)
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-2)
