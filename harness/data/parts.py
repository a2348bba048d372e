"""The parts of a split as tensors: raw features or pictures, and the genres to learn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from harness.core.errors import DataError
from harness.core.records import Representation, Split
from harness.core.space import Params, Value
from harness.data.cropping import CropBox
from harness.data.images import PICTURES_FOLDER, find_pictures, raw_pictures
from harness.data.tracks import Tracks


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Tracks with their inputs and genres, held whole in memory.

    `inputs` is float32 [n, columns] as the values stand in the CSV, or uint8 [n, 216, 144, 3]; `targets` is
    int64 [n].
    """

    ids: tuple[str, ...]
    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> Part:
        """Return the same part on a device."""
        return Part(self.ids, self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """What training may see: the train part and the validation part. There is no test part in it.

    `box` is what was cut out of each picture, fitted on the train part; None for whole pictures and features.
    """

    train: Part
    valid: Part
    columns: tuple[str, ...]
    genres: tuple[str, ...]
    box: CropBox | None = None

    def to(self, device: torch.device) -> TrainingData:
        """Return the same data on a device."""
        return replace(self, train=self.train.to(device), valid=self.valid.to(device))


def used_columns(tracks: Tracks, without: Sequence[str]) -> tuple[str, ...]:
    """Return the feature columns less those named.

    Raises DataError for a name that is no column's, and where nothing is left.
    """
    for name in without:
        if name not in tracks.columns:
            raise DataError(
                f"there is no feature column {name!r} to leave out", expected=", ".join(tracks.columns)
            )
    columns = tuple(name for name in tracks.columns if name not in without)
    if not columns:
        raise DataError("every feature column was left out", expected="--without some of them")
    return columns


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Tracks as one network sees them: their pictures, or these of their feature columns in this order.

    `columns` is () for pictures. `crop`, for pictures, is the hyperparameter of that name: with `frame` the white
    frame is cut, by a box that is fitted on the train part of the split at hand.
    """

    tracks: Tracks
    representation: Representation
    columns: tuple[str, ...] = ()
    crop: Value = "none"

    def for_params(self, params: Params) -> View:
        """Return the view that a trial's hyperparameters ask for."""
        return replace(self, crop=params.get("crop", "none"))

    def select(self, ids: Iterable[str]) -> View:
        """Return the same view of these tracks only; nothing of any other track is in it."""
        return replace(self, tracks=self.tracks.select(ids))

    def training(self, split: Split) -> TrainingData:
        """Return the train and validation parts of a split."""
        box = self._box(split)
        train, valid = self._part(split.train, box), self._part(split.valid, box)
        return TrainingData(train, valid, self.columns, self.tracks.genres, box)

    def open_test(self, split: Split) -> Part:
        """Return the test part. Only export and comparison may call this (a test over the sources checks it).

        Whoever calls it puts that on record first.
        """
        return self._part(split.test, self._box(split))

    def open_test_pictures(self, split: Split) -> Tensor:
        """Return the test part's pictures as they lie in the data folder: uint8 [n, height, width, 3].

        The same rule as for `open_test` holds, and both belong to one use of the test part.
        """
        found = find_pictures(self.tracks.folder / PICTURES_FOLDER)
        return raw_pictures([found[track][1] for track in split.test])

    def _box(self, split: Split) -> CropBox | None:
        if self.representation == "features" or self.crop == "none":
            return None
        assert self.tracks.pictures is not None
        return self.tracks.pictures.box(self.tracks.indices(split.train))

    def _part(self, ids: tuple[str, ...], box: CropBox | None) -> Part:
        tracks, rows = self.tracks, self.tracks.indices(ids)
        if self.representation == "features":
            assert tracks.features is not None
            chosen = np.array([tracks.columns.index(name) for name in self.columns], dtype=np.int64)
            inputs = torch.from_numpy(tracks.features[np.ix_(rows, chosen)].astype(np.float32))
        else:
            assert tracks.pictures is not None
            inputs = torch.from_numpy(tracks.pictures.read(rows, box))
        return Part(ids, inputs, torch.from_numpy(tracks.labels[rows]))
