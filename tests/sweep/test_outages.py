"""An MLflow server that is down or hung: training goes on, nothing is lost, every command ends."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.commands import SWEEP, Harness, python, start_sweep
from tests.support.processes import wait_for
from tests.support.servers import Server, hung_server
from tests.support.stores import Stores, epochs_on_record, left_behind, work_folder


def tracked(server: Server, study: str) -> list[str]:
    return ["--tracking-uri", server.url, "--study", study, "--model", "fcnn", "--jobs", "1"]


def test_a_tracking_server_that_is_down_for_a_while(place: Path, mlflow_server: Server) -> None:
    stores = Stores(f"sqlite:///{place}/mlruns/optuna.db", mlflow_server.url)
    process = start_sweep(*tracked(mlflow_server, "patient"), "--trials", "6", "--epochs", "600")
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
    process = start_sweep(*tracked(mlflow_server, "both"), "--trials", "3", "--epochs", "400")
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
    process = start_sweep(*tracked(mlflow_server, "late"), "--trials", "3", "--epochs", "300")
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


# How long a request may take; by default 20 s, which these tests need not wait for.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}


@pytest.mark.long
@pytest.mark.parametrize("command", ["sweep", "doctor", "export", "reproduce"])
def test_a_tracking_server_that_is_hung_at_the_start(place: Path, inside: Harness, command: str) -> None:
    arguments = {
        "sweep": (*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "1"),
        "doctor": ("doctor",),
        "export": ("export", "--study", "s", "--out", "best"),
        "reproduce": ("reproduce", "0" * 32),
    }[command]
    began = time.monotonic()
    with hung_server() as url:
        done = inside(*arguments, "--tracking-uri", url, code=1, **IMPATIENT)
    assert time.monotonic() - began < 30
    assert f"opening the store {url} failed" in done.stdout + done.stderr
    assert "Read timed out" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_requests_end_by_themselves(place: Path) -> None:
    """Nobody has to set a time limit: it is on, and a request that fails is not repeated by MLflow."""
    import_and_print = (
        "import harness.tracking\n"
        "from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT\n"
        "print(MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get())"
    )
    assert python(import_and_print, place, dict(os.environ)).split() == ["20", "0"]


def test_a_tracking_server_that_hangs_in_mid_sweep(place: Path, mlflow_server: Server, inside: Harness) -> None:
    stores = Stores(f"sqlite:///{place}/mlruns/optuna.db", mlflow_server.url)
    process = start_sweep(*tracked(mlflow_server, "hung"), "--trials", "3", "--epochs", "300", **IMPATIENT)
    wait_for(lambda: epochs_on_record(work_folder("hung")) > 1)
    mlflow_server.pause()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "Read timed out" in output
    assert "epochs of the trials" in output
    assert "are not in MLflow yet" in output
    assert "harness doctor --fix" in output
    assert "Traceback" not in output
    assert [trial.state.name for trial in stores.trials("hung")] == ["COMPLETE"] * 3  # training went on
    mlflow_server.go_on()
    inside("doctor", "--tracking-uri", mlflow_server.url, "--fix")
    stores.check("hung", 3, 300)
    assert left_behind(work_folder("hung")) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_tracking_server_hangs(
    place: Path, mlflow_server: Server, inside: Harness, number: signal.Signals, code: int
) -> None:
    """With the time limit of 20 s that a sweep has by default: the signal does not wait for it."""
    stores = Stores(f"sqlite:///{place}/mlruns/optuna.db", mlflow_server.url)
    process = start_sweep(*tracked(mlflow_server, "hung"), "--trials", "1", "--epochs", "4000")
    wait_for(lambda: epochs_on_record(work_folder("hung")) > 1)
    wait_for(lambda: bool(stores.runs("hung", "trial")))
    mlflow_server.pause()
    wait_for(lambda: epochs_on_record(work_folder("hung")) > 50)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "are not in MLflow yet" in output
    assert "Traceback" not in output
    assert [trial.state.name for trial in stores.trials("hung")] == ["WAITING"]
    mlflow_server.go_on()
    inside(*SWEEP, *tracked(mlflow_server, "hung"), "--trials", "1", "--epochs", "4000")
    stores.check("hung", 1, 4000)
