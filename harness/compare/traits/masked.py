"""The inputs of a repeat on regions of pictures: masked by the train part's mean, and swapped between tracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.compare.traits.regions import RegionGame
from harness.compare.traits.work import Predict
from harness.core.names import derive_seed
from harness.core.records import Split
from harness.data import View

Pixels = NDArray[np.uint8]


def mean_picture(pictures: Pixels) -> Pixels:
    """Return the mean of pictures, uint8 [n, height, width, 3], pixel by pixel: what a masked pixel becomes."""
    mean: Pixels = np.rint(pictures.mean(0, dtype=np.float64)).astype(np.uint8)
    return mean


class MaskedTrainings:
    """The pictures of one repeat, with regions masked.

    A masked pixel has the mean of the train part's pictures at its place, so that it says nothing about the track
    and the input keeps its size. The content of the pictures, whose parts the regions are, is fitted on the train
    part; what lies around it is masked with "all else".
    """

    def __init__(self, game: RegionGame, seed: int, view: View, split: Split) -> None:
        train, test = view.training(split).train, view.open_test(split)
        content = view.content(split)
        self._regions = [region.slices(content) for region in game.regions]
        self._random = np.random.default_rng(derive_seed(seed, "permutations"))
        self.targets = train.targets.numpy()
        self._parts: tuple[Pixels, Pixels] = train.tensor.numpy(), test.tensor.numpy()
        self._mean = mean_picture(self._parts[0])

    def inputs(self, key: str) -> tuple[Pixels, Pixels]:
        """Return the train and test pictures of a training."""
        kind, _, index = key.partition("/")
        if kind == "whole":
            return self._parts
        train, test = (self._masked(part, kind, int(index or 0)) for part in self._parts)
        return train, test

    def _masked(self, part: Pixels, kind: str, index: int) -> Pixels:
        rows, columns = self._regions[index]
        if kind == "without":
            found = part.copy()
            found[:, rows, columns] = self._mean[rows, columns]
            return found
        found = np.broadcast_to(self._mean, part.shape).copy()
        if kind == "alone":
            found[:, rows, columns] = part[:, rows, columns]
        return found

    def uses(self, predict: Predict) -> dict[str, NDArray[np.int64]]:
        """Return what the whole network predicts where one region is swapped between the test tracks."""
        test, found = self._parts[1], {}
        for index, (rows, columns) in enumerate(self._regions):
            swapped = test.copy()
            swapped[:, rows, columns] = test[self._random.permutation(len(test))][:, rows, columns]
            found[f"uses/{index}"] = predict(swapped)
        return found
