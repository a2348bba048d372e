"""Trains the trials of one study, wherever that is: with the study's data in memory, from a link to its claim."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.halving import Until
from harness.core.records import EpochMetrics, Split, StudySpec, TrialConfig, TrialResult
from harness.core.space import Params, Value
from harness.data import TrainingData, View
from harness.models.registry import model_of_source, recorded_model
from harness.training.description import Origin
from harness.training.devices import choose_device, gpu_name
from harness.workers.link import Link, Where

if TYPE_CHECKING:
    from harness.training.stacks import Stacks


@dataclass(frozen=True, slots=True)
class TrialOrder:
    """A trial to be trained, to its end or `until` a rung."""

    number: int
    config: TrialConfig
    until: Until | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialMaterial:
    """All that the trials of a study need but their hyperparameters.

    Nothing of the test part is in it: `view` has the train and validation tracks only, `splits` no test ids. A
    trial trains on each of `splits`, its folds; without folds there is one. `source` is the code of a model of a
    file, for a machine that has not the file; "": the file is here.
    """

    spec: StudySpec
    view: View
    splits: tuple[Split, ...]
    source: str = ""

    def trainer(self, device: str, threads: int) -> TrialTrainer:
        """Return a trainer for this process on a device and so many threads."""
        return TrialTrainer(self, device, threads)

    def elsewhere(self, source: str | None) -> TrialMaterial:
        """Return the same for machines without the picture cache and the model's file, whose code is `source`."""
        return replace(self, view=self.view.holding(self.splits), source=source or "")


class TrialTrainer:
    """Trains one trial at a time, or with `stacks` in each thread one, together with those of the others."""

    def __init__(self, material: TrialMaterial, device: str, threads: int, stacks: Stacks | None = None) -> None:
        import torch  # here: the sweep, which only describes trainings, does without it

        self._material = material
        spec, what = material.spec, f"study {material.spec.name!r}"
        # The file may have been changed since the sweep began, and a worker that is replaced reads it again. The
        # sweep has checked that the user trusts the code of this digest.
        if material.source:
            self._model = model_of_source(spec.model, material.source, spec.source_digest, what, trust_code=True)
        else:
            self._model = recorded_model(spec.model, spec.source_digest, what, trust_code=True)
        self._threads, self._stacks = threads, stacks
        torch.set_num_threads(threads)
        self._device = choose_device(device)
        self._reading = threading.Lock()
        self._data: dict[tuple[Value, int], TrainingData] = {}

    def where(self) -> Where:
        """Return where it trains."""
        return Where(
            device=str(self._device),
            gpu=gpu_name(self._device),
            threads=self._threads,
            stack=None if self._stacks is None else self._stacks.seats,
        )

    def run(self, order: TrialOrder, link: Link) -> TrialResult:
        """Train a trial from its resume point, if there is one, and return its result."""
        from harness.training.folds import run_folds
        from harness.training.loop import fit
        from harness.training.run import run_trial

        config, folds = order.config, len(self._material.splits)
        epochs = fit if self._stacks is None else self._stacks.fit
        if folds == 1:
            return run_trial(
                config,
                self._model,
                self._training_data(config.params),
                self._device,
                journal=link.log,
                folder=link.folder,
                origin=self._origin(order.number),
                report=link.judge.report,
                stop=link.stop,
                until=order.until,
                epochs=epochs,
            )

        def report_fold(fold: int, curve: Sequence[EpochMetrics], mean: float) -> str | None:
            accuracy = max(metrics.val_accuracy or 0.0 for metrics in curve)
            return link.judge.report_fold(fold, accuracy, mean, fold * config.epochs)

        return run_folds(
            config,
            self._model,
            lambda fold: self._training_data(config.params, fold),
            folds,
            self._device,
            journal=link.log,
            folder=link.folder,
            report=link.judge.report,
            report_fold=report_fold,
            stop=link.stop,
            until=order.until,
            epochs=epochs,
        )

    def _training_data(self, params: Params, fold: int = 1) -> TrainingData:
        """Return the training data for these hyperparameters; they are cached for the next trial.

        With several folds only the data of the last one are kept: those of all of them would fill the memory. Not
        where several trials are stacked: they have rows, no pictures, and are in different folds.
        """
        view, splits = self._material.view.for_params(params), self._material.splits
        key = view.crop, fold
        with self._reading:
            if key not in self._data:
                if len(splits) > 1 and (self._stacks is None or self._stacks.seats == 1):
                    self._data.clear()
                self._data[key] = view.training(splits[fold - 1]).to(self._device)
            return self._data[key]

    def _origin(self, number: int) -> Origin:
        spec = self._material.spec
        return Origin(
            study=spec.name,
            trial=number,
            data_digest=spec.data_digest,
            split_digest=spec.split_digest,
            synthetic=self._material.view.tracks.synthetic,
        )
