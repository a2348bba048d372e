"""The workers of a sweep seen by a user: a second Ctrl-C, deaths that count and deaths that do not."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.study import Study, open_storage
from tests.support.commands import command
from tests.support.processes import wait_for, workers
from tests.support.stores import Stores, epochs_on_record

pytestmark = pytest.mark.process

STUDY = "supervised"
SWEEP = ("sweep", "--data", "demo", "--model", "fcnn", "--pruner", "none", "--jobs", "1", "--study", STUDY)


def start(*arguments: str) -> subprocess.Popen[str]:
    arguments = (*SWEEP, "--trials", "1", *arguments)
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def work_folder() -> Path:
    return Path.cwd() / "mlruns" / "work" / STUDY


def test_a_second_ctrl_c_stops_at_once(place: Path) -> None:
    """A sweep waits for a worker that does not react after the first Ctrl-C, and kills it after the second."""
    process = start("--epochs", "3000")
    wait_for(lambda: epochs_on_record(work_folder()) > 1)
    (worker,) = workers(work_folder(), process.pid)
    os.kill(worker, signal.SIGSTOP)  # it answers no SIGTERM
    process.send_signal(signal.SIGINT)
    time.sleep(2.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not Path(f"/proc/{worker}").exists()
    storage = open_storage(f"sqlite:///{place}/mlruns/optuna.db")
    assert Study.open(storage, STUDY, work_folder()).recover() == [0]  # what the same command begins with
    storage.engine.dispose()


def test_deaths_count_while_no_new_epoch_is_reached(place: Path) -> None:
    process = start("--epochs", "3000", "--attempts", "2")
    journal = work_folder() / "trial-00000.jsonl"

    def attempts() -> list[bytes]:
        return journal.read_bytes().split(b'"event":"start"')[1:] if journal.exists() else []

    for number in (1, 2, 3):
        wait_for(lambda n=number: len(attempts()) == n)  # type: ignore[misc]
        if number == 1:  # far more epochs than are repeated before the later kills
            wait_for(lambda: attempts()[-1].count(b'"event":"epoch"') > 300)
        else:
            wait_for(lambda: b'"event":"again"' in attempts()[-1])
        (worker,) = workers(work_folder(), process.pid)
        os.kill(worker, signal.SIGKILL)
    stores = Stores.here()
    wait_for(lambda: stores.trials(STUDY)[0].state.name == "FAIL")
    process.send_signal(signal.SIGTERM)  # the study goes on with another trial
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    reason = "given up: its worker died 2 times in a row without a new epoch, the last time killed by SIGKILL"
    assert stores.trials(STUDY)[0].user_attrs["result"]["reason"] == reason
    assert stores.runs(STUDY, "trial")[0].data.tags["reason"] == reason
