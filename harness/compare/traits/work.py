"""All trainings of one repeat of the traits, in one process: the tracks are in memory once, and no file is written
but the journal's lines.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from harness.compare.baselines import BASELINES
from harness.compare.traits.game import Game
from harness.core.errors import Diverged, Interrupted
from harness.core.events import OpenedTestPart, RepeatEnded, SubsetTrained
from harness.core.journal import RunLog
from harness.core.names import derive_seed
from harness.core.records import TrialConfig, TrialResult
from harness.data import PICTURE_SIZE, Part, TrainingData
from harness.models.spec import ModelSpec
from harness.training.loop import evaluate, fit, start_training

Floats = NDArray[np.float32]
Inputs = NDArray[Any]  # float32 [tracks, columns], or uint8 [tracks, height, width, 3]
Predict = Callable[[Inputs], NDArray[np.int64]]
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives: the function from inputs to classes, and whether the training diverged."""

    predict: Predict
    diverged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """What is trained: a network of this configuration and model, or (both None) the baseline of that name."""

    name: str
    seed: int
    config: TrialConfig | None
    model: ModelSpec | None
    device: str

    def train(self, inputs: Inputs, targets: NDArray[np.int64], genres: int, seed: int, stop: Stop) -> Trained:
        """Train on rows or pictures.

        A network whose training diverges predicts the most frequent class. Raises Interrupted if `stop` says so.
        """
        if self.config is None or self.model is None:
            classifier = BASELINES[self.name](seed % 2**32).fit(inputs, targets)
            return Trained(lambda rows: np.asarray(classifier.predict(rows), dtype=np.int64))
        device = torch.device(self.device)
        data = _training_data(inputs, targets, genres, device)
        state = start_training(replace(self.config, seed=seed), self.model, data, device)
        try:
            for _ in fit(state, data, stop=stop):
                pass
        except Diverged:
            most = Counter(targets.tolist()).most_common(1)[0][0]
            return Trained(lambda rows: np.full(len(rows), most, dtype=np.int64), diverged=True)
        precision, classifier_ = self.config.precision, state.classifier

        def predict(rows: Inputs) -> NDArray[np.int64]:
            part = _part(rows, np.zeros(len(rows), dtype=np.int64)).to(device)
            found: NDArray[np.int64] = evaluate(classifier_, part, precision).argmax(1).cpu().numpy()
            return found

        return Trained(predict)

    def seconds(self, inputs: Inputs, targets: NDArray[np.int64], genres: int, enough: float) -> float:
        """Return how long a training takes; after `enough` seconds the rest of the epochs is reckoned.

        One that diverges has taken as long as it has: that is its length in a repeat too.
        """
        began = time.perf_counter()
        if self.config is None or self.model is None:
            self.train(inputs, targets, genres, self.seed, lambda: False)
            return time.perf_counter() - began
        device = torch.device(self.device)
        data = _training_data(inputs, targets, genres, device)
        state = start_training(self.config, self.model, data, device)
        began = time.perf_counter()
        with suppress(Diverged):
            for metrics in fit(state, data):
                passed = time.perf_counter() - began
                if passed > enough:
                    return passed / metrics.epoch * self.config.end
        return time.perf_counter() - began


def _training_data(inputs: Inputs, targets: NDArray[np.int64], genres: int, device: torch.device) -> TrainingData:
    train, empty = (_part(inputs[:end], targets[:end]).to(device) for end in (None, 0))
    columns = tuple(f"column {index}" for index in range(inputs.shape[1])) if inputs.ndim == 2 else ()
    size = PICTURE_SIZE if columns else (inputs.shape[1], inputs.shape[2])
    return TrainingData(train, empty, columns, tuple(map(str, range(genres))), size=size)


def _part(inputs: Inputs, targets: NDArray[np.int64]) -> Part:
    return Part(("",) * len(targets), torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(targets))


class Trainings(Protocol):
    """What the trainings of one repeat take in. `targets` are the train part's classes, int64 [tracks]."""

    targets: NDArray[np.int64]

    def inputs(self, key: str) -> tuple[Inputs, Inputs]:
        """Return the train and test inputs of a training."""

    def uses(self, predict: Predict) -> dict[str, NDArray[np.int64]]:
        """Return what the whole network predicts where a player of the test tracks is taken away, by key."""


def run_trainings(
    game: Game, learner: Learner, trainings: Callable[[], Trainings], genres: int, journal: RunLog, stop: Stop
) -> RepeatEnded:
    """Run the trainings of a repeat that are not in the journal, and return the end of the repeat.

    `trainings` reads the tracks; before it is called, the opening of the test part is on record.
    """
    done = {event.subset: event for event in journal.events if isinstance(event, SubsetTrained)}
    journal.append(OpenedTestPart(), sync=True)  # each time: a repeat that goes on reads the part again
    made = trainings()
    for key in game.trainings():
        if key in done:
            continue
        began = time.perf_counter()
        train, test = made.inputs(key)
        number = game.seed_number(key)
        seed = learner.seed if number == 0 else derive_seed(learner.seed, "traits", number)
        try:
            if stop():
                raise Interrupted("stopped")
            trained = learner.train(train, made.targets, genres, seed, stop)
        except Interrupted:
            return RepeatEnded(result=TrialResult(state="interrupted", best=None), seconds=0.0)
        if key == game.first:
            # Before the training's own line, which says that all of it is there.
            for name, guesses in made.uses(trained.predict).items():
                journal.append(SubsetTrained(subset=name, guesses=tuple(guesses.tolist()), seconds=0.0))
        guesses, seconds = trained.predict(test), time.perf_counter() - began
        done[key] = SubsetTrained(
            subset=key, guesses=tuple(guesses.tolist()), seconds=seconds, diverged=trained.diverged
        )
        journal.append(done[key])
    total = sum(event.seconds for event in done.values())
    diverged = sum(event.diverged for event in done.values())
    reason = f"{diverged} of its trainings diverged: they count as guessing the most frequent class"
    result = TrialResult(state="complete", best=None, reason=reason if diverged else None)
    return RepeatEnded(result=result, seconds=total, test=done[game.first].guesses)
