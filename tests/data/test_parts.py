"""The parts of a split as tensors: right rows, right order, and no access to the test part in training."""

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from harness.core.errors import DataError
from harness.core.records import Representation, Split
from harness.data import (
    Tracks,
    TrainingData,
    View,
    open_pictures,
    stratified_split,
    used_columns,
)


@pytest.fixture(scope="module")
def split(demo_tracks: Tracks) -> Split:
    return stratified_split(demo_tracks, seed=0)


def test_features_are_those_of_the_csv(demo_tracks: Tracks, split: Split) -> None:
    columns = ("tempo", "length")  # not in the CSV's order
    data = View(demo_tracks, "features", columns).training(split)
    assert data.columns == columns
    assert data.genres == demo_tracks.genres
    assert demo_tracks.features is not None
    for part, ids in ((data.train, split.train), (data.valid, split.valid)):
        assert part.ids == ids
        assert len(part) == len(ids)
        assert part.tensor.dtype == torch.float32
        assert part.targets.dtype == torch.int64
        for row, track in enumerate(ids):
            of_track = demo_tracks.ids.index(track)
            values = [demo_tracks.features[of_track, demo_tracks.columns.index(name)] for name in columns]
            assert part.tensor[row].tolist() == np.array(values, dtype=np.float32).tolist()
            assert demo_tracks.genres[int(part.targets[row])] == track.split(".")[0]


def test_pictures_are_those_of_their_tracks(demo_tracks: Tracks, split: Split) -> None:
    data = View(demo_tracks, "pictures").training(split)
    assert data.columns == ()
    assert data.train.tensor.dtype == torch.uint8
    assert data.train.tensor.shape == (len(split.train), 216, 144, 3)
    assert demo_tracks.pictures is not None
    cached = open_pictures(demo_tracks.pictures.path)
    for row in (0, 5, len(split.valid) - 1):
        of_track = demo_tracks.ids.index(split.valid[row])
        np.testing.assert_array_equal(data.valid.tensor[row].numpy(), cached[of_track])


def test_parts_are_copies(demo_tracks: Tracks, split: Split) -> None:
    assert demo_tracks.features is not None
    before = demo_tracks.features.copy()
    data = View(demo_tracks, "features", demo_tracks.columns).training(split)
    data.train.tensor.zero_()
    data.train.targets.zero_()
    np.testing.assert_array_equal(demo_tracks.features, before)
    assert demo_tracks.labels.max() == 9
    View(demo_tracks, "pictures").training(split).train.tensor.zero_()
    assert View(demo_tracks, "pictures").training(split).train.tensor.any()


def test_training_sees_nothing_of_the_test_part(demo_tracks: Tracks, split: Split) -> None:
    names = [field.name for field in fields(TrainingData)]
    assert names == ["train", "valid", "columns", "genres", "box", "size", "impute", "words", "is_music"]
    assert demo_tracks.features is not None
    spoilt = demo_tracks.features.copy()
    labels = demo_tracks.labels.copy()
    for track in split.test:
        spoilt[demo_tracks.ids.index(track)] = np.nan
        labels[demo_tracks.ids.index(track)] = -1
    honest = View(demo_tracks, "features", demo_tracks.columns).training(split)
    tracks = replace(demo_tracks, features=spoilt, labels=labels)
    blind = View(tracks, "features", demo_tracks.columns).training(split)
    for part, other in ((honest.train, blind.train), (honest.valid, blind.valid)):
        assert not set(part.ids) & set(split.test)
        assert torch.equal(part.tensor, other.tensor)
        assert torch.equal(part.targets, other.targets)


def test_a_selection_has_the_selected_tracks_only(demo_tracks: Tracks, split: Split) -> None:
    first, second, other = split.test[0], split.test[1], split.train[0]
    tracks = replace(demo_tracks, duplicates=((first, second), (first, other)), excluded={"x.1": "reason"})
    kept = tracks.select(split.test)
    assert kept.ids == split.test
    assert kept.duplicates == ((first, second),)
    assert kept.excluded == {}
    assert (kept.digest, kept.genres) == (tracks.digest, tracks.genres)
    representations: tuple[Representation, ...] = ("features", "pictures")
    for representation in representations:
        columns = tracks.columns if representation == "features" else ()
        ours, theirs = (View(t, representation, columns).open_test(split) for t in (kept, tracks))
        assert torch.equal(ours.tensor, theirs.tensor)
        assert torch.equal(ours.targets, theirs.targets)
    with pytest.raises(KeyError):
        View(kept, "features", tracks.columns).training(split)


@pytest.mark.parametrize("representation", ["features", "pictures"])
def test_the_test_part_has_the_other_tracks(
    demo_tracks: Tracks, split: Split, representation: Representation
) -> None:
    columns = demo_tracks.columns if representation == "features" else ()
    part = View(demo_tracks, representation, columns).open_test(split)
    assert part.ids == split.test
    assert len(part) == len(part.tensor) == len(part.targets) == 60


def test_columns_are_left_out_by_name(demo_tracks: Tracks, split: Split) -> None:
    assert used_columns(demo_tracks, []) == demo_tracks.columns
    columns = used_columns(demo_tracks, ["tempo", "length"])
    assert columns == tuple(name for name in demo_tracks.columns if name not in ("length", "tempo"))
    assert View(demo_tracks, "features", columns).training(split).train.tensor.shape[1] == 56


def test_unknown_columns_and_all_columns_cannot_be_left_out(demo_tracks: Tracks) -> None:
    with pytest.raises(DataError) as error:
        used_columns(demo_tracks, ["length", "lenght"])
    assert "'lenght'" in str(error.value)
    assert "chroma_stft_mean" in str(error.value)
    with pytest.raises(DataError, match="every feature column was left out"):
        used_columns(demo_tracks, demo_tracks.columns)


def test_parts_move_to_a_device(demo_tracks: Tracks, split: Split) -> None:
    data = View(demo_tracks, "features", demo_tracks.columns).training(split)
    moved = data.to(torch.device("meta"))
    assert moved.train.tensor.device.type == moved.valid.targets.device.type == "meta"
    assert moved.train.ids == data.train.ids
    assert data.train.tensor.device.type == "cpu"


def test_pickled_tracks_do_not_contain_the_pictures(demo_tracks: Tracks, split: Split) -> None:
    sent = pickle.dumps(demo_tracks)
    assert len(sent) < 500_000
    arrived = pickle.loads(sent)  # noqa: S301 - our own bytes
    ours, theirs = (View(tracks, "pictures").training(split) for tracks in (demo_tracks, arrived))
    assert torch.equal(ours.train.tensor, theirs.train.tensor)


def test_columns_that_the_data_lack_are_named(demo_tracks: Tracks) -> None:
    with pytest.raises(DataError, match="no feature column 'loudness', which the network") as error:
        View(demo_tracks, "features", ("tempo", "loudness"))
    assert "chroma_stft_mean" in str(error.value)
