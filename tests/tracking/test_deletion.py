"""Deleting runs: their own folder goes, and nothing else, whatever the store says where their files are."""

import sqlite3
from pathlib import Path

import pytest

from harness.core.errors import TrackingError
from harness.tracking import Tracker
from harness.tracking.artifacts import Artifacts
from tests.support.commands import Harness
from tests.support.stores import Stores
from tests.support.sweeps import train_without_uploading


@pytest.fixture
def tracker(workspace: Path) -> Tracker:
    return Tracker(f"sqlite:///{workspace}/mlruns/mlflow.db")


def new_run(tracker: Tracker) -> tuple[str, Path]:
    """Make a run with one file; return its id and its folder."""
    run_id = tracker.runs.create(tracker.experiment_id("demo"), "a run", {})
    tracker.artifacts.log_json(run_id, {}, "a.json")
    folder = Path.cwd() / "mlruns" / "artifacts" / "demo" / run_id
    assert (folder / "artifacts" / "a.json").is_file()
    return run_id, folder


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of the user's with a file in it, in a folder named `artifacts`."""
    folder = tmp_path / "precious"
    (folder / "artifacts" / "checkpoint").mkdir(parents=True)
    (folder / "artifacts" / "checkpoint" / "thesis.txt").write_text("five years of work")
    return folder


def is_whole(precious: Path) -> bool:
    return (precious / "artifacts" / "checkpoint" / "thesis.txt").is_file()


def record_elsewhere(run_id: str, uri: str) -> None:
    """Do what a colleague with the database could do."""
    with sqlite3.connect("mlruns/mlflow.db", timeout=60) as connection:
        assert connection.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (uri, run_id)).rowcount
    connection.close()


def test_the_folder_of_a_run_goes(tracker: Tracker) -> None:
    run_id, folder = new_run(tracker)
    other, kept = new_run(tracker)
    assert tracker.artifacts.delete_run(run_id) is None
    assert not folder.exists()
    assert (kept / "artifacts" / "a.json").is_file()
    assert tracker.runs.get(other).run_id == other
    without_files = tracker.runs.create(tracker.experiment_id("demo"), "no files", {})
    assert tracker.artifacts.delete_run(without_files) is None


def test_a_store_that_is_reached_by_a_link(tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "link").symlink_to(workspace / "mlruns")
    tracker = Tracker(f"sqlite:///{tmp_path}/link/mlflow.db")
    run_id, folder = new_run(tracker)
    assert Tracker(f"sqlite:///{workspace}/mlruns/mlflow.db").artifacts.delete_run(run_id) is None
    assert not folder.exists()


@pytest.mark.parametrize(
    "place",
    [
        "file://{precious}/artifacts",
        "{precious}/artifacts",
        "file://{mlruns}/artifacts/demo/{run}/../../../../../precious/artifacts",
        "file://{mlruns}/artifacts/demo/../../../../precious/artifacts",
        "file://{precious}/{run}/artifacts",
        "file://{mlruns}/artifacts/demo/{other}/artifacts",
        "models:/{run}/artifacts",
        "runs:/{other}/{run}/artifacts",
    ],
)
def test_what_lies_elsewhere_stays(tracker: Tracker, precious: Path, place: str) -> None:
    run_id, folder = new_run(tracker)
    other, others = new_run(tracker)
    uri = place.format(precious=precious, mlruns=Path.cwd() / "mlruns", run=run_id, other=other)
    record_elsewhere(run_id, uri)
    assert tracker.artifacts.delete_run(run_id) == uri
    assert is_whole(precious)
    assert (others / "artifacts" / "a.json").is_file()
    assert folder.exists()


@pytest.mark.parametrize("linked", ["artifacts", "artifacts/demo", "artifacts/demo/{run}"])
def test_links_are_not_followed(tracker: Tracker, tmp_path: Path, linked: str) -> None:
    run_id, _ = new_run(tracker)
    link = Path("mlruns", linked.format(run=run_id))
    link.rename(tmp_path / "moved")
    link.symlink_to(tmp_path / "moved")
    assert tracker.artifacts.delete_run(run_id) is not None
    assert next((tmp_path / "moved").rglob("a.json")).is_file()


def test_for_a_server_nothing_is_removed_from_this_machine(tracker: Tracker, precious: Path) -> None:
    run_id, folder = new_run(tracker)
    of_server = Artifacts(tracker.client, tracker.uri, database=None)
    assert of_server.delete_run(run_id) == f"file://{folder}/artifacts"
    assert (folder / "artifacts" / "a.json").is_file()


def test_a_checkpoint_elsewhere_stays(tracker: Tracker, precious: Path) -> None:
    """`--keep best:1` removes checkpoints, too."""
    run_id, _ = new_run(tracker)
    record_elsewhere(run_id, f"file://{precious}/artifacts")
    with pytest.raises(TrackingError, match="was not removed"):
        tracker.artifacts.remove_checkpoint(run_id)
    assert is_whole(precious)


def test_the_command_says_what_it_left(place: Path, inside: Harness, precious: Path) -> None:
    train_without_uploading(trials=1, epochs=1).uploader.pump(flush=True)
    (run,) = Stores.here().runs("demo-fcnn", "trial")
    record_elsewhere(run.info.run_id, f"file://{precious}/artifacts")
    done = inside("delete", "demo-fcnn", "--yes")
    assert done.stdout == "deleted study demo-fcnn and 2 runs, but not all their files (1 folders)\n"
    assert f"not deleted, because it is no folder of this store: 'file://{precious}/artifacts'" in done.stderr
    assert is_whole(precious)
    assert Stores.here().runs("demo-fcnn", "trial") == []
