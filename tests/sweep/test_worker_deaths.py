"""Workers that are killed: the trial goes on, or is given up."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.commands import start_sweep
from tests.support.processes import wait_for, workers
from tests.support.stores import Stores, epochs_on_record, left_behind, work_folder

pytestmark = pytest.mark.process


def test_a_worker_that_dies_again_and_again_gives_its_trial_up(place: Path) -> None:
    process = start_sweep("--model", "cnn", "--trials", "2", "--epochs", "2", "--jobs", "1", "--study", "deadly")
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
    process = start_sweep(
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
