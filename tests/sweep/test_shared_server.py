"""`harness doctor` where others use the same MLflow server; and that it writes nothing without --fix."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness.data import DEMO_FOLDER
from tests.support.commands import Harness, command, last_json
from tests.support.processes import family, kill_all, wait_for
from tests.support.servers import Server
from tests.support.stores import Stores, epochs_on_record

pytestmark = pytest.mark.process

FCNN = ["--data", "demo", "--model", "fcnn", "--pruner", "none", "--jobs", "1"]


@pytest.fixture
def work_folders(tmp_path: Path, empty_stores: Path, demo_data: Path) -> tuple[Path, Path]:
    """Two folders, each with an Optuna storage and a work folder of its own."""
    folders = (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        (folder / "mlruns").mkdir(parents=True)
        (folder / "input").mkdir()
        shutil.copy(empty_stores / "optuna.db", folder / "mlruns" / "optuna.db")
        (folder / DEMO_FOLDER).symlink_to(demo_data)
    return folders


def on_record(client: MlflowClient) -> dict[str, tuple[str, dict[str, str]]]:
    """Every run: its status, and its tags but for the heartbeats."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return {
        run.info.run_id: (
            run.info.status,
            {name: value for name, value in run.data.tags.items() if not name.startswith("alive.")},
        )
        for run in client.search_runs(ids)
    }


def is_long(tags: dict[str, str]) -> bool:
    return (tags["kind"], tags.get("study")) == ("trial", "long")


def running(client: MlflowClient) -> list[str]:
    return sorted(tags["kind"] for status, tags in on_record(client).values() if status == "RUNNING")


