"""The registered model: its content in MLflow, and its use by processes without this package."""

import base64
import csv
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness.export.bundle import export_best
from tests.support.commands import python
from tests.support.exports import Export, by_hand, same
from tests.support.servers import Server, free_port, wait_for_url
from tests.support.sweeps import sweep

LOADED = """
import json, sys, mlflow, pandas as pd
picture, csv, track, uri = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri)
frame = pd.read_csv(csv)
frame = frame[frame.filename == track]
if "both" in uri:
    frame = frame.assign(picture=[open(picture, "rb").read()])
elif "fcnn" in uri:
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


@pytest.mark.long
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


def test_the_registered_version(exported: Export) -> None:
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
        "mlflow", "torch", "numpy", "pandas", *(["pillow"] if exported.bundle.model != "fcnn" else []),
    }  # fmt: skip
    assert not [line for line in required if "+" in line or "==" not in line]
    assert (folder / "pyfunc_model.py").read_text().count("harness") == 1  # in its docstring


@pytest.mark.machines
@pytest.mark.parametrize("exported", ["demo-fcnn", "demo-cnn"], indirect=True)
def test_it_is_served_over_http(exported: Export, tmp_path: Path, stranger: dict[str, str]) -> None:
    picture, track = exported.sample()
    registered = exported.bundle.registered
    assert registered is not None
    port = free_port()
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
        wait_for_url(f"http://127.0.0.1:{port}/ping", server, tmp_path / "log")
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


def test_a_model_is_registered_on_a_server(
    place: Path, demo_data: Path, tmp_path: Path, stranger: dict[str, str], mlflow_server: Server
) -> None:
    study = sweep(trials=1, epochs=3, tracking_uri=mlflow_server.url)
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
