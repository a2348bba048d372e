"""Whether a process works on a run: judged from tags, lock files and the time."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.files import FileLock
from harness.tracking import Heartbeat, Machine, Presence, RunInfo, RunStatus, Tracker, judge, read_presences
from tests.support.processes import wait_for

LOCK = Path("study", "sweep-a.lock")
MINUTE = 60.0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.here(tmp_path / "work", create=True)


@pytest.fixture
def lock(machine: Machine) -> Iterator[FileLock]:
    held = FileLock(machine.work_root / LOCK)
    held.acquire()
    yield held
    held.release()


def presence_of(machine: Machine, *, silent: float = 0.0, family: str = "a") -> Presence:
    """A process of that machine whose last heartbeat was `silent` minutes ago."""
    found = Presence.of_this_process(machine, family, machine.work_root / LOCK)
    return replace(found, seen=int(time.time()) - MINUTE * silent)


def run_with(*presences: Presence, touched: float = 0.0) -> RunInfo:
    return tagged({name: value for presence in presences for name, value in presence.as_tags().items()}, touched)


def tagged(tags: dict[str, str], touched: float = 0.0) -> RunInfo:
    return RunInfo(run_id="r", status=RunStatus.RUNNING, touched=touched, tags=tags, params={}, metrics={})


def elsewhere(machine: Machine, *, silent: float = 0.0, family: str = "b") -> Presence:
    return replace(presence_of(machine, silent=silent, family=family), host="another")


def test_a_process_with_a_taken_lock_is_alive_at_any_time(machine: Machine, lock: FileLock) -> None:
    assert judge(run_with(presence_of(machine, silent=600)), machine).state == "here"
    lock.release()
    assert judge(run_with(presence_of(machine)), machine).state == "ended"


def test_another_machine_is_judged_by_the_time(machine: Machine) -> None:
    for silent, state in ((1, "elsewhere"), (14, "elsewhere"), (16, "silent")):
        assert judge(run_with(elsewhere(machine, silent=silent)), machine).state == state
    assert judge(run_with(elsewhere(machine, silent=3)), machine, dead_after=2).state == "silent"
    assert judge(run_with(elsewhere(machine, silent=16)), machine, dead_after=20).state == "elsewhere"


def test_one_living_process_of_many_keeps_a_run_alive(machine: Machine) -> None:
    dead_here, dead_there = presence_of(machine), elsewhere(machine, silent=60)
    assert judge(run_with(dead_here, dead_there), machine).is_dead
    life = judge(run_with(dead_here, dead_there, elsewhere(machine, silent=2, family="c")), machine)
    assert life.state == "elsewhere"
    assert life.by is not None
    assert life.by.family == "c"


def test_a_run_without_heartbeats_counts_as_alive_for_a_day(machine: Machine) -> None:
    hour, now = 60 * MINUTE, time.time()
    assert judge(run_with(touched=now - 23 * hour), machine, dead_after=2).state == "elsewhere"
    assert judge(run_with(touched=now - 25 * hour), machine).state == "silent"
    younger = run_with(touched=now - hour)
    assert judge(run_with(touched=now - 25 * hour), machine, others=[younger]).state == "elsewhere"


def test_tags_that_cannot_be_read_are_ignored(machine: Machine) -> None:
    (name, value), *_ = presence_of(machine).as_tags().items()
    assert len(read_presences(tagged({name: value}))) == 1
    for broken in ("", "{}", "[]", value.replace("T", " "), value.replace('"pid"', '"id"')):
        assert read_presences(tagged({name: broken})) == []
    assert read_presences(tagged({"study": value})) == []


def test_a_copy_of_a_work_folder_is_another_machine(machine: Machine, tmp_path: Path, lock: FileLock) -> None:
    run = run_with(presence_of(machine))
    assert Machine.here(machine.work_root, create=False) == machine
    copy = Path(shutil.copytree(machine.work_root, tmp_path / "copy"))
    other = Machine.here(tmp_path / "other", create=True)
    assert len({machine.work_folder, Machine.here(copy, create=False).work_folder, other.work_folder}) == 3
    for found in (Machine.here(copy, create=False), other):
        assert judge(run, found).state == "elsewhere"
    moved = machine.work_root.rename(tmp_path / "moved")
    assert judge(run, Machine.here(moved, create=False)).state == "here"


def test_reading_a_machine_makes_nothing(tmp_path: Path) -> None:
    found = Machine.here(tmp_path / "work", create=False)
    assert not (tmp_path / "work").exists()
    assert not presence_of(found).is_held_by(found)  # a folder without an id matches no machine


def test_a_heartbeat_is_written_and_removed(workspace: Path, machine: Machine, lock: FileLock) -> None:
    tracker = Tracker(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = tracker.experiment_id("e")
    before = presence_of(machine, silent=60)
    dead, other = elsewhere(machine, silent=60, family="dead"), elsewhere(machine, silent=1, family="alive")
    tags = {**before.as_tags(), **dead.as_tags(), **other.as_tags()}
    run_id = tracker.client.create_run(experiment, tags=tags).info.run_id

    def presences() -> dict[str, Presence]:
        return {presence.family: presence for presence in read_presences(tracker.runs.get(run_id))}

    with Heartbeat(tracker, run_id, machine, before, every=0.05):
        assert set(presences()) == {"a", "alive"}  # the dead process's tag is removed
        wait_for(lambda: presences()["a"].seen > before.seen + 59 * MINUTE)
        assert presences()["alive"] == other
    assert set(presences()) == {"alive"}


def test_the_tag_remains_after_a_keyboard_interrupt(workspace: Path, machine: Machine, lock: FileLock) -> None:
    tracker = Tracker(f"sqlite:///{workspace}/mlruns/mlflow.db")
    own = presence_of(machine)
    run_id = tracker.client.create_run(tracker.experiment_id("e"), tags=own.as_tags()).info.run_id
    with pytest.raises(KeyboardInterrupt), Heartbeat(tracker, run_id, machine, own):
        raise KeyboardInterrupt
    assert read_presences(tracker.runs.get(run_id)) == [own]


def test_a_heartbeat_continues_after_an_outage(workspace: Path, machine: Machine, lock: FileLock) -> None:
    database = workspace / "mlruns" / "mlflow.db"
    tracker = Tracker(f"sqlite:///{database}")
    before = presence_of(machine, silent=60)
    run_id = tracker.client.create_run(tracker.experiment_id("e"), tags=before.as_tags()).info.run_id
    with Heartbeat(tracker, run_id, machine, before, every=0.05) as heartbeat:
        wait_for(lambda: read_presences(tracker.runs.get(run_id))[0].seen > before.seen)
        tracker.client.delete_run(run_id)  # MLflow refuses tags of a deleted run
        wait_for(lambda: not heartbeat.is_heard)
        tracker.client.restore_run(run_id)
        wait_for(lambda: heartbeat.is_heard)
    assert read_presences(tracker.runs.get(run_id)) == []
