"""An export as a whole: its files, its card and its registered model, used by processes without this package."""

import base64
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Server, python
from mlflow import MlflowClient
from safetensors.torch import load_file

from harness.core.files import sha256_of
from harness.export.bundle import Bundle, export_best
from harness.sweep.driver import StudySummary, open_study, run_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.settings import SweepSettings
from harness.training.checkpoint import load_checkpoint

ALL = ("safetensors", "pt2", "onnx")


@dataclass(frozen=True)
class Export:
    """A study's best, exported in every format and registered."""

    data: Path
    place: Path
    study: StudySummary
    bundle: Bundle

    @property
    def uri(self) -> str:
        return self.study.tracking_uri

    def sample(self) -> tuple[Path, str]:
        """A picture of the data set and the track's name in the CSV."""
        picture = sorted((self.data / "images_original").glob("*/*.png"))[7]
        with (self.data / "features_30_sec.csv").open() as file:
            names = {row["filename"].replace(".", ""): row["filename"] for row in csv.DictReader(file)}
        return picture, names[f"{picture.stem.replace('.', '')}wav"]


def sweep(place: Path, **settings: Any) -> StudySummary:
    stores = {"tracking_uri": f"sqlite:///{place}/mlflow.db", "storage": f"sqlite:///{place}/optuna.db"}
    plan = plan_sweep(SweepSettings(**{"jobs": 1, "pruner": "none", **stores, **settings}))
    return run_sweep(plan, open_study(plan))


@pytest.fixture(scope="module", params=["demo-fcnn", "demo-cnn", "gtzan-fcnn", "gtzan-cnn"])
def exported(
    request: pytest.FixtureRequest, empty_stores: Path, tmp_path_factory: pytest.TempPathFactory
) -> Export:
    name, model = request.param.split("-")
    data: Path = request.getfixturevalue("demo_data" if name == "demo" else "gtzan")
    place = tmp_path_factory.mktemp("exported")
    for database in ("optuna.db", "mlflow.db"):
        shutil.copy(empty_stores / database, place / database)
    study = sweep(place, model=model, data=str(data), trials=1, epochs=1 if model == "cnn" else 5)
    bundle = export_best(
        place / "best", study=request.param, tracking_uri=f"sqlite:///{place}/mlflow.db", formats=ALL
    )
    return Export(data, place, study, bundle)


def test_what_an_export_leaves(exported: Export) -> None:
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
    assert ("data are synthetic" in card) == bundle.synthetic
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