def silence(client: MlflowClient, minutes: int) -> None:
    """Make the last heartbeat of every run older."""
    seen = (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(ids):
        for name, value in run.data.tags.items():
            if name.startswith("alive."):
                client.set_tag(run.info.run_id, name, json.dumps({**json.loads(value), "seen": seen}))


def copy_database(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as opened, closing(sqlite3.connect(target)) as copy:
        opened.backup(copy)


def test_the_live_and_the_dead_work_of_others(
    work_folders: tuple[Path, Path],
    empty_stores: Path,
    mlflow_server: Server,
    inside: Harness,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, theirs = work_folders
    at = ["--tracking-uri", mlflow_server.url]
    monkeypatch.chdir(theirs)
    for seed in ("0", "1"):
        words = ["--study", f"s{seed}", "--seed", seed, "--trials", "1", "--epochs", "400"]
        inside("sweep", *FCNN, *words, *at)
    client = MlflowClient(mlflow_server.url)
    long = ["sweep", *FCNN, "--study", "long", "--trials", "1", "--epochs", "100000", *at]
    compare = ["compare", "--study", "s0", "--study", "s1", "--repeats", "5", "--no-baselines", *at]
    processes = [
        subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=theirs)
        for words in (long, compare)
    ]
    try:
        wait_for(lambda: running(client) == ["comparison", "study", "trial"])
        wait_for(lambda: any("trial_state" in tags for _, tags in on_record(client).values() if is_long(tags)))
        for pid in [processes[1].pid, *family(processes[1].pid)]:
            os.kill(pid, signal.SIGSTOP)  # however fast the machine, the comparison does not end meanwhile
        before = on_record(client)

        monkeypatch.chdir(mine)
        for options in ([], ["--fix"], ["--fix", "--dead-after", "2"]):
            findings = last_json(inside("doctor", "--json", *options, *at))
            assert {(found["fault"], found["fixed"]) for found in findings} == {(False, False)}
            said = {found["study"]: found["found"] for found in findings}
            for study, process in zip(("long", None), processes, strict=True):
                assert f"process {process.pid} on {os.uname().nodename} (last heartbeat 20" in said[study]
            assert on_record(client) == before
        report = inside("doctor", "--fix", *at).stdout
        assert report.count("\nother  ") + report.startswith("other  ") == 2
        assert "try:   if it is dead: harness doctor --fix on" in report
        assert report.endswith("\nnothing is wrong on this machine\n")

        # A study of the same name in another storage: it is not the one on record, and is not made.
        refused = inside("sweep", *FCNN, "--study", "long", "--trials", "1", "--epochs", "1", *at, code=1).stderr
        assert "MLflow has another study 'long'" in refused
        assert inside("doctor", "--fix", *at).stdout.endswith("\nnothing is wrong on this machine\n")
        assert on_record(client) == before
        inside("doctor", "--fix", *at, "--storage", f"sqlite:///{theirs}/mlruns/optuna.db")  # its own doctor
        assert on_record(client) == before

        # A copy of the other storage knows the study, but not how its trials stand.
        copy_database(theirs / "mlruns" / "optuna.db", mine / "mlruns" / "optuna.db")
        found = last_json(inside("doctor", "--fix", "--json", *at))
        assert [finding["study"] for finding in found if not finding["fault"]] == ["long", None]
        assert on_record(client) == before
        shutil.copy(empty_stores / "optuna.db", mine / "mlruns" / "optuna.db")
    finally:
        for process in processes:
            kill_all(process)

    for options in ([], ["--fix"]):  # dead for good, but nobody here can know that yet
        found = last_json(inside("doctor", "--json", *options, *at))
        assert [finding["fault"] for finding in found] == [False, False]
        assert on_record(client) == before
    silence(client, minutes=16)
    last_json(inside("doctor", "--fix", "--json", "--dead-after", "20", *at))
    assert running(client) == ["comparison", "study", "trial"]
    report = inside("doctor", *at, code=1).stdout
    assert report.count("no heartbeat for 15 minutes, the last from process") == 3
    assert on_record(client) == before
    found = last_json(inside("doctor", "--fix", "--json", *at))
    assert [finding["fixed"] for finding in found] == [True] * 3
    after = on_record(client)
    assert running(client) == []
    changed = {run_id for run_id, (status, _) in before.items() if status == "RUNNING"}
    for run_id, (status, tags) in after.items():
        if run_id in changed:
            assert status == "KILLED"
            assert tags["mended"].startswith("no process worked on it: process ")
        else:
            assert (status, tags) == before[run_id]
    assert inside("doctor", *at).stdout == "nothing is wrong\n"


def contents(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every file and folder: size, time of change, hash; not `-shm`, SQLite's shared memory, which has no data."""
    found = {}
    for path in folder.rglob("*"):
        if not path.name.endswith("-shm"):
            status = path.lstat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            size = status.st_size if path.is_file() else 0
            found[str(path.relative_to(folder))] = (size, status.st_mtime_ns, digest)
    return found


def test_nothing_is_written_in_good_order(place: Path, inside: Harness, harness: Harness) -> None:
    """First while nobody has the databases open, then while somebody does: this process, after a sweep."""
    for work in (lambda: None, lambda: inside("sweep", *FCNN, "--study", "s", "--trials", "1", "--epochs", "1")):
        work()
        before = contents(place)
        assert "mlruns/mlflow.db" in before
        assert harness("doctor").stdout == "nothing is wrong\n"
        assert contents(place) == before
    for run in (*Stores.here().runs("s", "study"), *Stores.here().runs("s", "trial")):
        assert not any(name.startswith("alive.") for name in run.data.tags)


def test_nothing_is_written_after_a_kill(place: Path, inside: Harness, harness: Harness) -> None:
    """The write-ahead logs are not empty, trials and runs are left RUNNING, and the study's lock file is gone."""
    process = subprocess.Popen(
        command("sweep", *FCNN, "--study", "s", "--trials", "1", "--epochs", "100000"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    work_folder = place / "mlruns" / "work" / "s"
    wait_for(lambda: epochs_on_record(work_folder) > 1 and bool(Stores.here().runs("s", "study")))
    kill_all(process)
    (work_folder / "claim.lock").unlink()
    before = contents(place)
    assert {"mlruns/mlflow.db-wal", "mlruns/optuna.db-wal"} <= set(before)
    found = harness("doctor", code=1).stdout
    assert "s: trial 0 was RUNNING, and no process runs it" in found
    assert contents(place) == before
    inside("doctor", "--fix")
    assert inside("doctor").stdout == "nothing is wrong\n"


def test_nothing_is_written_without_stores(
    tmp_path: Path, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no store" in harness("doctor", code=1).stdout
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_the_studies_are_on_a_server(
    place: Path,
    inside: Harness,
    new_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = ["--storage", new_database(), "--tracking-uri", f"sqlite:///{place}/mlruns/mlflow.db"]
    inside("sweep", *FCNN, "--study", "s", "--trials", "1", "--epochs", "1", *at)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = contents(tmp_path)
    assert inside("doctor", *at).stdout == "nothing is wrong\n"
    assert contents(tmp_path) == before
