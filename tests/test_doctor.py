"""`harness doctor`, and the faults it is for."""

import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Harness, Server, command, last_json
from invariants import Stores, epochs_on_record, kill_all, left_behind, wait_for, workers

SWEEP = ["sweep", "--data", "demo", "--pruner", "none"]


def work_folder(study: str) -> Path:
    return Path.cwd() / "mlruns" / "work" / study


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*SWEEP, *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run_killed(study: str) -> None:
    """A sweep of which everything is killed in mid-trial."""
    process = start("--model", "fcnn", "--trials", "2", "--epochs", "500", "--jobs", "1", "--study", study)
    wait_for(lambda: epochs_on_record(work_folder(study)) > 1)
    kill_all(process)


def test_healthy_stores(place: Path, inside: Harness) -> None:
    inside(*SWEEP, "--model", "fcnn", "--trials", "2", "--epochs", "1")
    assert inside("doctor").stdout == "nothing is wrong\n"
    assert last_json(inside("doctor", "--fix", "--json")) == []


def test_after_everything_was_killed(place: Path, inside: Harness) -> None:
    run_killed("gone")
    before = Stores.here().trials("gone")[0].state
    report = inside("doctor", code=1).stdout
    assert "gone: trial 0 was RUNNING, and no process runs it" in report
    assert "gone: the study's run was RUNNING" not in report  # while its trial still counts as running
    assert "run    harness doctor --fix" in report
    assert Stores.here().trials("gone")[0].state == before  # reporting changes nothing
    fixed = last_json(inside("doctor", "--fix", "--json"))
    assert all(finding["fixed"] for finding in fixed)
    assert inside("doctor").stdout == "nothing is wrong\n"
    stores = Stores.here()
    assert [trial.state.name for trial in stores.trials("gone")] == ["WAITING"]
    assert stores.runs("gone", "study")[0].info.status == "KILLED"
    (run,) = stores.runs("gone", "trial")
    assert (run.info.status, run.data.tags["trial_state"]) == ("KILLED", "interrupted")
    assert len(stores.client().get_metric_history(run.info.run_id, "val_loss")) > 1  # what was done is on record
    inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "500", "--jobs", "1", "--study", "gone")
    stores.check("gone", 1, 500)


def test_a_live_sweep_is_left_alone(place: Path, inside: Harness) -> None:
    process = start("--model", "fcnn", "--trials", "3", "--epochs", "800", "--jobs", "1", "--study", "alive")
    wait_for(lambda: epochs_on_record(work_folder("alive")) > 1)
    assert inside("doctor", "--fix").stdout == "nothing is wrong\n"
    process.communicate(timeout=120)
    assert process.returncode == 0
    Stores.here().check("alive", 3, 800)


def test_a_run_whose_study_is_gone(place: Path, inside: Harness) -> None:
    run_killed("lost")
    (place / "mlruns" / "optuna.db").unlink()
    for leftover in (place / "mlruns").glob("optuna.db-*"):
        leftover.unlink()
    inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "1", "--study", "other")
    assert "Optuna knows no study 'lost'" in inside("doctor", code=1).stdout
    inside("doctor", "--fix")
    assert {run.info.status for run in Stores.here().runs("lost", "study")} == {"KILLED"}


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_folder_that_was_moved(
    place: Path, inside: Harness, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--model",
        "fcnn",
        "--epochs",
        "2",
        "--study",
        "s",
        "--experiment",
        "music é 1".replace(" ", "-")[:5],
    ]
    inside(*SWEEP, *options, "--trials", "2")
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (shutil.move if how == "moved" else shutil.copytree)(str(place / "mlruns"), str(elsewhere / "mlruns"))
    shutil.copytree(place / "input", elsewhere / "input", symlinks=True)
    monkeypatch.chdir(elsewhere)
    wrong = inside("export", "--study", "s", "--out", "best", code=1).stderr
    assert "was moved or copied" in wrong
    assert "harness doctor --fix" in wrong
    assert "was moved or copied" in inside("doctor", code=1).stdout
    inside("doctor", "--fix")
    assert inside("doctor").stdout == "nothing is wrong\n"
    inside("export", "--study", "s", "--out", "best")
    inside(*SWEEP, *options, "--trials", "3")
    for run in Stores.here().runs("s", "trial"):
        assert run.info.artifact_uri.startswith((elsewhere / "mlruns").as_uri())
    Stores.here().check("s", 3, 2)


