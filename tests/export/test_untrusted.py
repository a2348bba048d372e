"""Bundles and records of others: no code of theirs runs unless the user agrees, and damaged files are refused."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import CheckpointError, UntrustedCode
from harness.export.opening import open_bundle
from harness.sweep.summary import StudySummary
from tests.support.commands import Harness
from tests.support.exports import Export
from tests.support.planted import Planted
from tests.support.stores import Stores, artifacts
from tests.support.sweeps import sweep


@pytest.fixture
def shared(exported: Export, tmp_path: Path) -> Path:
    """A copy of an exported bundle, as if somebody had sent it."""
    return Path(shutil.copytree(exported.bundle.folder, tmp_path / "shared"))


@pytest.fixture
def _own_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has not named any code yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def change(path: Path, **architecture: Any) -> None:
    """Change the architecture in a `model.json`."""
    about = json.loads(path.read_text())
    about["architecture"] |= architecture
    path.write_text(json.dumps(about))


def keep(folder: Path, *names: str) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


@pytest.mark.usefixtures("_own_list")
def test_a_bundle_runs_no_model_file_that_it_names(shared: Path, demo_data: Path, inside: Harness) -> None:
    planted = Planted.at(shared / "net.py")
    keep(shared, "net.py", "model.json", "model.safetensors")
    arguments = ("predict", str(shared), str(demo_data / "features_30_sec.csv"))
    for digest in (None, "0" * 64):
        change(shared / "model.json", model=planted.name, source_digest=digest)
        assert "is not the code" in inside(*arguments, code=1).stderr
        assert "is not the code" in inside(*arguments, "--trust-code", code=1).stderr
    change(shared / "model.json", model=planted.name, source_digest=planted.digest)
    refusal = inside(*arguments, code=1).stderr.replace("\n", "")
    for words in (str(planted.path), planted.digest, "--trust-code"):
        assert words in refusal
    assert not planted.ran
    inside(*arguments, "--trust-code", code=1)  # the weights are those of another network
    assert planted.ran


@pytest.mark.usefixtures("_own_list")
def test_a_pt2_file_of_others_is_read_only_if_it_is_trusted(shared: Path, exported: Export) -> None:
    keep(shared, "model.json", "model.pt2")
    with pytest.raises(UntrustedCode, match=r"model\.pt2"):
        open_bundle(shared)
    assert open_bundle(shared, trust_code=True).suffixes
    keep(shared, "model.json")
    for name in ("model.pt2", "model.onnx"):
        shutil.copy(exported.bundle.folder / name, shared / name)
    assert open_bundle(shared).spread is None  # the ONNX file, which runs no code


def test_a_pt2_file_that_this_user_exported_is_read(shared: Path) -> None:
    keep(shared, "model.json", "model.pt2")
    assert open_bundle(shared).suffixes


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx", "model.safetensors"])
def test_one_flipped_bit_is_noticed(shared: Path, name: str) -> None:
    keep(shared, "model.json", name)
    whole = (shared / name).read_bytes()
    draw = random.Random(0)
    for _ in range(30):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (shared / name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            open_bundle(shared, trust_code=True)


def test_no_file_of_an_export_has_a_pickle(exported: Export) -> None:
    with zipfile.ZipFile(exported.bundle.folder / "model.pt2") as archive:
        for name in archive.namelist():
            if name.endswith("config.json"):
                config = json.loads(archive.read(name))["config"]
                assert not any(payload["use_pickle"] for payload in config.values())
            if name.endswith(".pt"):
                assert archive.read(name) == b""


@pytest.fixture
def swept(place: Path) -> StudySummary:
    return sweep(trials=1, epochs=1)


@pytest.mark.usefixtures("_own_list")
def test_export_runs_no_model_file_that_a_store_names(swept: StudySummary, inside: Harness) -> None:
    (run,) = Stores.here().runs("demo-fcnn", "trial")
    planted = Planted.at(Path("net.py"))
    change(artifacts(run) / "checkpoint" / "model.json", model=planted.name, source_digest=planted.digest)
    refusal = inside("export", "--run", run.info.run_id, "--out", "best", code=1).stderr
    assert planted.digest in refusal.replace("\n", "")
    assert not planted.ran
    assert not Path("best").exists()
    assert "test_openings" not in Stores.here().runs("demo-fcnn", "trial")[0].data.tags
