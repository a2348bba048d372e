"""One training run from start to end: its journal, its checkpoint, its result."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch.nn.functional as F

from harness.core.events import EpochDone
from harness.core.journal import Journal
from harness.core.records import EpochMetrics, TrialConfig, TrialResult
from harness.data import TrainingData
from harness.models.registry import model_spec
from harness.training.checkpoint import load_checkpoint
from harness.training.loop import evaluate
from harness.training.run import run_trial
from tests.support.trainings import CPU, FCNN, numbers


def run(config: TrialConfig, data: TrainingData, folder: Path, **hooks: object) -> TrialResult:
    journal = Journal(folder / "trial-00000.jsonl")
    try:
        return run_trial(
            config,
            model_spec(config.model),
            data,
            CPU,
            journal=journal,
            folder=folder / "trial-00000",
            **hooks,  # type: ignore[arg-type]
        )
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
    best = max(epochs, key=lambda event: (event.metrics.val_accuracy, -(event.metrics.val_loss or 0.0)))
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


def test_nothing_is_pruned_after_the_last_epoch(features: TrainingData, tmp_path: Path) -> None:
    asked: list[int] = []

    def report(metrics: EpochMetrics) -> str | None:
        asked.append(metrics.epoch)
        return "too bad" if metrics.epoch == FCNN.epochs else None

    result = run(FCNN, features, tmp_path, report=report)
    assert (result.state, result.reason, asked[-1]) == ("complete", None, FCNN.epochs)


def test_a_pruned_trial_keeps_its_best_epoch(features: TrainingData, tmp_path: Path) -> None:
    result = run(FCNN, features, tmp_path, report=lambda metrics: metrics.epoch < 3)
    assert result.state == "pruned"
    assert (tmp_path / "trial-00000" / "checkpoint" / "model.safetensors").is_file()
