"""Models from files: what they must declare, and all commands with one of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from threading import Event

import pytest
import torch

from harness.core.errors import SettingsError
from harness.core.space import Choice, Range
from harness.models.external import check_network
from harness.models.registry import model_spec
from harness.sweep.driver import open_study
from harness.sweep.joining import join_study
from harness.sweep.placing import worker_tasks
from harness.sweep.plan import plan_sweep
from harness.sweep.worker import work_at
from harness.training.checkpoint import load_checkpoint
from harness.training.hyperparameters import default_space
from tests.support import EXPERIMENTS
from tests.support.commands import Harness, last_json
from tests.support.planted import Planted
from tests.support.sweeps import changed, sweep

RESIDUAL = EXPERIMENTS / "residual_mlp.py"
GOOD = """
from torch import nn

class Small(nn.Sequential):
    representation = "features"
    search = {"lr": {"low": 1e-3, "high": 1e-2}, "batch_size": [16, 64]}
    threads = 1

    def __init__(self, inputs, classes):
        super().__init__(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, classes))
"""


def written(text: str, folder: Path) -> str:
    (folder / "models.py").write_text(text)
    return f"{folder}/models.py:Small"


def test_the_example(tmp_path: Path) -> None:
    spec = model_spec(f"{RESIDUAL}:ResidualMLP")
    assert (spec.label, spec.representation, spec.threads) == ("ResidualMLP", "features", 1)
    check_network(spec, 57, 4)
    logits = spec.network(58, 10).eval()(torch.zeros(3, 58))
    assert logits.shape == (3, 10)


def test_its_search_space_is_read(tmp_path: Path) -> None:
    spec = model_spec(written(GOOD, tmp_path))
    assert default_space(spec) == {"lr": Range(1e-3, 1e-2, log=True), "batch_size": Choice((16, 64))}
    assert spec.source_digest is not None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("class Small", "class Other"), "has no class 'Small'"),
        (("nn.Sequential", "object"), "has no class 'Small' that is a torch.nn.Module"),
        (('"features"', '"sounds"'), "representation is 'sounds'"),
        (("1e-3", "-1"), "search: lr: low is -1"),
        (("batch_size", "depth"), "there is no hyperparameter 'depth'"),
        (("threads = 1", "threads = 0"), "threads is 0"),
        (("from torch", "import nothing_of_that_name\nfrom torch"), "cannot be run: ModuleNotFoundError"),
    ],
)
def test_what_a_file_must_hold(tmp_path: Path, change: tuple[str, str], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        default_space(model_spec(written(GOOD.replace(*change), tmp_path)))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match=r"there is no file nowhere\.py"):
        model_spec("nowhere.py:Small")
    with pytest.raises(SettingsError, match="there is no model"):
        model_spec("resnet")


def test_a_network_of_the_wrong_shape_is_found_before_a_study_is_made(tmp_path: Path) -> None:
    wrong = model_spec(written(GOOD.replace("nn.Linear(16, classes)", "nn.Linear(16, 3)"), tmp_path))
    with pytest.raises(SettingsError, match=r"gives \(2, 3\) .*"):
        check_network(wrong, 58, 10)
    broken = model_spec(written(GOOD.replace("nn.Linear(16, classes)", "nn.Linear(17, classes)"), tmp_path))
    with pytest.raises(SettingsError, match="fails on"):
        check_network(broken, 58, 10)


@pytest.mark.long
def test_swept_compared_and_exported_like_the_built_in_ones(place: Path, demo_data: Path, inside: Harness) -> None:
    model = written(GOOD, Path())
    inside("sweep", "--model", model, "--data", "demo", "--trials", "2", "--epochs", "2")
    inside("sweep", "--model", "fcnn", "--data", "demo", "--trials", "2", "--epochs", "2")
    found = last_json(inside("compare", "--data", "demo", "--repeats", "5", "--no-baselines", "--json"))
    assert [(row["name"], row["study"]) for row in found["models"]] == [
        ("Small", "demo-Small"),
        ("fcnn", "demo-fcnn"),
    ]
    assert found["models"][0]["parameters"] == 58 * 16 + 16 + 16 * 10 + 10
    exported = last_json(inside("export", "--model", model, "--experiment", "demo", "--out", "small", "--json"))
    assert exported["model"] == model
    load_checkpoint(Path("small"))
    table = str(demo_data / "features_30_sec.csv")
    wanted = last_json(inside("predict", "small", table, "--json"))["predictions"]

    # Without the file, as on another machine, the exported program does.
    Path("models.py").unlink()
    assert last_json(inside("predict", "small", table, "--json"))["predictions"] == wanted
    Path("small", "model.pt2").unlink()
    assert "there is no file models.py" in inside("predict", "small", table, code=1).stderr

    # Changed code is not the code that was trained: neither a sweep nor a checkpoint takes it for that.
    written(GOOD.replace("nn.ReLU()", "nn.GELU()"), Path())
    refusal = inside("sweep", "--model", model, "--data", "demo", "--trials", "3", "--epochs", "2", code=1).stderr
    assert f"the file of the model {model} has changed since" in " ".join(refusal.split())
    with pytest.raises(SettingsError, match="is not the code that"):
        load_checkpoint(Path("small"))
    assert json.loads((Path("small") / "model.json").read_text())["architecture"]["source_digest"]


@pytest.mark.long
def test_a_study_of_others_runs_no_code_before_the_user_agrees(
    place: Path, inside: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted.at(Path("planted.py"))
    inside("sweep", "--model", planted.name, "--data", "demo", "--trials", "1", "--epochs", "1", "--jobs", "1")
    sweep(trials=1, epochs=1)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of another user"))
    Planted.at(planted.path)  # new bytes would be refused by their digest; these are the same
    planted.mark.unlink()
    sys.modules.pop(f"harness_model_{planted.digest}")
    comparison = ("compare", "--experiment", "demo", "--data", "demo", "--repeats", "5", "--no-baselines")
    for command in (("worker", "--study", "demo-Small"), comparison):
        refusal = inside(*command, code=1).stderr.replace("\n", "")
        for words in (str(planted.path), planted.digest, "--trust-code"):
            assert words in refusal
    assert not planted.ran
    inside("worker", "--study", "demo-Small", "--trust-code")
    assert planted.ran


@pytest.mark.long
def test_a_worker_refuses_changed_code_before_it_runs(place: Path, tmp_path: Path) -> None:
    """At the start of any worker, a replacement too, and where another machine joins the study."""
    settings = changed(model=written(GOOD, tmp_path), study="s", trials=1, epochs=1)
    sweep(settings)
    more = plan_sweep(changed(settings, trials=2))
    (task_of,) = worker_tasks(more, open_study(more))
    task_of("first").material.trainer("cpu", 1)

    ran = tmp_path / "ran"
    written(f"from pathlib import Path\nPath({str(ran)!r}).touch()\n{GOOD}", tmp_path)
    with pytest.raises(SettingsError, match="is not the code that study 's' was made with"):
        work_at(task_of("replacement"), Event())
    with pytest.raises(SettingsError, match="is not the code that study 's' was made with"):
        join_study("s", more.stores, data=None, jobs=1, device="cpu", timeout=None)
    assert not ran.exists()
    model_spec(settings.model)
    assert ran.exists()
