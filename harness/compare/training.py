"""The trainings of a comparison's repeats, wherever they run: networks, baselines, or those of the traits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from harness.compare.baselines import BASELINES
from harness.compare.networks import RepeatNetworks, open_test_part, repeat_ended
from harness.compare.traits.game import Game
from harness.compare.traits.inputs import inputs_of
from harness.compare.traits.work import Learner, run_trainings
from harness.core.candidate import Candidate
from harness.core.events import RepeatEnded
from harness.core.journal import RunLog
from harness.core.names import derive_seed
from harness.core.records import Split, TrialConfig, TrialResult
from harness.data import Tracks, View, holding
from harness.models.registry import model_of_source, recorded_model
from harness.models.spec import ModelSpec
from harness.training.devices import choose_device, gpu_name
from harness.workers.link import Link, Where


@dataclass(frozen=True, slots=True)
class RepeatOrder:
    """A repeat to be run: the index of its candidate, and its number."""

    candidate: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatTask:
    """The input of a worker of a comparison.

    `todo` has the repeats to run, as the index of the candidate and the number of the repeat. With `merges` a
    repeat trains on the train and the validation part together. `tracks` are only
    those of the repeats' splits. They include test parts, because a track of the train part of one repeat may be
    in the test part of another. Two rules protect the test parts. Training gets `View.training` only.
    `View.open_test` is called once for each repeat, after training, and after the event `test` is in the journal.
    A repeat of the traits opens its test part before its many trainings, once for each time that it goes on.
    """

    candidates: tuple[Candidate, ...]
    splits: tuple[Split, ...]  # by the number of the repeat
    todo: tuple[tuple[int, int], ...]
    tracks: Tracks
    folder: Path
    device: str
    threads: int
    merges: bool
    game: Game | None = None  # the trainings of a repeat of the traits; None: a repeat trains its candidate
    worker: str = ""  # the name of the worker
    sources: Mapping[str, str] = field(default_factory=dict)  # code of models, for a machine without their files

    def for_worker(self, worker: str) -> RepeatTask:
        """Return the task for the worker process of that name."""
        return replace(self, worker=worker)

    def trainer(self, device: str, threads: int) -> RepeatTrainer:
        """Return a trainer for this process on a device and so many threads."""
        return RepeatTrainer(self, device, threads)

    def elsewhere(self, sources: Mapping[str, str]) -> RepeatTask:
        """Return the same for machines without picture cache and model files; `sources` has the models' code."""
        trained = [self.trained(number) for _, number in self.todo]
        representations = {self.candidates[index].representation for index, _ in self.todo}
        return replace(self, tracks=holding(self.tracks, trained, representations), sources=sources)

    def trained(self, number: int) -> Split:
        """Return the split of a repeat as it is trained on."""
        return self.splits[number].merged() if self.merges else self.splits[number]

    def config(self, order: RepeatOrder) -> TrialConfig | None:
        """Return the configuration of a repeat with its seed, None for a baseline."""
        config = self.candidates[order.candidate].config_in(order.number)
        return None if config is None else replace(config, seed=self.seed(order))

    def seed(self, order: RepeatOrder) -> int:
        """Return the seed of a repeat."""
        return derive_seed(self.candidates[order.candidate].seed, "repeat", order.number)


def candidate_view(tracks: Tracks, candidate: Candidate, config: TrialConfig | None) -> View:
    """Return the view of the tracks with the candidate's representation and columns, and the config's crop."""
    params = {} if config is None else config.params
    return View(tracks, candidate.representation, candidate.columns).for_params(params)


class RepeatTrainer:
    """Runs one repeat at a time."""

    def __init__(self, task: RepeatTask, device: str, threads: int) -> None:
        self._task = task
        self._threads = threads
        torch.set_num_threads(threads)
        self._device = choose_device(device)

    def where(self) -> Where:
        """Return where it trains."""
        return Where(device=str(self._device), gpu=gpu_name(self._device), threads=self._threads)

    def run(self, order: RepeatOrder, link: Link) -> RepeatEnded:
        """Train what a repeat trains, open its test part, and return its end."""
        task, seed, config = self._task, self._task.seed(order), self._task.config(order)
        candidate, trained = task.candidates[order.candidate], task.trained(order.number)
        view = candidate_view(task.tracks, candidate, config)
        if task.game is not None:
            learner = self._learner(candidate, config, seed)
            made, genres = partial(inputs_of, task.game, seed, view, trained), len(view.tracks.genres)
            return run_trainings(task.game, learner, made, genres, link.log, link.stop)
        if config is None:
            return _baseline(candidate, seed, view, trained, link.log)
        model = self._model(candidate)
        networks = RepeatNetworks(
            str(self._device), view, trained, config, model, link.log, link.folder, link.stop
        )
        return networks.run() if candidate.members == 1 else networks.run_ensemble(candidate.members)

    def _model(self, candidate: Candidate) -> ModelSpec:
        what, source = f"study {candidate.study!r}", self._task.sources.get(candidate.model)
        if source is not None:
            return model_of_source(candidate.model, source, candidate.source_digest, what, trust_code=True)
        return recorded_model(candidate.model, candidate.source_digest, what, trust_code=True)

    def _learner(self, candidate: Candidate, config: TrialConfig | None, seed: int) -> Learner:
        model = None if config is None else self._model(candidate)
        device = "cpu" if config is None else str(self._device)
        return Learner(name=candidate.model, seed=seed, config=config, model=model, device=device)


def _baseline(candidate: Candidate, seed: int, view: View, split: Split, log: RunLog) -> RepeatEnded:
    data = view.training(split)
    classifier = BASELINES[candidate.model](seed % 2**32)
    began = time.perf_counter()
    classifier.fit(data.train.tensor.double().numpy(), data.train.targets.numpy())
    seconds = time.perf_counter() - began
    guesses = []
    for part in (data.valid, open_test_part(view, split, log)):
        empty = part.targets  # scikit-learn refuses to predict nothing
        found = np.asarray(classifier.predict(part.tensor.double().numpy())) if len(part) else empty.numpy()
        guesses.append(torch.from_numpy(found))
    return repeat_ended(TrialResult(state="complete", best=None), seconds, *guesses)
