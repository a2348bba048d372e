"""The parts of a split as tensors: raw features or pictures, and the genres to learn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from harness.core.errors import DataError
from harness.core.records import Representation, Split
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
    """What training may see: the train part and the validation part. There is no test part in it."""

    train: Part
    valid: Part
    columns: tuple[str, ...]
    genres: tuple[str, ...]

    def to(self, device: torch.device) -> TrainingData:
        """Return the same data on a device."""
        return TrainingData(self.train.to(device), self.valid.to(device), self.columns, self.genres)


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

    `columns` is () for pictures.
    """

    tracks: Tracks
    representation: Representation
    columns: tuple[str, ...] = ()

    def select(self, ids: Iterable[str]) -> View:
        """Return the same view of these tracks only; nothing of any other track is in it."""
        return replace(self, tracks=self.tracks.select(ids))

    def training(self, split: Split) -> TrainingData:
        """Return the train and validation parts of a split."""
        return TrainingData(self._part(split.train), self._part(split.valid), self.columns, self.tracks.genres)

    def open_test(self, split: Split) -> Part:
        """Return the test part. Only export and comparison may call this (a test over the sources checks it).

        Whoever calls it puts that on record first.
        """
        return self._part(split.test)

    def open_test_pictures(self, split: Split) -> Tensor:
        """Return the test part's pictures as they lie in the data folder: uint8 [n, height, width, 3].

        The same rule as for `open_test` holds, and both belong to one use of the test part.
        """
        found = find_pictures(self.tracks.folder / PICTURES_FOLDER)
        return raw_pictures([found[track][1] for track in split.test])

    def _part(self, ids: tuple[str, ...]) -> Part:
        tracks, rows = self.tracks, self.tracks.indices(ids)
        if self.representation == "features":
            assert tracks.features is not None
            chosen = np.array([tracks.columns.index(name) for name in self.columns], dtype=np.int64)
            inputs = torch.from_numpy(tracks.features[np.ix_(rows, chosen)].astype(np.float32))
        else:
            assert tracks.pictures is not None
            inputs = torch.from_numpy(tracks.pictures.read(rows))
        return Part(ids, inputs, torch.from_numpy(tracks.labels[rows]))
