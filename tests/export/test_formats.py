"""The files of an exported network give its outputs, for any batch and any picture size; the resizes agree."""

import json
import os
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from harness.core.errors import CheckpointError, SettingsError
from harness.core.records import EpochMetrics, Representation, TrialConfig
from harness.data import CropBox, Inputs, Joined, open_pictures, resize, tensors_of
from harness.data.cache import cached_pictures
from harness.data.images import raw_pictures
from harness.export.formats import (
    FILES,
    Portable,
    Source,
    Transform,
    check_formats,
    compare_outputs,
    read_format,
    write_formats,
)
from harness.export.resize import resize_by_arithmetic, resize_by_operator
from harness.models.classifier import Classifier, build_classifier
from harness.models.normalise import NORMALISERS
from harness.models.registry import model_spec
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from harness.training.description import Architecture, Description, read_description
from tests.support import REPOSITORY

COLUMNS = ("length", "tempo", "rms_mean", "rms_var")
KAGGLE = CropBox(height=288, width=432, top=35, bottom=253, left=54, right=390)
GENRES = ("blues", "jazz", "rock")
ABOUT = {"genres": list(GENRES), "columns": list(COLUMNS), "run_id": "abc", "synthetic": True}
REPRESENTATIONS = ("features", "pictures", pytest.param("both", marks=pytest.mark.long))
MODEL_OF: dict[Representation, str] = {"features": "fcnn", "pictures": "cnn", "both": "both"}


def rows(n: int) -> Tensor:
    """Raw rows like those of a CSV: the scales of the columns differ by orders of magnitude."""
    return torch.randn(n, 4) * torch.tensor([3e3, 30.0, 0.1, 1e-3]) + torch.tensor([6.6e5, 120.0, 0.2, 2e-3])


def pictures(n: int, height: int = 288, width: int = 432) -> Tensor:
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8)


def raw(representation: Representation, n: int, height: int = 288, width: int = 432) -> Inputs:
    if representation == "features":
        return rows(n)
    found = pictures(n, height, width)
    return found if representation == "pictures" else Joined(found, rows(n))


def classifier_of(representation: Representation) -> Classifier:
    """A network with confident outputs, like a trained one: not all near 1/3."""
    torch.manual_seed(0)
    normalise = NORMALISERS[representation].fit(raw(representation, 200, 216, 144))
    columns = 0 if representation == "pictures" else 4
    classifier = build_classifier(model_spec(MODEL_OF[representation]), normalise, columns, 3)
    if columns:
        classifier(raw(representation, 64, 216, 144))  # batch statistics, so that they are not 0 and 1
    with torch.no_grad():
        last = {"features": "fc4", "pictures": "fc2", "both": "head"}[representation]
        classifier.get_parameter(f"network.{last}.weight").mul_(20 if representation == "features" else 100)
    return classifier.eval()


def describe(architecture: Architecture) -> Description:
    config = TrialConfig(model=architecture.model, params={"lr": 0.1}, epochs=1, seed=0, threads=1)
    return Description(architecture=architecture, config=config, metrics=EpochMetrics(1, 1.0, 1.0, 0.5, 0.1))


