"""A search whose trainings are looked up: what a pruner would have left of trials that are on record to their end.

Random settings do not depend on what earlier trials found. So the same study with another pruner draws the same
settings, with the same seeds, and trains the same epochs, only fewer of them. Everything but the training is that
of a sweep with one worker: the study, its claims, the pruner or the halving.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlflow import MlflowClient

from harness.core.records import EpochMetrics, TrialConfig, TrialResult, TrialState
from harness.sweep.driver import open_study
from harness.sweep.placing import worker_tasks
from harness.sweep.plan import SweepPlan
from harness.sweep.worker import work_at
from harness.training.trainer import TrialOrder
from harness.workers.link import Here, Link, Where


@dataclass(frozen=True, slots=True)
class Trained:
    """A trial on record: what it was trained with, its epochs, and how it ended."""

    config: TrialConfig
    epochs: Sequence[EpochMetrics]
    state: TrialState


@dataclass(slots=True)
class Replay:
    """Stands in for training: gives the epochs of the trial on record, until its judge or a rung ends it.

    `given` has every epoch that was given, in order, with the setting of its trial.
    """

    trials: Sequence[Trained]
    threads: int
    given: list[tuple[TrialConfig, EpochMetrics]] = field(default_factory=list)

    def where(self) -> Where:
        """Return where the trials on record were trained."""
        return Where(device="cpu", gpu=None, threads=self.threads)

    def run(self, order: TrialOrder, link: Link) -> TrialResult:
        """Give the epochs of a trial that are still to come.

        Raises ValueError if the trial on record has another setting.
        """
        trial = self.trials[order.number]
        if trial.config != order.config:
            raise ValueError(f"trial {order.number} was trained with {trial.config}, not with {order.config}")
        until, before = order.until, sum(config == order.config for config, _ in self.given)
        if until is not None and until.after == before:  # it is over where it pauses
            return TrialResult(state="pruned", best=_best(trial.epochs[:before]), reason=until.reason)
        for metrics in trial.epochs[before:]:
            self.given.append((trial.config, metrics))
            reason = link.judge.report(metrics)
            best = _best(trial.epochs[: metrics.epoch])
            if metrics.epoch == trial.config.end:
                break  # after the last epoch there is nothing left to prune
            if reason is not None:
                return TrialResult(state="pruned", best=best, reason=reason)
            if until is not None and metrics.epoch == until.after:
                return until.paused(best)
        return TrialResult(state=trial.state, best=_best(trial.epochs))


def replay(plan: SweepPlan, trials: Sequence[Trained]) -> list[tuple[TrialConfig, EpochMetrics]]:
    """Run the planned study over trials on record, and return the epochs that it would have trained, in order.

    The plan's storage is new, and its MLflow is not used. This process needs as many cores as the trials on record
    had: the number of threads belongs to their setting.
    """
    study = open_study(plan)
    task = worker_tasks(plan, study)[0]("replay")
    player = Replay(trials, task.threads)
    work_at(task, threading.Event(), Here(player))
    return player.given


def trials_of(tracking_uri: str, parent: str) -> list[Trained]:
    """Return the trials of a study in MLflow, by their number."""
    client = MlflowClient(tracking_uri)
    experiment = client.get_run(parent).info.experiment_id
    found: dict[int, Trained] = {}
    for run in client.search_runs([experiment], "tags.kind = 'trial'", max_results=1000):
        names = ("train_loss", "val_loss", "val_accuracy", "epoch_seconds")
        history = {
            name: {p.step: p.value for p in client.get_metric_history(run.info.run_id, name)} for name in names
        }
        epochs = [
            EpochMetrics(
                epoch=epoch,
                train_loss=history["train_loss"][epoch],
                val_loss=history["val_loss"][epoch],
                val_accuracy=history["val_accuracy"][epoch],
                seconds=history["epoch_seconds"][epoch],
            )
            for epoch in sorted(history["train_loss"])
        ]
        tags = run.data.tags
        config = TrialConfig.of(json.loads(tags["config"]))
        state: TrialState = "complete" if tags["trial_state"] == "complete" else "diverged"
        found[int(tags["trial"])] = Trained(config, epochs, state)
    return [found[number] for number in sorted(found)]


def _best(epochs: Sequence[EpochMetrics]) -> EpochMetrics | None:
    best: EpochMetrics | None = None
    for metrics in epochs:
        best = metrics if metrics.better_than(best) else best
    return best
