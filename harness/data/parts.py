"""The parts of a split as tensors: raw features or pictures, and the genres to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.core.errors import DataError
from harness.core.records import Representation, Split
from harness.data.images import PICTURES_FOLDER, find_pictures, open_pictures, raw_pictures
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


def training_data(
    tracks: Tracks, split: Split, representation: Representation, columns: tuple[str, ...]
) -> TrainingData:
    """Return the train and validation parts; `columns` are the features to use, () for pictures."""
    train, valid = (_part(tracks, ids, representation, columns) for ids in (split.train, split.valid))
    return TrainingData(train, valid, columns, tracks.genres)


def open_test(tracks: Tracks, split: Split, representation: Representation, columns: tuple[str, ...]) -> Part:
    """Return the test part. Only export and comparison may call this (a test over the sources holds it).

    Whoever calls it puts the opening on record first.
    """
    return _part(tracks, split.test, representation, columns)


def open_test_pictures(tracks: Tracks, split: Split) -> Tensor:
    """Return the test part's pictures as they lie in the data folder: uint8 [n, height, width, 3].

    The same rule as for `open_test` holds, and belongs to the same opening.
    """
    found = find_pictures(tracks.folder / PICTURES_FOLDER)
    return raw_pictures([found[track][1] for track in split.test])


def _part(tracks: Tracks, ids: tuple[str, ...], representation: Representation, columns: tuple[str, ...]) -> Part:
    row_of = {track: row for row, track in enumerate(tracks.ids)}
    rows = np.array([row_of[track] for track in ids], dtype=np.int64)
    if representation == "features":
        assert tracks.features is not None
        chosen = np.array([tracks.columns.index(name) for name in columns], dtype=np.int64)
        inputs = torch.from_numpy(tracks.features[np.ix_(rows, chosen)].astype(np.float32))
    else:
        assert tracks.pictures is not None
        inputs = torch.from_numpy(open_pictures(tracks.pictures)[rows])
    return Part(ids, inputs, torch.from_numpy(tracks.labels[rows]))
