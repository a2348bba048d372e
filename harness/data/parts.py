"""The parts of a split as tensors: the inputs (raw features, pictures or both) and the targets (genres)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, device

from harness.core.errors import DataError, listed, meant
from harness.core.records import Representation, Split
from harness.core.space import Params, Value
from harness.data.cropping import CropBox
from harness.data.features import matches
from harness.data.images import PICTURE_SIZE, Size, raw_batches
from harness.data.options import MUSIC, Words
from harness.data.source import picture_files
from harness.data.tracks import Tracks, holding


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """The pictures and the feature rows of the same tracks; indexed, and moved to a device, as a tensor is."""

    pictures: Tensor
    features: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: Tensor | slice) -> Joined:
        return Joined(self.pictures[index], self.features[index])

    def to(self, where: device) -> Joined:
        """Return the same on a device."""
        return Joined(self.pictures.to(where), self.features.to(where))

    @property
    def device(self) -> device:
        """The device that both are on."""
        return self.features.device


Inputs: TypeAlias = "Tensor | Joined"


def tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the tensors of inputs: one, or the pictures and the features."""
    return (inputs.pictures, inputs.features) if isinstance(inputs, Joined) else (inputs,)


def batches_of(inputs: Inputs, size: int) -> Iterator[Inputs]:
    """Yield the inputs in batches of at most `size`, in their order."""
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part of a split in memory.

    `inputs` is float32 [n, columns] with the values of the CSV, uint8 [n, height, width, 3], or both; `targets` is
    int64 [n].
    """

    ids: tuple[str, ...]
    inputs: Inputs
    targets: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tensor(self) -> Tensor:
        """The inputs, of a part that has rows or pictures alone."""
        assert not isinstance(self.inputs, Joined)
        return self.inputs

    def to(self, where: device) -> Part:
        """Return the same part on a device."""
        return Part(self.ids, self.inputs.to(where), self.targets.to(where))


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The data that training may use: the train part and the validation part, but not the test part.

    `box` is the box that pictures are cropped to, fitted on the train part; None for whole pictures and features.
    `size` is the height and width of the pictures. `impute`: features may be NaN, and the network fills them.
    `words` and `is_music` are those of the data set.
    """

    train: Part
    valid: Part
    columns: tuple[str, ...]
    genres: tuple[str, ...]
    box: CropBox | None = None
    size: Size = PICTURE_SIZE
    impute: bool = False
    words: Words = MUSIC
    is_music: bool = True

    def to(self, where: device) -> TrainingData:
        """Return the same data on a device."""
        return replace(self, train=self.train.to(where), valid=self.valid.to(where))


def used_columns(tracks: Tracks, without: Sequence[str]) -> tuple[str, ...]:
    """Return the feature columns except those of `without`: names, or patterns such as `mfcc*`.

    Raises DataError for a name or a pattern that no column has, and if no column is left.
    """
    left_out: set[str] = set()
    for name in without:
        found = {name} if name in tracks.columns else {c for c in tracks.columns if matches(c, name)}
        if not found:
            raise DataError(
                f"there is no feature column {name!r} to leave out",
                expected=listed(tracks.columns),
                hint=meant(name, tracks.columns),
            )
        left_out |= found
    columns = tuple(name for name in tracks.columns if name not in left_out)
    if not columns:
        raise DataError(
            "every feature column was left out", expected="at least one column that --without does not name"
        )
    return columns


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Tracks as the input of a network: their pictures, or some of their feature columns in a given order.

    `columns` is () for pictures. `crop` is the hyperparameter of that name, not for features: `frame` crops the
    pictures to a box that is fitted on the train part of the split.
    """

    tracks: Tracks
    representation: Representation
    columns: tuple[str, ...] = ()
    crop: Value = "none"

    def __post_init__(self) -> None:
        """Raise DataError if the tracks lack one of the columns, which a record may name."""
        missing = [name for name in self.columns if name not in self.tracks.columns]
        if missing:
            shown = ", ".join(map(repr, missing[:6])) + (" and others" if missing[6:] else "")
            raise DataError(
                f"{self.tracks.folder} has no feature column {shown}, which the network was trained on",
                expected=", ".join(self.tracks.columns) or "a data set with features",
            )

    def for_params(self, params: Params) -> View:
        """Return this view with the `crop` of a trial's hyperparameters."""
        return replace(self, crop=params.get("crop", "none"))

    def select(self, ids: Iterable[str]) -> View:
        """Return the same view of these tracks only; it contains no data of other tracks."""
        return replace(self, tracks=self.tracks.select(ids))

    def holding(self, splits: Iterable[Split]) -> View:
        """Return the same view for a machine that has not the picture cache (see `tracks.holding`)."""
        return replace(self, tracks=holding(self.tracks, splits, {self.representation}))

    def training(self, split: Split) -> TrainingData:
        """Return the train and validation parts of a split."""
        box = self._box(split)
        train, valid = self._part(split.train, box), self._part(split.valid, box)
        tracks = self.tracks
        impute = tracks.impute and self.representation != "pictures"
        return TrainingData(
            train=train,
            valid=valid,
            columns=self.columns,
            genres=tracks.genres,
            box=box,
            size=tracks.size,
            impute=impute,
            words=tracks.words,
            is_music=tracks.is_music,
        )

    def open_test(self, split: Split) -> Part:
        """Return the test part. Only `export` and `compare` may call this: a test checks the source code.

        The caller records the use of the test part before the call.
        """
        return self._part(split.test, self._box(split))

    def open_test_pictures(self, split: Split) -> Iterator[Tensor]:
        """Yield the test part's pictures as they are in the data folder, in batches: uint8 [n, height, width, 3].

        The same rules as for `open_test` apply. Both calls together count as one use of the test part.
        """
        found = picture_files(self.tracks.folder, self.tracks.options)
        return raw_batches([found[track][1] for track in split.test])

    def content(self, split: Split) -> CropBox:
        """Return the box of the pictures' content in the network's input, fitted on the train part of the split.

        The tracks must have the bounds of their pictures (`with_bounds`).
        """
        height, width = self.tracks.size
        whole = CropBox(height=height, width=width, top=0, bottom=height, left=0, right=width)
        if self.crop == "frame":
            return whole
        assert self.tracks.pictures is not None
        return self.tracks.pictures.box(self.tracks.indices(split.train)).scaled(height, width)

    def _box(self, split: Split) -> CropBox | None:
        if self.representation == "features" or self.crop == "none":
            return None
        assert self.tracks.pictures is not None
        return self.tracks.pictures.box(self.tracks.indices(split.train))

    def _part(self, ids: tuple[str, ...], box: CropBox | None) -> Part:
        import torch

        tracks, rows = self.tracks, self.tracks.indices(ids)
        targets = torch.from_numpy(tracks.labels[rows])
        if self.representation == "features":
            return Part(ids, self._features(rows), targets)
        assert tracks.pictures is not None
        pictures = torch.from_numpy(tracks.pictures.read(rows, box))
        if self.representation == "pictures":
            return Part(ids, pictures, targets)
        return Part(ids, Joined(pictures, self._features(rows)), targets)

    def _features(self, rows: np.ndarray) -> Tensor:
        import torch

        tracks = self.tracks
        assert tracks.features is not None
        chosen = np.array([tracks.columns.index(name) for name in self.columns], dtype=np.int64)
        return torch.from_numpy(tracks.features[np.ix_(rows, chosen)].astype(np.float32))
