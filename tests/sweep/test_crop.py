"""The hyperparameter `crop` from a sweep to record, export, prediction, reproduction and comparison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from mlflow.entities import Run
from PIL import Image

from harness.data.audio import clip_picture, load_clip
from harness.export.opening import open_bundle
from harness.workers.cpus import usable_cores
from tests.support.commands import Harness, last_json
from tests.support.pictures import BOX, write_pictures
from tests.support.stores import Stores

pytestmark = pytest.mark.long

OPTIONS = ["--data", "data", "--model", "cnn", "--epochs", "1", "--jobs", "1", "--set", "batch_size=4"]


@pytest.fixture(scope="module")
def framed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of pictures with a white frame; for reading only."""
    return write_pictures(tmp_path_factory.mktemp("framed") / "data", BOX)


@pytest.fixture
def data(workspace: Path, framed: Path) -> Path:
    (workspace / "data").symlink_to(framed)
    return workspace / "data"


def runs(study: str) -> list[Run]:
    return Stores.here().runs(study, "trial")


def test_crop_is_searched_recorded_exported_and_reproduced(data: Path, inside: Harness) -> None:
    search = ["--search", "crop=none,frame", "--sampler", "grid", "--set", "lr=0.001"]
    inside("sweep", *OPTIONS, *search, "--study", "s", "--trials", "2")
    of = {run.data.params["crop"]: run for run in runs("s")}
    assert set(of) == {"none", "frame"}
    losses = {crop: run.data.metrics["train_loss"] for crop, run in of.items()}
    assert losses["none"] != losses["frame"]

    run_id = of["frame"].info.run_id
    assert last_json(inside("reproduce", run_id, "--json"))["agrees"] is True

    formats = ["--format", "safetensors", "--format", "pt2", "--format", "onnx"]
    exported = last_json(inside("export", "--run", run_id, "--out", "best", *formats, "--json"))
    assert [check["format"] for check in exported["formats"]] == ["safetensors", "pt2", "onnx"]
    about = json.loads(Path("best/model.json").read_text())
    box = {"height": 60, "width": 90, "top": 10, "bottom": 52, "left": 20, "right": 81}
    assert about["architecture"]["box"] == box
    assert about["config"]["crop"] == "frame"
    assert about["config"]["threads"] == min(2, usable_cores())  # of one job
    assert "rows 10 to 51 and columns 20 to 80 are kept" in Path("best/README.md").read_text()

    # What is in the frame makes no difference, in whichever file the network is.
    picture = data / "images_original" / "genre0" / "genre000000.png"
    black = np.zeros((60, 90, 3), dtype=np.uint8)
    inner = slice(BOX.top, BOX.bottom), slice(BOX.left, BOX.right)
    black[inner] = np.array(Image.open(picture))[inner]
    Image.fromarray(black).save("black.png")
    for kept in ("model.safetensors", "model.pt2", "model.onnx"):
        said = last_json(inside("predict", "best", str(picture), "black.png", "--top", "2", "--json"))
        white, other = said["predictions"]
        assert white["genres"] == other["genres"]
        Path("best", kept).unlink()

    inside("export", "--run", of["none"].info.run_id, "--out", "whole")
    assert json.loads(Path("whole/model.json").read_text())["architecture"]["box"] is None


def test_sound_is_drawn_into_the_frame(data: Path, inside: Harness) -> None:
    """A picture drawn from sound has no frame: it goes into the box whole."""
    options = ["--set", "crop=frame", "--search", "lr=0.001:0.01:log"]
    inside("sweep", *OPTIONS, *options, "--study", "s", "--trials", "1")
    assert runs("s")[0].data.params["crop"] == "frame"
    inside("export", "--study", "s", "--out", "best", "--no-register")
    soundfile.write("song.wav", np.random.default_rng(0).normal(0, 0.1, 22050 * 4), 22050)
    (said,) = last_json(inside("predict", "best", "song.wav", "--top", "2", "--json"))["predictions"]
    drawn = clip_picture(load_clip(Path("song.wav")), BOX.size)
    assert drawn.shape == (*BOX.size, 3)
    bundle = open_bundle(Path("best"))
    wanted = bundle.probabilities(torch.from_numpy(BOX.framed(drawn))[None])[0]
    found = {entry["genre"]: entry["probability"] for entry in said["genres"]}
    assert [found[genre] for genre in bundle.architecture.genres] == pytest.approx(wanted.tolist())


def test_a_comparison_cuts_the_frame_on_each_split(data: Path, inside: Harness) -> None:
    for crop in ("none", "frame"):
        inside("sweep", *OPTIONS, "--set", f"crop={crop}", "--study", crop, "--trials", "1")
    options = ["--data", "data", "--repeats", "5", "--no-baselines", "--no-untuned", "--json"]
    found = last_json(inside("compare", "--study", "none", "--study", "frame", *options))
    assert {row["study"]: row["params"]["crop"] for row in found["models"]} == {"none": "none", "frame": "frame"}
    client = Stores.here().client()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    repeats = client.search_runs(ids, "tags.kind = 'repeat'")
    assert len(repeats) == 10
    assert len({run.data.metrics["train_loss"] for run in repeats}) == 10
