"""A comparison that is killed or interrupted: the same command does what is missing, and each repeat once."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness.compare.repeats import repeat_path
from tests.support.commands import Harness, command, last_json
from tests.support.comparisons import plan, repeats
from tests.support.processes import family, kill_all, wait_for
from tests.support.stores import Stores
from tests.support.sweeps import sweep

pytestmark = pytest.mark.process


def test_a_repeat_whose_workers_die_without_a_new_epoch_stops_the_comparison(studies: Path) -> None:
    sweep(study="deadly", epochs=400, trials=1)
    arguments = [
        "compare",
        "--study",
        "deadly",
        "--study",
        "one",
        "--repeats",
        "5",
        "--no-baselines",
        "--jobs",
        "1",
    ]
    planned = plan(studies=("deadly", "one"), repeats=5)
    folder = studies / "mlruns" / "work" / ".comparisons" / planned.identity
    journal = repeat_path(folder, planned.candidates[0], 0)
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def attempts() -> list[bytes]:
        return journal.read_bytes().split(b'"event":"repeat"')[1:] if journal.exists() else []

    for number in (1, 2, 3, 4):
        wait_for(lambda n=number: len(attempts()) == n)  # type: ignore[misc]
        if number == 1:  # far more epochs than are repeated before the later kills
            wait_for(lambda: attempts()[-1].count(b'"event":"epoch"') > 100)
        else:
            wait_for(lambda: b'"event":"again"' in attempts()[-1])
        (worker,) = (pid for pid in family(process.pid) if opens(pid, journal))
        os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    reason = "its worker died 3 times in a row without a new epoch, the last time killed by SIGKILL"
    assert f"repeat 0 of {planned.candidates[0].name}: {reason}" in errors


def opens(pid: int, path: Path) -> bool:
    try:
        return any(str(link.readlink()) == str(path) for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it has just ended
        return False


def test_killed_and_run_again(studies: Path, inside: Harness) -> None:
    """Every process is killed in mid-repeat; the same command does what is missing, and each repeat once."""
    sweep(study="slow", epochs=60, trials=1)
    sweep(study="slow-too", epochs=60, trials=1, seed=1)
    arguments = ["compare", "--study", "slow", "--study", "slow-too", "--repeats", "5"]
    arguments += ["--json", "--no-baselines", "--no-untuned", "--protocol", "holdout"]
    planned = plan(studies=("slow", "slow-too"), repeats=5, protocol="holdout")
    folder = studies / "mlruns" / "work" / ".comparisons" / planned.identity
    journal = repeat_path(folder, planned.candidates[1], 0)
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: journal.exists() and journal.stat().st_size > 2000)
    kill_all(process)
    report = inside("doctor", code=1).stdout
    assert "of a comparison was RUNNING, and no process works on it" in report
    assert folder.with_suffix(".lock").exists()  # reporting removes nothing
    inside("doctor", "--fix")
    assert inside("doctor").stdout == "nothing is wrong\n"

    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: bool(family(process.pid)) and (folder.with_suffix(".lock")).exists())
    wait_for(lambda: len(list(folder.glob("*.jsonl"))) > 3)
    process.send_signal(signal.SIGSTOP)  # however fast the machine, it is not over meanwhile
    second = inside(*arguments, code=1)
    assert "another process runs this comparison" in second.stderr
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert b"the same command again" in errors

    found = last_json(inside(*arguments))
    runs = repeats(found["run_id"])
    assert len(runs) == 5 * 2
    assert len({(run.data.tags["candidate"], run.data.tags["repeat"]) for run in runs}) == 5 * 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        points = Stores.here().client().get_metric_history(run.info.run_id, "val_loss")
        assert sorted(point.step for point in points) == list(range(1, 61))

    process = subprocess.Popen(
        command(*arguments, "--repeats", "10"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    while b"(20 of 20)" not in (line := process.stderr.readline()):
        assert line, "it ended before its last repeat"
    process.send_signal(signal.SIGTERM)  # while it sums up
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert b"error: interrupted; " in errors
    assert Stores.here().client().get_run(found["run_id"]).info.status == "KILLED"
    inside(*arguments, "--repeats", "10")
    assert Stores.here().client().get_run(found["run_id"]).info.status == "FINISHED"
    assert len(repeats(found["run_id"])) == 10 * 2
    assert inside("doctor").stdout == "nothing is wrong\n"