def test_the_start_of_a_sweep_mends_a_moved_folder(
    place: Path, inside: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(*SWEEP, "--model", "fcnn", "--epochs", "2", "--study", "s", "--trials", "1")
    moved = tmp_path / "moved"
    place.rename(moved)
    monkeypatch.chdir(moved)
    inside(*SWEEP, "--model", "fcnn", "--epochs", "2", "--study", "s", "--trials", "2")
    Stores.here().check("s", 2, 2)


def test_a_folder_reached_by_another_name_is_not_moved(
    place: Path, inside: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(*SWEEP, "--model", "fcnn", "--epochs", "1", "--study", "s", "--trials", "1")
    (tmp_path / "link").symlink_to(place)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mlruns").symlink_to(place / "mlruns")
    monkeypatch.chdir(tmp_path / "other")
    assert inside("doctor").stdout == "nothing is wrong\n"


@pytest.mark.parametrize(
    ("database", "revision", "upgrade"),
    [
        ("optuna.db", "UPDATE alembic_version SET version_num = 'v2.6.0.a'", "optuna storage upgrade --storage"),
        ("mlflow.db", "UPDATE alembic_version SET version_num = '451aebb31d03'", "mlflow db upgrade"),
    ],
)
def test_an_old_schema(place: Path, inside: Harness, database: str, revision: str, upgrade: str) -> None:
    with closing(sqlite3.connect(place / "mlruns" / database)) as connection, connection:
        connection.execute(revision)
    assert upgrade in inside("doctor", code=1).stdout
    assert upgrade in inside("doctor", "--fix", code=1).stdout
    refused = inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "1", code=1).stderr
    assert upgrade in refused
    assert "schema" in refused


def test_a_worker_that_dies_again_and_again_gives_its_trial_up(place: Path) -> None:
    process = start("--model", "cnn", "--trials", "2", "--epochs", "2", "--jobs", "1", "--study", "deadly")
    folder = work_folder("deadly")
    journal = folder / "trial-00000.jsonl"
    for starts in (1, 2, 3):
        wait_for(lambda n=starts: journal.exists() and journal.read_bytes().count(b'"start"') == n)  # type: ignore[misc]
        (victim,) = workers(folder, process.pid)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda victim=victim: victim not in workers(folder, process.pid))  # type: ignore[misc]
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    stores = Stores.here()
    first, *others = stores.trials("deadly")
    reason = "given up: its worker died 3 times in a row without a new epoch, the last time killed by SIGKILL"
    assert (first.state.name, first.user_attrs["result"]["reason"]) == ("FAIL", reason)
    assert [trial.state.name for trial in others] == ["COMPLETE", "COMPLETE"]
    runs = stores.runs("deadly", "trial")
    assert [run.info.status for run in runs] == ["FAILED", "FINISHED", "FINISHED"]
    assert (runs[0].data.tags["trial_state"], runs[0].data.tags["reason"]) == ("failed", reason)
    assert left_behind(folder) == []


def test_deaths_with_progress_do_not_count(place: Path) -> None:
    process = start(
        "--model", "fcnn", "--trials", "1", "--epochs", "500", "--jobs", "1", "--study", "hardy", "--attempts", "2"
    )
    folder = work_folder("hardy")
    for _ in range(4):
        done = epochs_on_record(folder)
        wait_for(lambda done=done: epochs_on_record(folder) > done)  # type: ignore[misc]
        for victim in workers(folder, process.pid):
            os.kill(victim, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    Stores.here().check("hardy", 1, 500)


def tracked(server: Server, study: str) -> list[str]:
    return ["--tracking-uri", server.url, "--study", study, "--model", "fcnn", "--jobs", "1"]


def test_a_tracking_server_that_is_down_for_a_while(place: Path, mlflow_server: Server) -> None:
    stores = Stores(f"sqlite:///{place}/mlruns/optuna.db", mlflow_server.url)
    process = start(*tracked(mlflow_server, "patient"), "--trials", "6", "--epochs", "600")
    wait_for(lambda: epochs_on_record(work_folder("patient")) > 1)
    mlflow_server.stop()
    finished = sum(trial.state.is_finished() for trial in stores.trials("patient"))
    wait_for(lambda: sum(trial.state.is_finished() for trial in stores.trials("patient")) > finished + 1)
    mlflow_server.start()  # training went on meanwhile
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    stores.check("patient", 6, 600)


def test_a_signal_while_the_tracking_server_is_down(place: Path, mlflow_server: Server, inside: Harness) -> None:
    stores = Stores(f"sqlite:///{place}/mlruns/optuna.db", mlflow_server.url)
    process = start(*tracked(mlflow_server, "both"), "--trials", "3", "--epochs", "400")
    wait_for(lambda: epochs_on_record(work_folder("both")) > 1)
    mlflow_server.stop()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "are not in MLflow yet" in output
    mlflow_server.start()
    inside(*SWEEP, *tracked(mlflow_server, "both"), "--trials", "3", "--epochs", "400")
    stores.check("both", 3, 400)


def test_a_tracking_server_that_stays_down(place: Path, mlflow_server: Server, inside: Harness) -> None:
    stores = Stores(f"sqlite:///{place}/mlruns/optuna.db", mlflow_server.url)
    process = start(*tracked(mlflow_server, "late"), "--trials", "3", "--epochs", "300")
    wait_for(lambda: epochs_on_record(work_folder("late")) > 1)
    mlflow_server.stop()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "epochs of the trials" in output
    assert "are not in MLflow yet" in output
    assert "harness doctor --fix" in output
    assert [trial.state.name for trial in stores.trials("late")] == ["COMPLETE"] * 3
    assert "failed" in inside("doctor", "--tracking-uri", mlflow_server.url, code=1).stdout  # to reach it
    mlflow_server.start()
    assert "was not in MLflow" in inside("doctor", "--tracking-uri", mlflow_server.url, code=1).stdout
    inside("doctor", "--tracking-uri", mlflow_server.url, "--fix")
    stores.check("late", 3, 300)
    assert inside("doctor", "--tracking-uri", mlflow_server.url).stdout == "nothing is wrong\n"
    assert left_behind(work_folder("late")) == []
