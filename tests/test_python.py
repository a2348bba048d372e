"""harness from Python: what the README shows, in a script without a guard, and what goes wrong."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import harness
from harness.compare.plan import CompareSettings
from harness.compare.traits.plan import TraitsSettings
from harness.core.errors import DataError, SettingsError
from harness.data import load_tracks
from harness.sweep.calling import model_file, settings_of
from tests.support import REPOSITORY

SCRIPT = """
import torch
from sklearn.datasets import load_wine
from torch import nn

import harness

{small}

wine = load_wine(as_frame=True)
data = harness.Dataset(features=wine.data, labels=wine.target_names[wine.target], name="wine")
settings = {{"data": data, "trials": 2, "epochs": 5, "progress": False}}
small = harness.sweep(model=Small, study="small", search={{"width": [4, 16]}}, **settings)
study = harness.sweep(model="fcnn", **settings)
assert len(study.trials()) == 2 and set(small.trials().width) <= {{4, 16}}
found = study.predict(wine.data)
assert (found.prediction == wine.target_names[wine.target]).mean() > 0.8
with torch.inference_mode():
    logits = study.network()(torch.tensor(wine.data.to_numpy("float32")))
assert torch.allclose(logits.softmax(1).double(), torch.tensor(found.iloc[:, 1:].to_numpy()), atol=1e-6)
print(harness.compare([study, small], repeats=5, baselines=False, untuned=False).verdict)
exported = harness.export(study, "best")
bundle = harness.load_bundle("best")
assert bundle.classes == ("class_0", "class_1", "class_2")
assert abs(bundle.predict(wine.data).iloc[:, 1:] - found.iloc[:, 1:]).to_numpy().max() < 1e-5
again = harness.load("wine-fcnn")
assert again.best.number == study.best.number and again.network_run_id == exported.run_id
print("done")
"""


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "python.md").read_text(), re.DOTALL)


def run(arguments: list[str], folder: Path) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_script_without_a_guard_does_all_of_it(tmp_path: Path) -> None:
    small = blocks()[1].partition("harness.sweep")[0]
    (tmp_path / "script.py").write_text(SCRIPT.format(small=small))
    printed = run(["script.py"], tmp_path)
    *_, verdict, last = printed.splitlines()
    assert last == "done"
    assert "fcnn" in verdict
    assert printed.count("done") == 1  # no worker ran the script again


@pytest.mark.parametrize(
    ("call", "found", "expected"),
    [
        (lambda: harness.sweep("fcnn", trails=40), "no setting 'trails'", "trials"),
        (lambda: harness.compare(["a", "b"], repeat=5), "no setting 'repeat'", "repeats"),
        (lambda: harness.compare(["a", "b"], repeats="ten"), "repeats is 'ten'", "int"),
        (lambda: harness.compare(["a", "b"], protocol="x"), "protocol is 'x'", "refit or holdout"),
        (lambda: harness.traits("a", data=3), "data is 3", "str"),
        (lambda: harness.compare(["a", "b"], jobs="many"), "jobs is 'many'", "auto"),
        (lambda: harness.traits("a", learner="forest"), "no setting 'learner'", "learners"),
    ],
)
def test_settings_that_do_not_exist_are_named(call: Callable[[], object], found: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=found) as caught:
        call()
    assert expected in str(caught.value)


def test_settings_may_be_written_as_on_the_command_line() -> None:
    found = settings_of(
        TraitsSettings, {"study": "s", "families": "f.toml", "jobs": "auto", "learners": ["forest"]}
    )
    assert found == TraitsSettings(study="s", families=Path("f.toml"), learners=("forest",))
    compared = settings_of(CompareSettings, {"studies": ["a", "b"], "jobs": "2", "data": Path("birds")})
    assert (compared.jobs, compared.data) == (2, "birds")


@pytest.mark.long
def test_the_first_example_of_the_page_runs(tmp_path: Path) -> None:
    code = blocks()[0].replace("trials=20", "trials=2, epochs=2")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "prediction" in done.stdout


@pytest.mark.long
def test_a_study_object_stays_with_its_stores_and_a_thread_can_sweep(tmp_path: Path) -> None:
    code = """
        import threading
        import numpy as np
        import pandas as pd
        import harness

        chance = np.random.default_rng(0)
        labels = np.arange(60) % 2

        def study(columns, folder):
            features = pd.DataFrame(chance.normal(size=(60, columns)) + labels[:, None])
            data = harness.Dataset(features=features, labels=labels, name="own")
            stores = {} if folder is None else {
                "tracking_uri": f"sqlite:///{folder}/mlflow.db", "storage": f"sqlite:///{folder}/optuna.db"
            }
            settings = {"trials": 1, "epochs": 2, "jobs": 1, "progress": False, **stores}
            return harness.sweep("fcnn", data=data, **settings)

        def in_thread():
            found.append(study(3, None))

        found = []
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        other = study(5, "other")
        assert len(harness.load_bundle(harness.export(other, "best").folder).columns) == 5
        assert len(harness.load_bundle(harness.export(found[0], "first").folder).columns) == 3
        frame = pd.DataFrame(chance.normal(size=(4, 5)))  # its columns are numbers, as those of the data set
        assert len(other.predict(frame)) == 4
        try:
            harness.compare([other, found[0]])
        except harness.core.errors.SettingsError as error:
            assert "different stores" in str(error)
        else:
            raise AssertionError("compared")
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(code))
    run(["script.py"], tmp_path)