@pytest.fixture(scope="module", params=REPRESENTATIONS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all three files of one network."""
    representation: Representation = request.param
    folder = tmp_path_factory.mktemp("files") / representation
    classifier = classifier_of(representation)
    columns = () if representation == "pictures" else COLUMNS
    model = MODEL_OF[representation]
    architecture = Architecture(model=model, representation=representation, columns=columns, genres=GENRES)
    save_checkpoint(folder, classifier.state_dict(), describe(architecture))
    write_formats(folder, tuple(FILES), Source(classifier, representation, len(columns), ABOUT))
    return folder


def kind(folder: Path) -> Representation:
    return architecture_of(folder).representation


def architecture_of(folder: Path) -> Architecture:
    return read_description(folder).architecture


def read(folder: Path, name: str) -> Transform:
    """A file of this test, which may run code."""
    return read_format(folder, name, architecture_of(folder), trust_code=True)


@torch.inference_mode()
def expected(folder: Path, inputs: Inputs) -> Tensor:
    """The outputs of the saved classifier for inputs that `harness.data.resize` has resized."""
    classifier, _ = load_checkpoint(folder)
    if kind(folder) != "features":
        found, box = tensors_of(inputs)[0], architecture_of(folder).box
        found = found if box is None else box.cut(found)
        found = resize(found.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        inputs = Joined(found, inputs.features) if isinstance(inputs, Joined) else found
    return torch.softmax(classifier(inputs), 1)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("batch", [1, 5, pytest.param(70, marks=pytest.mark.long)])
def test_any_batch_size_is_accepted(folder: Path, name: str, batch: int) -> None:
    inputs = raw(kind(folder), batch)
    wanted = expected(folder, inputs)
    difference, guesses = compare_outputs(name, read(folder, name), [inputs], wanted)
    assert difference < 1e-5
    assert guesses is not None
    assert guesses.tolist() == wanted.argmax(1).tolist()
    assert wanted.max() > 0.5


@pytest.mark.long
@pytest.mark.parametrize("folder", ["pictures"], indirect=True)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [(288, 432), (216, 144), (16, 16), (144, 216), (217, 1000), (1500, 40)])
def test_any_picture_size_is_accepted(folder: Path, name: str, size: tuple[int, int]) -> None:
    inputs = pictures(2, *size)
    assert compare_outputs(name, read(folder, name), [inputs], expected(folder, inputs))[0] < 1e-5


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three files of a network that cuts the frame of Kaggle's pictures."""
    folder, classifier = tmp_path_factory.mktemp("files") / "pictures", classifier_of("pictures")
    architecture = Architecture(model="cnn", representation="pictures", columns=(), genres=GENRES, box=KAGGLE)
    save_checkpoint(folder, classifier.state_dict(), describe(architecture))
    write_formats(folder, tuple(FILES), Source(classifier, "pictures", 0, ABOUT, KAGGLE))
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [(288, 432), (216, 144), (16, 16), (217, 1000)])
def test_every_format_cuts_the_frame(cropped: Path, name: str, size: tuple[int, int]) -> None:
    assert architecture_of(cropped).box == KAGGLE
    inputs = pictures(2, *size)
    transform, wanted = read(cropped, name), expected(cropped, inputs)
    assert compare_outputs(name, transform, [inputs], wanted)[0] < 1e-5
    if size == (KAGGLE.height, KAGGLE.width):
        inside = inputs.clone()
        inputs[:, : KAGGLE.top] = inputs[:, KAGGLE.bottom :] = 0
        inputs[:, :, : KAGGLE.left] = inputs[:, :, KAGGLE.right :] = 0
        assert not torch.equal(inputs, inside)
        assert compare_outputs(name, transform, [inputs], wanted)[0] < 1e-5


