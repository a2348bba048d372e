"""Traits of pictures: the regions, what is masked, and what is recorded."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.compare.traits.masked import MaskedTrainings
from harness.compare.traits.occlusion import _slices, occlusion_maps
from harness.compare.traits.plan import TraitsSettings, plan_traits
from harness.compare.traits.regions import RegionGame, regions_of_mel_pictures, regions_of_pictures
from harness.core.errors import SettingsError
from harness.core.trust import trust_file
from harness.data import CropBox, Tracks, View, stratified_split, with_bounds, with_crop
from harness.tracking import Tracker
from harness.training.checkpoint import load_checkpoint
from tests.support.commands import Harness, last_json
from tests.support.stores import Stores, artifacts
from tests.support.sweeps import sweep, write_lists

# A network that sees the mean brightness of each of 24 rows: it learns in a second.
ROWS = """
import torch

class Rows(torch.nn.Module):
    representation = "pictures"
    def __init__(self, inputs, classes):
        super().__init__()
        self.linear = torch.nn.Linear(24, classes)
    def forward(self, x):
        return self.linear(8 * x.mean(1).reshape(len(x), 24, -1).mean(2))
"""


def test_the_regions_cover_the_content_and_are_named_in_hertz() -> None:
    regions = regions_of_mel_pictures()
    assert [region.name for region in regions] == [
        "0 to 416 Hz",
        "416 to 832 Hz",
        "832 to 1291 Hz",
        "1291 to 1983 Hz",
        "1983 to 3045 Hz",
        "3045 to 4675 Hz",
        "4675 to 7180 Hz",
        "7180 to 11025 Hz",
        "first quarter",
        "second quarter",
        "third quarter",
        "last quarter",
    ]
    content = CropBox(height=216, width=144, top=17, bottom=190, left=18, right=131)
    for kind in (regions[:8], regions[8:]):
        covered = np.zeros((216, 144), dtype=int)
        for region in kind:
            covered[region.slices(content)] += 1
        assert covered[17:190, 18:131].min() == covered.max() == 1
        assert covered.sum() == 173 * 113
    lowest, highest = (region.slices(content)[0] for region in (regions[0], regions[7]))
    assert highest.start == 17
    assert lowest.stop == 190


def test_pictures_that_show_no_sound_have_the_same_regions_by_their_place() -> None:
    game = RegionGame(regions_of_pictures(), is_music=False)
    assert game.names[:2] == ("rows 0 to 12.5 %", "rows 12.5 to 25 %")
    assert game.names[-1] == "columns 75 to 100 %"
    assert game.kinds == "8 bands of the height and 4 quarters of the width"
    ends = {(region.rows, region.columns) for region in game.regions}
    assert ends == {(region.rows, region.columns) for region in regions_of_mel_pictures()}


@pytest.mark.parametrize(("side", "count", "tiles"), [(216, 12, 12), (8, 12, 8), (28, 9, 9), (128, 12, 12)])
def test_the_tiles_of_a_map_cover_a_picture_of_any_size(side: int, count: int, tiles: int) -> None:
    slices = _slices(side, count)
    assert len(slices) == tiles
    assert [place for tile in slices for place in range(side)[tile]] == list(range(side))


def test_the_scale_is_that_of_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    ends = librosa.mel_frequencies(n_mels=9, fmin=0, fmax=11025)
    names = [region.name for region in regions_of_mel_pictures()[:8]]
    assert names == [f"{low:.0f} to {high:.0f} Hz" for low, high in pairwise(ends)]


@pytest.mark.parametrize("crop", ["none", "frame"])
def test_a_masked_region_says_nothing_of_its_track(demo_tracks: Tracks, crop: str) -> None:
    split = stratified_split(demo_tracks, seed=3).merged()
    tracks = with_bounds(with_crop(demo_tracks, [split], [crop]))
    view = View(tracks, "pictures", crop=crop)
    game = RegionGame(regions_of_mel_pictures())
    made = MaskedTrainings(game, 5, view, split)
    whole = made.inputs("whole")
    assert np.array_equal(whole[0], view.training(split).train.tensor.numpy())
    assert made.inputs("whole/1")[1] is whole[1]
    content = view.content(split)
    for index in (0, 9):
        rows, columns = game.regions[index].slices(content)
        for place in (0, 1):  # the train and the test part
            without, alone = (made.inputs(f"{kind}/{index}")[place] for kind in ("without", "alone"))
            inside = np.zeros((216, 144), dtype=bool)
            inside[rows, columns] = True
            assert np.array_equal(without[:, ~inside], whole[place][:, ~inside])
            assert np.array_equal(alone[:, inside], whole[place][:, inside])
            # The mean of the train part, for the test part as well.
            mean = np.rint(whole[0].mean(0, dtype=np.float64)).astype(np.uint8)
            assert (without[:, inside] == mean[inside]).all()
            assert (alone[:, ~inside] == mean[~inside]).all()
    assert (made.inputs("none")[1] == made.inputs("none")[0][0]).all()
    swapped: list[np.ndarray] = []

    def predict(pictures: np.ndarray) -> np.ndarray:
        swapped.append(pictures)
        return np.zeros(len(pictures), dtype=np.int64)

    uses = made.uses(predict)
    assert list(uses) == [f"uses/{index}" for index in range(12)]
    rows, columns = game.regions[0].slices(content)
    inside = np.zeros((216, 144), dtype=bool)
    inside[rows, columns] = True
    assert np.array_equal(swapped[0][:, ~inside], whole[1][:, ~inside])
    tiles, own = ([bytes(tile) for tile in part[:, rows, columns]] for part in (swapped[0], whole[1]))
    assert tiles != own
    assert sorted(tiles) == sorted(own)


@pytest.mark.usefixtures("place")
@pytest.mark.long
def test_an_occlusion_map_is_what_masking_a_tile_takes(tmp_path: Path) -> None:
    (tmp_path / "rows.py").write_text(ROWS)
    sweep(model=f"{tmp_path}/rows.py:Rows", study="rows", trials=1, epochs=2)
    trust_file().unlink()  # as for somebody else's study
    plan = plan_traits(TraitsSettings(study="rows", trust_code=True))
    tracker = Tracker(plan.stores.tracking_uri)
    maps = occlusion_maps(plan, tracker)
    assert {each.part for each in maps} == {"validation"}
    assert [each.genre for each in maps] == list(plan.tracks.genres)
    assert {each.track for each in maps} <= set(plan.split.valid)
    data = View(plan.tracks, "pictures").training(plan.split)
    mean = data.train.tensor.double().mean(0).round().to(torch.uint8)
    folder = tracker.artifacts.download_checkpoint(tracker.parts.network_run("rows").run_id, tmp_path)
    classifier, _ = load_checkpoint(folder, trust_code=True)
    found = maps[1]
    picture = data.valid.tensor[data.valid.ids.index(found.track)].clone()
    with torch.inference_mode():
        whole = torch.softmax(classifier(picture[None]), 1)[0, 1].item()
        picture[18:36, 32:48] = mean[18:36, 32:48]
        without = torch.softmax(classifier(picture[None]), 1)[0, 1].item()
    assert found.probability == pytest.approx(whole, abs=1e-6)
    assert found.drops.shape == (12, 9)
    assert found.drops[1, 2] == pytest.approx(whole - without, abs=1e-6)


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_of_a_refit_the_maps_are_of_train_tracks(tmp_path: Path, inside: Harness) -> None:
    (tmp_path / "rows.py").write_text(ROWS)
    words = ("--data", "demo", "--trials", "1", "--epochs", "2", "--jobs", "1", "--refit")
    inside("sweep", "--model", f"{tmp_path}/rows.py:Rows", "--study", "rows", *words)
    plan = plan_traits(TraitsSettings(study="rows"))
    maps = occlusion_maps(plan, Tracker(plan.stores.tracking_uri))
    assert {each.part for each in maps} == {"train"}
    assert {each.track for each in maps} <= {*plan.split.train, *plan.split.valid}


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_on_lists_there_are_as_many_repeats_as_are_advised(tmp_path: Path, demo_tracks: Tracks) -> None:
    (tmp_path / "rows.py").write_text(ROWS)
    lists = write_lists(tmp_path / "lists", stratified_split(demo_tracks, seed=1))
    sweep(model=f"{tmp_path}/rows.py:Rows", study="rows", trials=1, epochs=2, split=str(lists))
    plan = plan_traits(TraitsSettings(study="rows", trust_code=True))
    assert (plan.settings.repeats, len(plan.splits)) == (8, 8)
    assert not any("too narrow" in warning for warning in plan.warnings)


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_what_is_recorded_and_printed(inside: Harness, tmp_path: Path) -> None:
    (tmp_path / "rows.py").write_text(ROWS)
    sweep(model=f"{tmp_path}/rows.py:Rows", study="rows", trials=1, epochs=2)
    words = ("traits", "--study", "rows", "--trust-code")
    with pytest.raises(SettingsError, match="is of pictures: no families"):
        plan_traits(TraitsSettings(study="rows", learners=("network", "forest"), trust_code=True))
    shown = inside(*words, "--out", str(tmp_path / "out"))
    assert "8 bands of frequency and 4 quarters of the time, 135 trainings" in shown.stderr
    table = shown.stdout.partition("SYNTHETIC")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "7180 to 11025 Hz" in table
    found = last_json(inside(*words, "--json"))
    (learner,) = found["learners"]
    assert [row["name"] for row in learner["rows"]] == list(found["regions"])
    assert {row["share"] for row in learner["rows"]} == {None}
    client = Stores.here().client()
    parent = client.get_run(found["run_id"])
    assert (parent.info.status, parent.data.tags["kind"]) == ("FINISHED", "traits")

    # By hand: what the predictions on record say.
    plan = plan_traits(TraitsSettings(study="rows", trust_code=True))
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{found['run_id']}'")
    assert [run.data.tags["test_openings"] for run in children] == ["1"] * 5
    right: dict[str, list[np.ndarray]] = {}
    for run in children:
        truth = plan.labels_of(plan.splits[int(run.data.tags["repeat"])].test)
        for key, guesses in json.loads((artifacts(run) / "subsets.json").read_text()).items():
            right.setdefault(key, []).append(np.array(guesses) == truth)
    accuracy = {key: float(np.concatenate(values).mean()) for key, values in right.items()}
    assert len(accuracy) == 27 + 12
    whole = accuracy["whole"]  # with the seed of the others
    first = learner["rows"][0]
    assert learner["nothing"] == pytest.approx(accuracy["none"])
    assert first["lost"]["value"] == pytest.approx(whole - accuracy["without/0"])
    assert first["alone"]["value"] == pytest.approx(accuracy["alone/0"])
    assert first["network_uses"] == pytest.approx(accuracy["whole"] - accuracy["uses/0"])
    (control,) = learner["controls"]
    assert control["lost"]["value"] == pytest.approx(accuracy["whole"] - accuracy["whole/1"])

    assert parent.data.metrics["lost_without_0_to_416_Hz"] == first["lost"]["value"]
    assert {"effects.png", "occlusion.png"} <= {path.name for path in artifacts(parent).iterdir()}
    page = (tmp_path / "out" / "traits.html").read_text()
    assert "the network is trained anew: so the input keeps its size" in " ".join(page.split())
