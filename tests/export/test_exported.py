"""The files and the model card of an export, used by processes without this package."""

import json
import re
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file

from harness.core.files import sha256_of
from harness.core.records import SYNTHETIC
from tests.support.commands import python
from tests.support.exports import ALL, Export


def test_the_files_of_an_export(exported: Export) -> None:
    folder, bundle = exported.bundle.folder, exported.bundle
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "model.json", "model.safetensors", "model.pt2", "model.onnx",
    }  # fmt: skip
    assert [check.format for check in bundle.formats] == list(ALL)
    for check in bundle.formats:
        assert check.largest_difference < 1e-5
        assert check.accuracy == bundle.test.accuracy
        assert sha256_of(folder / check.file) == check.sha256
    about = json.loads((folder / "model.json").read_text())
    assert [check["format"] for check in about["formats"]] == list(ALL)
    text = bundle.as_text()
    assert len(re.findall("largest difference of a probability \\d", text)) == 3
    assert "registered as models:/" in text
    assert not list(exported.place.glob(".best*"))
    run = MlflowClient(exported.uri).get_run(bundle.run_id)
    assert run.data.tags["test_openings"] == "1"
    assert run.info.status == "FINISHED"


def test_the_card(exported: Export) -> None:
    card, bundle = (exported.bundle.folder / "README.md").read_text(), exported.bundle
    about = json.loads((bundle.folder / "model.json").read_text())
    assert (SYNTHETIC in card) == bundle.synthetic
    assert f"{bundle.test.low:.3f} to {bundle.test.high:.3f}" in card
    assert f"{bundle.val_accuracy:.3f} (" in card
    for word in (
        bundle.run_id,
        about["split"],
        *about["architecture"]["genres"],
        *about["architecture"]["columns"],
    ):
        assert word in card
    assert max(len(line) for line in card.splitlines() if "`, `" not in line) < 300


@pytest.mark.long
def test_the_cards_examples_run_without_this_package(
    exported: Export, tmp_path: Path, stranger: dict[str, str]
) -> None:
    picture, _ = exported.sample()
    work = shutil.copytree(exported.bundle.folder, tmp_path / "work")
    shutil.copy(picture, work / "picture.png")
    shutil.copy(exported.data / "features_30_sec.csv", work)
    blocks = re.findall("```python\n(.*?)```", (work / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    outputs = []
    for block in blocks:
        assert len(block.splitlines()) <= (8 if exported.bundle.model == "both" else 5)
        outputs.append(python(block, work, {**stranger, "MLFLOW_TRACKING_URI": exported.uri}))
    pt2, onnx, weights, registered = outputs
    assert pt2 == onnx
    tensors = load_file(work / "model.safetensors")
    assert weights.splitlines() == [f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()]
    first = re.findall(r"\w+", pt2)[0]
    assert re.search(rf"^0 +{first} ", registered, re.MULTILINE)
