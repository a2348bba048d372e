"""The inputs of a repeat on families of columns: as they are, and with families permuted over the tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.compare.traits.game import CONTROLS, NOISE_COLUMNS, FamilyGame
from harness.compare.traits.work import Floats, Predict
from harness.core.names import derive_seed
from harness.core.records import Split
from harness.data import View
from harness.data.filling import median_filler

RIDGE = 1.0  # of the linear regression that a conditional permutation keeps


class FamilyTrainings:
    """The tracks of one repeat: as they are, and with each family permuted over the tracks of a part.

    A family is permuted as a whole, so that what its columns have in common stays, and the permutation is the same
    in all trainings of the repeat. Train and test tracks are permuted apart: nothing of the test part gets into
    the train part.
    """

    def __init__(self, game: FamilyGame, seed: int, view: View, split: Split) -> None:
        columns = (*game.families.columns, *game.families.apart)
        data = replace(view, columns=columns)
        train, test = data.training(split).train, data.open_test(split)
        self._game = game
        self._random = np.random.default_rng(derive_seed(seed, "permutations"))
        self._index = {column: place for place, column in enumerate(columns)}
        self._family = np.array(
            [index for index, family in enumerate(game.families.families) for _ in family.columns]
        )
        self.targets = train.targets.numpy()
        # A network would fill missing values itself, but a permutation must not move them between tracks.
        filler = median_filler().fit(train.tensor.numpy())
        self._real = filler.transform(train.tensor.numpy()), filler.transform(test.tensor.numpy())
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