@settings(max_examples=30)
@given(st.integers(16, 500), st.integers(16, 500), st.data())
def test_both_resizes_cut_the_same_box(height: int, width: int, data: st.DataObject) -> None:
    top, left = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 199))
    bottom, right = data.draw(st.integers(top + 1, 100)), data.draw(st.integers(left + 1, 200))
    box = CropBox(height=100, width=200, top=top, bottom=bottom, left=left, right=right)
    inputs = pictures(1, height, width)
    wanted = resize(box.cut(inputs).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert torch.equal(resize_by_operator(inputs, box), wanted)
    assert torch.equal(resize_by_arithmetic(inputs, box), wanted)


@settings(max_examples=30)
@given(st.integers(16, 700), st.integers(16, 700), st.sampled_from(["noise", "black and white", "white"]))
def test_both_traceable_resizes_give_the_bytes_of_the_packages_resize(
    height: int, width: int, content: str
) -> None:
    inputs = pictures(1, height, width)
    if content != "noise":
        inputs = torch.where(inputs > (127 if content == "black and white" else -1), 255, 0).to(torch.uint8)
    wanted = resize(inputs.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    for other in (resize_by_operator, resize_by_arithmetic):
        assert torch.equal(other(inputs), wanted)


def test_a_picture_of_the_networks_size_is_left_alone() -> None:
    inputs = pictures(3, 216, 144)
    for same in (resize_by_operator, resize_by_arithmetic):
        assert torch.equal(same(inputs), inputs)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_raw_png_gives_what_training_saw(tmp_path: Path, mode: str) -> None:
    """Compare the picture cache, which training uses, with the same file as Pillow reads it."""
    files = []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (288, 432, len(mode)), dtype=np.uint8)
        Image.fromarray(pixels, mode).save(tmp_path / f"{number}.png")
        files.append(tmp_path / f"{number}.png")
    seen = torch.from_numpy(np.array(open_pictures(cached_pictures(files, f"raw-{mode}"))))
    read = torch.stack([torch.tensor(np.array(Image.open(file).convert("RGB"))) for file in files])
    assert torch.equal(read, raw_pictures(files))
    portable = Portable(classifier_of("pictures"), "pictures", resize_by_operator).eval()
    with torch.inference_mode():
        assert torch.equal(portable(read), torch.softmax(portable.classifier(seen), 1))


def test_the_files_have_metadata_and_no_pickle(folder: Path) -> None:
    extra = {"metadata.json": ""}
    program = torch.export.load(folder / "model.pt2", extra_files=extra)
    assert json.loads(extra["metadata.json"]) == ABOUT
    assert "mkldnn" not in program.graph_module.code
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        pickled = [name for name in archive.namelist() if b"PK\x03\x04" in archive.read(name)]
        assert archive.read("model/data/sample_inputs/model.pt") == b""
        assert "pickle" not in json.dumps([json.loads(text) for text in weights(archive)]).replace(
            '"use_pickle": false', ""
        )
    assert pickled == []

    stored = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(stored)
    properties = {entry.key: entry.value for entry in stored.metadata_props}
    assert json.loads(properties["genres"]) == list(GENRES)
    assert json.loads(properties["columns"]) == list(COLUMNS)
    assert properties["run_id"] == "abc"
    names = ["pictures", "features"] if kind(folder) == "both" else [kind(folder)]
    assert [entry.name for entry in stored.graph.input] == names
    assert [entry.name for entry in stored.graph.output] == ["probabilities"]
    assert {entry.domain for entry in stored.opset_import} <= {"", "ai.onnx"}


def weights(archive: zipfile.ZipFile) -> list[bytes]:
    return [archive.read(name) for name in archive.namelist() if name.endswith("_config.json")]


def test_a_file_of_another_network_is_refused(folder: Path) -> None:
    inputs = raw(kind(folder), 9)
    wanted = expected(folder, inputs).flip(1)
    with pytest.raises(CheckpointError, match=r"model\.pt2, read back, differs .* of 9 tracks"):
        compare_outputs("model.pt2", read(folder, "pt2"), [inputs], wanted)
    with pytest.raises(CheckpointError, match="differs from the original by nan"):
        compare_outputs("x", read(folder, "onnx"), [inputs], torch.full_like(wanted, torch.nan))


def test_formats_are_sorted_and_unknown_ones_refused() -> None:
    assert check_formats(("onnx", "safetensors", "onnx")) == ("safetensors", "onnx")
    with pytest.raises(SettingsError, match="no format 'pickle'\nexpected: safetensors, pt2, onnx"):
        check_formats(("pickle",))


@pytest.mark.long
def test_onnx_without_the_extra_says_what_to_install(tmp_path: Path) -> None:
    """Without these packages in the environment."""
    for folder in map(Path, site.getsitepackages()):
        for entry in folder.iterdir():
            if not entry.name.startswith("onnx"):
                (tmp_path / entry.name).symlink_to(entry)
    code = "from harness.export.formats import check_formats as c; print(c(('pt2',)), flush=True); c(('onnx',))"
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    process = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "('pt2',)" in process.stdout, process.stderr
    assert "packages that are not installed: onnx, onnxruntime, onnxscript" in process.stderr
    assert "pip install -e '.[onnx]'" in process.stderr
