"""All trainings of one repeat of the traits, in one process: the tracks are in memory once, and no file is written
but the journal's lines.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from harness.compare.baselines import BASELINES
from harness.compare.traits.game import CONTROLS, NOISE_COLUMNS, Game
from harness.core.errors import Diverged, Interrupted
from harness.core.events import RepeatEnded, SubsetTrained
from harness.core.journal import Journal
from harness.core.names import derive_seed
from harness.core.records import Split, TrialConfig, TrialResult
from harness.data import Part, TrainingData, View
from harness.models.spec import ModelSpec
from harness.training.loop import evaluate, fit, start_training

Floats = NDArray[np.float32]
Predict = Callable[[Floats], NDArray[np.int64]]
Stop = Callable[[], bool]
RIDGE = 1.0  # of the linear regression that a conditional permutation keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """What is trained: a network of this configuration and model, or (both None) the baseline of that name."""

    name: str
    seed: int
    config: TrialConfig | None
    model: ModelSpec | None
    device: str

    def train(self, inputs: Floats, targets: NDArray[np.int64], genres: int, seed: int, stop: Stop) -> Predict:
        """Train on float32 [tracks, columns] and return the function that predicts classes.

        A network whose training diverges predicts the most frequent class. Raises Interrupted if `stop` says so.
        """
        if self.config is None or self.model is None:
            classifier = BASELINES[self.name](seed % 2**32).fit(inputs, targets)
            return lambda rows: np.asarray(classifier.predict(rows), dtype=np.int64)
        device = torch.device(self.device)
        train = _part(inputs, targets).to(device)
        empty = _part(inputs[:0], targets[:0]).to(device)
        columns = tuple(f"column {index}" for index in range(inputs.shape[1]))
        data = TrainingData(train, empty, columns, tuple(map(str, range(genres))))
        state = start_training(replace(self.config, seed=seed), self.model, data, device)
        try:
            for _ in fit(state, data, stop=stop):
                pass
        except Diverged:
            most = Counter(targets.tolist()).most_common(1)[0][0]
            return lambda rows: np.full(len(rows), most, dtype=np.int64)
        precision, classifier_ = self.config.precision, state.classifier

        def predict(rows: Floats) -> NDArray[np.int64]:
            part = _part(rows, np.zeros(len(rows), dtype=np.int64)).to(device)
            found: NDArray[np.int64] = evaluate(classifier_, part, precision).argmax(1).cpu().numpy()
            return found

        return predict


def _part(inputs: Floats, targets: NDArray[np.int64]) -> Part:
    return Part(("",) * len(targets), torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(targets))


class SubsetTrainings:
    """The tracks of one repeat: as they are, and with each family permuted over the tracks of a part.

    A family is permuted as a whole, so that what its columns have in common stays, and the permutation is the same
    in all trainings of the repeat. Train and test tracks are permuted apart: nothing of the test part gets into
    the train part. The test part is read as this is made: the caller journals the opening before.
    """

    def __init__(self, game: Game, learner: Learner, view: View, split: Split) -> None:
        columns = (*game.families.columns, *game.families.apart)
        data = replace(view, columns=columns)
        train, test = data.training(split).train, data.open_test(split)
        self._game, self._learner = game, learner
        self._genres = len(view.tracks.genres)
        self._random = np.random.default_rng(derive_seed(learner.seed, "permutations"))
        self._index = {column: place for place, column in enumerate(columns)}
        self._family = np.array(
            [index for index, family in enumerate(game.families.families) for _ in family.columns]
        )
        self._targets = train.targets.numpy()
        self._real = train.inputs.numpy(), test.inputs.numpy()
        self._permuted = tuple(self._permute(part) for part in self._real)
        self._controls = {name: self._control(name) for name in CONTROLS}

    def _permute(self, part: Floats) -> Floats:
        found = part[:, : len(self._family)].copy()
        for index in range(self._game.size):
            rows, own = self._random.permutation(len(part)), self._family == index
            found[:, own] = part[rows][:, : len(own)][:, own]
        return found

    def _control(self, name: str) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Return the columns of a control for both parts: as a player that is here, and as one that is gone."""
        draws = []
        for part in self._real:
            if name == "noise":
                here = self._random.normal(size=(len(part), NOISE_COLUMNS)).astype(np.float32)
            else:  # a copy of the first family, torn from its tracks
                here = part[self._random.permutation(len(part))][:, np.flatnonzero(self._family == 0)]
            draws.append((here, here[self._random.permutation(len(part))]))
        (train_here, train_gone), (test_here, test_gone) = draws
        return (train_here, test_here), (train_gone, test_gone)

    def inputs(self, key: str) -> tuple[Floats, Floats]:
        """Return the train and test inputs of a training."""
        kind, *rest = key.split("/")
        if kind == "alone":
            own = np.flatnonzero(self._family == int(rest[0]))
            return self._real[0][:, own], self._real[1][:, own]
        if kind == "apart":
            place = [self._index["/".join(rest)]]
            return self._real[0][:, place], self._real[1][:, place]
        mask = int(rest[0] if kind == "set" else rest[1])
        is_here = np.array([bool(mask >> index & 1) for index in range(self._game.size)])[self._family]
        width = len(is_here)
        train, test = (
            np.where(is_here, real[:, :width], permuted)
            for real, permuted in zip(self._real, self._permuted, strict=True)
        )
        if kind == "set":
            return train, test
        control = self._controls[rest[0]][0 if rest[2] == "here" else 1]
        return np.hstack([train, control[0]]), np.hstack([test, control[1]])

    def uses(self, predict: Predict) -> dict[str, NDArray[np.int64]]:
        """Return what the whole network predicts where one family of the test tracks is permuted.

        `uses/INDEX`: permuted as it is; `given/INDEX`: what a linear regression on the other columns (fitted on
        the train part) leaves unexplained is permuted, so that the track stays plausible.
        Source: Strobl et al. (2008), Conditional variable importance for random forests; the linear model is ours.
        """
        found = {}
        width = len(self._family)
        train, test = self._real[0][:, :width], self._real[1][:, :width]
        centre, scale = train.mean(0), train.std(0) + 1e-12
        for index in range(self._game.size):
            own = self._family == index
            swapped = np.where(own, self._permuted[1], test)
            found[f"uses/{index}"] = predict(swapped)
            others = (train[:, ~own] - centre[~own]) / scale[~own]
            weights = np.linalg.solve(
                others.T @ others + RIDGE * np.eye(others.shape[1]), others.T @ (train[:, own] - centre[own])
            )
            explained = (test[:, ~own] - centre[~own]) / scale[~own] @ weights + centre[own]
            plausible = test.copy()
            rest = test[:, own] - explained
            plausible[:, own] = explained + rest[self._random.permutation(len(test))]
            found[f"given/{index}"] = predict(plausible.astype(np.float32))
        return found

    def run(self, journal: Journal, stopping: threading.Event) -> RepeatEnded:
        """Run the trainings that are not in the journal, and return the end of the repeat."""
        learner = self._learner
        done = {event.subset: event for event in journal.events if isinstance(event, SubsetTrained)}
        for key in self._game.trainings():
            if key in done:
                continue
            began = time.perf_counter()
            train, test = self.inputs(key)
            number = int(key.split("/")[2]) if key.startswith("set/") and key.count("/") == 2 else 0
            seed = learner.seed if number == 0 else derive_seed(learner.seed, "traits", number)
            try:
                if stopping.is_set():
                    raise Interrupted("stopped")
                predict = learner.train(train, self._targets, self._genres, seed, stopping.is_set)
            except Interrupted:
                return RepeatEnded(result=TrialResult(state="interrupted", best=None), seconds=0.0)
            if key == f"set/{self._game.whole}":
                # Before the training's own line, which says that all of it is there.
                for name, guesses in self.uses(predict).items():
                    journal.append(SubsetTrained(subset=name, guesses=tuple(guesses.tolist()), seconds=0.0))
            guesses, seconds = predict(test), time.perf_counter() - began
            done[key] = SubsetTrained(subset=key, guesses=tuple(guesses.tolist()), seconds=seconds)
            journal.append(done[key])
        whole = done[f"set/{self._game.whole}"].guesses
        total = sum(event.seconds for event in done.values())
        return RepeatEnded(result=TrialResult(state="complete", best=None), seconds=total, test=whole)