def test_the_cards_lines_run_elsewhere(exported: Export, tmp_path: Path, stranger: dict[str, str]) -> None:
    picture, _ = exported.sample()
    work = shutil.copytree(exported.bundle.folder, tmp_path / "work")
    shutil.copy(picture, work / "picture.png")
    shutil.copy(exported.data / "features_30_sec.csv", work)
    blocks = re.findall("```python\n(.*?)```", (work / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    outputs = []
    for block in blocks:
        assert len(block.splitlines()) <= 5
        outputs.append(python(block, work, {**stranger, "MLFLOW_TRACKING_URI": exported.uri}))
    pt2, onnx, weights, registered = outputs
    assert pt2 == onnx
    tensors = load_file(work / "model.safetensors")
    assert weights.splitlines() == [f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()]
    first = re.findall(r"\w+", pt2)[0]
    assert re.search(rf"^0 +{first} ", registered, re.MULTILINE)


LOADED = """
import json, sys, mlflow, pandas as pd
picture, csv, track, uri = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri)
if "fcnn" in uri:
    frame = pd.read_csv(csv)
    frame = frame[frame.filename == track]
    floats = model.predict(frame[model.metadata.signature.inputs.input_names()].astype("float64"))
    pd.testing.assert_frame_equal(floats, model.predict(frame))
else:
    frame = pd.DataFrame({"picture": [open(picture, "rb").read()]}, index=["a"])
table = model.predict(frame)
assert list(table.index) == list(frame.index)
assert list(table.columns) == model.metadata.signature.outputs.input_names()
assert len(model.predict(pd.concat([frame, frame]))) == 2
assert not {"harness", "torchvision"} & set(sys.modules)
print(json.dumps(table.to_dict("records")))
"""


def by_hand(exported: Export) -> dict[str, Any]:
    """What the exported network gives for the sample, as the registered model words it."""
    classifier, about = load_checkpoint(exported.bundle.folder)
    picture, track = exported.sample()
    genres, columns = about.architecture.genres, about.architecture.columns
    with torch.inference_mode():
        if columns:
            with (exported.data / "features_30_sec.csv").open() as file:
                row = next(row for row in csv.DictReader(file) if row["filename"] == track)
            inputs = torch.tensor([[float(row[column]) for column in columns]])
        else:
            from harness.data.images import raw_pictures

            inputs = raw_pictures([picture])
        (probabilities,) = torch.softmax(classifier(inputs), 1).tolist()
    best = max(range(len(genres)), key=probabilities.__getitem__)
    return {"genre": genres[best], **dict(zip(genres, probabilities, strict=True))}


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    assert found["genre"] == wanted["genre"]
    numbers = [{name: value for name, value in row.items() if name != "genre"} for row in (found, wanted)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)


def test_the_registered_model_loads(exported: Export, tmp_path: Path, stranger: dict[str, str]) -> None:
    picture, track = exported.sample()
    registered = exported.bundle.registered
    assert registered is not None
    experiment = "demo" if exported.bundle.synthetic else "gtzan"
    assert registered.uri == f"models:/{experiment}-{exported.bundle.model}@champion"
    arguments = [str(picture), str(exported.data / "features_30_sec.csv"), track, registered.uri]
    code = f"import sys; sys.argv = {['-', *arguments]!r}\n{LOADED}"
    output = python(code, tmp_path, {**stranger, "MLFLOW_TRACKING_URI": exported.uri})
    (found,) = json.loads(output.splitlines()[-1])
    same(found, by_hand(exported))


def test_what_is_registered(exported: Export) -> None:
    client, registered = MlflowClient(exported.uri), exported.bundle.registered
    assert registered is not None
    version = client.get_model_version_by_alias(registered.name, "champion")
    assert (version.run_id, int(version.version)) == (exported.bundle.run_id, 1)
    outputs = client.get_run(exported.bundle.run_id).outputs
    assert outputs is not None
    (model_id,) = [output.model_id for output in outputs.model_outputs]
    logged = client.get_logged_model(model_id)
    assert str(logged.status) == "READY"
    folder = Path(logged.artifact_location.removeprefix("file://"))
    files = {path.name for path in folder.rglob("*")}
    assert {"MLmodel", "pyfunc_model.py", "model.pt2", "input_example.json", "requirements.txt"} <= files
    assert not {name for name in files if name.endswith((".pkl", ".pickle", ".pth"))}
    required = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in required} == {
        "mlflow", "torch", "numpy", "pandas", *(["pillow"] if exported.bundle.model == "cnn" else []),
    }  # fmt: skip
    assert not [line for line in required if "+" in line or "==" not in line]
    assert (folder / "pyfunc_model.py").read_text().count("harness") == 1  # in its docstring


@pytest.mark.parametrize("exported", ["demo-fcnn", "demo-cnn"], indirect=True)
def test_it_is_served_over_http(exported: Export, tmp_path: Path, stranger: dict[str, str]) -> None:
    picture, track = exported.sample()
    registered = exported.bundle.registered
    assert registered is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["models", "serve", "-m", registered.uri, "-h", "127.0.0.1", "-p", str(port), "-w", "1"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments, "--env-manager", "local"],
            cwd=tmp_path,
            env={**stranger, "MLFLOW_TRACKING_URI": exported.uri},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, tmp_path / "log")
        if exported.bundle.model == "fcnn":
            with (exported.data / "features_30_sec.csv").open() as file:
                row = next(row for row in csv.DictReader(file) if row["filename"] == track)
            row = {name: json.loads(text) for name, text in row.items() if name not in ("filename", "label")}
        else:
            row = {"picture": base64.b64encode(picture.read_bytes()).decode()}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": [row, row]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            predictions = json.load(answer)["predictions"]
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=60)
    assert len(predictions) == 2
    for found in predictions:
        same(found, by_hand(exported))


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(log.read_text())


def test_on_a_server(
    place: Path, demo_data: Path, tmp_path: Path, stranger: dict[str, str], mlflow_server: Server
) -> None:
    study = sweep(place, model="fcnn", data="demo", trials=1, epochs=3, tracking_uri=mlflow_server.url)
    bundles = [
        export_best(Path(name), study="demo-fcnn", tracking_uri=mlflow_server.url, formats=("pt2",))
        for name in ("a", "b")
    ]
    assert [bundle.registered and bundle.registered.version for bundle in bundles] == ["1", "1"]
    sample = Export(
        demo_data, place, study, export_best(Path("c"), run_id=study.best_run_id, tracking_uri=study.tracking_uri)
    )
    picture, track = sample.sample()
    arguments = [str(picture), str(demo_data / "features_30_sec.csv"), track, "models:/demo-fcnn@champion"]
    code = f"import sys; sys.argv = {['-', *arguments]!r}\n{LOADED}"
    output = python(code, tmp_path, {**stranger, "MLFLOW_TRACKING_URI": mlflow_server.url})
    same(json.loads(output.splitlines()[-1])[0], by_hand(sample))
