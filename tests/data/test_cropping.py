"""Cropping: the box is fitted on the train part alone and cut before the resize, and no content is lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.core.records import Split
from harness.data import CropBox, Tracks, View, load_tracks, prepare_crop, stratified_split
from harness.data.cropping import content_bounds, fit_box
from harness.data.images import resize
from tests.support.pictures import BOX, write_pictures


@pytest.fixture(scope="module")
def framed(tmp_path_factory: pytest.TempPathFactory) -> Tracks:
    return load_tracks(write_pictures(tmp_path_factory.mktemp("framed"), BOX))


@pytest.fixture
def split(framed: Tracks) -> Split:
    return stratified_split(framed, seed=0)


def picture_of(tracks: Tracks, track: str) -> torch.Tensor:
    genre, number = track.split(".")
    file = tracks.folder / "images_original" / genre / f"{genre}{number}.png"
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


def test_bounds_contain_every_pixel_that_is_not_white() -> None:
    picture = torch.full((3, 60, 90), 255, dtype=torch.uint8)
    assert content_bounds(picture) == (60, 90, 60, 0, 90, 0)
    picture[1, 10, 20] = 254  # one channel, one grey level
    assert content_bounds(picture) == (60, 90, 10, 11, 20, 21)
    picture[0, 51, 80] = 0
    assert content_bounds(picture) == (60, 90, 10, 52, 20, 81)


def test_the_box_holds_the_content_of_every_picture() -> None:
    white = (60, 90, 60, 0, 90, 0)
    assert fit_box(np.array([white, (60, 90, 12, 30, 20, 40), (60, 90, 10, 52, 33, 81)])) == BOX
    assert fit_box(np.array([white, white])).is_whole


@given(st.integers(16, 300), st.integers(16, 300))
def test_a_scaled_box_loses_nothing(height: int, width: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    kept = BOX.cut(torch.stack([rows, columns], dim=-1))
    assert kept[0, 0, 0] / height <= BOX.top / BOX.height < (kept[0, 0, 0] + 1) / height
    assert kept[-1, -1, 0] / height < BOX.bottom / BOX.height <= (kept[-1, -1, 0] + 1) / height
    assert kept[0, 0, 1] / width <= BOX.left / BOX.width < (kept[0, 0, 1] + 1) / width
    assert kept[-1, -1, 1] / width < BOX.right / BOX.width <= (kept[-1, -1, 1] + 1) / width


def test_a_framed_picture_cropped_is_its_content() -> None:
    content = np.random.default_rng(0).integers(0, 256, (*BOX.size, 3), dtype=np.uint8)
    picture = torch.from_numpy(BOX.framed(content))
    assert picture.shape == (60, 90, 3)
    assert torch.equal(BOX.cut(picture), torch.from_numpy(content))
    assert (picture[: BOX.top] == 255).all()


def test_training_and_test_pictures_are_cut_before_the_resize(framed: Tracks, split: Split) -> None:
    view = View(prepare_crop(framed, [split]), "pictures", crop="frame")
    data = view.training(split)
    assert data.box == BOX
    for part in (data.train, data.valid, view.open_test(split)):
        for row, track in enumerate(part.ids):
            content = picture_of(framed, track)[:, BOX.top : BOX.bottom, BOX.left : BOX.right]
            assert torch.equal(part.tensor[row], resize(content).permute(1, 2, 0))


def test_without_crop_nothing_is_cut(framed: Tracks, split: Split) -> None:
    data = View(framed, "pictures").for_params({"lr": 0.1}).training(split)
    assert data.box is None
    assert torch.equal(data.train.tensor[0], resize(picture_of(framed, split.train[0])).permute(1, 2, 0))


def test_the_box_is_fitted_on_the_train_part_alone(framed: Tracks, split: Split) -> None:
    prepared = prepare_crop(framed, [split])
    assert prepared.pictures is not None
    assert prepared.pictures.bounds is not None
    bounds = prepared.pictures.bounds.copy()
    bounds[prepared.indices(split.valid + split.test)] = (60, 90, 0, 60, 0, 90)
    tracks = replace(prepared, pictures=replace(prepared.pictures, bounds=bounds))
    assert View(tracks, "pictures", crop="frame").training(split).box == BOX
    kept = View(tracks, "pictures", crop="frame").select(split.train + split.valid)
    assert kept.training(split.without_test()).box == BOX


def test_each_split_has_the_box_of_its_own_train_part(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "data", BOX)
    odd = folder / "images_original" / "genre0" / "genre000003.png"
    wide = replace(BOX, top=5)
    Image.fromarray(wide.framed(np.zeros((*wide.size, 3), dtype=np.uint8))).save(odd)
    tracks = load_tracks(folder)
    splits = [stratified_split(tracks, seed=seed) for seed in range(20)]
    with_odd = next(s for s in splits if "genre0.00003" in s.train)
    without = next(s for s in splits if "genre0.00003" in s.test)
    view = View(prepare_crop(tracks, [with_odd, without]), "pictures", crop="frame")
    assert view.training(with_odd).box == wide
    assert view.training(without).box == BOX


def test_pictures_without_a_frame_stay_whole(tmp_path: Path) -> None:
    whole = CropBox(height=30, width=40, top=0, bottom=30, left=0, right=40)
    tracks = load_tracks(write_pictures(tmp_path / "data", whole))
    split = stratified_split(tracks, seed=0)
    prepared = prepare_crop(tracks, [split])
    cut, uncut = (View(prepared, "pictures", crop=crop).training(split) for crop in ("frame", "none"))
    assert cut.box == whole
    assert torch.equal(cut.train.tensor, uncut.train.tensor)


def test_the_frame_of_the_real_pictures(gtzan: Path) -> None:
    tracks = load_tracks(gtzan)
    split = stratified_split(tracks, seed=0)
    box = View(prepare_crop(tracks, [split]), "pictures", crop="frame").training(split).box
    assert box == CropBox(height=288, width=432, top=35, bottom=253, left=54, right=390)