def test_the_packages_are_functions_too() -> None:
    import harness.compare
    import harness.export
    import harness.sweep

    for name in ("sweep", "compare", "export"):
        function = getattr(harness, name)
        assert callable(function)
        assert "settings" in inspect.signature(function).parameters


def test_a_data_set_in_memory_is_a_folder(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(12.0), "y": np.arange(12.0) ** 2}, index=[f"row {n}" for n in range(12)])
    pictures = np.random.default_rng(0).integers(0, 256, (12, 20, 10), dtype=np.uint8)
    labels, groups = ["a", "b"] * 6, [n // 2 for n in range(12)]
    data = harness.Dataset(
        features=frame, labels=labels, pictures=pictures, groups=groups, item_word="row", synthetic=True
    )
    tracks = load_tracks(data.save(tmp_path / "set"))
    assert tracks.ids == tuple(sorted(frame.index))
    assert (tracks.columns, tracks.size, tracks.words.items) == (("x", "y"), (20, 10), "rows")
    assert tracks.synthetic
    assert tracks.groups is not None
    assert tracks.groups[tracks.ids.index("row 11")] == "5"
    assert (
        data.digest()
        == harness.Dataset(
            features=frame, labels=labels, pictures=pictures, groups=groups, item_word="row", synthetic=True
        ).digest()
    )
    assert data.digest() != harness.Dataset(features=frame, labels=labels).digest()


def test_a_data_set_has_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    data = harness.Dataset(features=np.eye(10), labels=["a", "b"] * 5)
    before = os.umask(0o077)
    try:
        assert data.save(tmp_path / "set").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_the_digest_of_a_data_set_is_of_its_content(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(4.0), "label": ["a", "b", "a", "b"], "farm": [1, 1, 2, 2]})
    groups = [list(frame["farm"]), frame["farm"], frame["farm"].to_numpy()]
    made = {harness.Dataset(features=frame[["x"]], labels=frame["label"], groups=each).digest() for each in groups}
    assert len(made) == 1
    array = np.zeros((4, 8, 6), dtype=np.uint8)
    shapes = [array, array.reshape(4, 6, 8), array.reshape(4, 4, 4, 3)]
    assert len({harness.Dataset(pictures=each, labels=frame["label"]).digest() for each in shapes}) == 3
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    found = []
    for brightness in (0, 9):
        for path in paths:
            Image.fromarray(array[0] + np.uint8(brightness)).save(path)
        found.append(harness.Dataset(pictures=paths, labels=frame["label"]).digest())
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a"] * 3}, "3 labels, 3 ids, 4 features"),
        ({"features": None}, "neither features nor pictures"),
        ({"labels": ["a/b"] * 4}, "'a/b' is no id or label"),
        ({"features": pd.DataFrame({"label": [1, 2, 3, 4]})}, "have a column 'label'"),
        ({"pictures": np.zeros((4, 8, 8))}, "the pictures are float64"),
    ],
)
def test_a_data_set_that_does_not_fit(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"features": np.zeros((4, 2)), "labels": ["a"] * 4, **change}
    with pytest.raises(DataError, match=message):
        harness.Dataset(**given).save(tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_a_class_without_source_says_what_to_do(tmp_path: Path) -> None:
    made = type("Made", (), {})
    with pytest.raises(SettingsError, match="the source of Made is not known") as raised:
        model_file(made, tmp_path)
    assert "FILE.py:Made" in str(raised.value.hint)
