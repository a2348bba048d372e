"""Sweeps, comparisons and traits on a Ray cluster of real nodes: the same numbers, and nothing lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from harness.core.events import Ended, EpochDone, TrialStarted
from harness.core.journal import find_journals, read_events
from tests.support.commands import Harness, command, last_json
from tests.support.processes import family, wait_for
from tests.support.stores import Stores, epochs_on_record, left_behind, work_folder

pytestmark = [
    pytest.mark.machines,
    pytest.mark.process,
    # Ray's own: its cluster for tests leaves sockets and log files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# A node that does not answer four times, for 3 s each, is dead: found after 24 s. By default it takes 65 s.
FOUND_DEAD = {"health_check_timeout_ms": 3000, "health_check_failure_threshold": 4}
SWEEP = ("sweep", "--data", "demo", "--model", "fcnn", "--pruner", "none")


class Nodes:
    """A cluster on this machine: a head without cores, where the driver is, and nodes that train."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": FOUND_DEAD}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = str(self.cluster.address)

    def add(self, cores: int = 1) -> Any:
        """A new node."""
        return self.cluster.add_node(num_cpus=cores)

    def remove(self, node: Any) -> None:
        """Take a node away, as a machine that is switched off."""
        self.cluster.remove_node(node, allow_graceful=False)

    @staticmethod
    def processes(node: Any) -> list[int]:
        """The processes of a node: Ray's own, and those of its actors."""
        own = [info.process.pid for infos in node.all_processes.values() for info in infos]
        return [pid for each in own for pid in (each, *family(each))]

    def actors(self) -> list[int]:
        """The processes of the actors on all nodes that train."""
        found = []
        for node in self.cluster.worker_nodes:
            for pid in self.processes(node):
                try:
                    line = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                if line.startswith(b"ray::RemoteTrainer"):
                    found.append(pid)
        return found


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """A cluster of our own, with its processes, ended afterwards."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    found = Nodes()
    yield found
    found.cluster.shutdown()  # type: ignore[no-untyped-call]


def begun(*arguments: str, said: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=said, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen[str], seconds: float = 200.0) -> str:
    """Wait for the end of a command; return what it wrote to stderr."""
    _, message = process.communicate(timeout=seconds)
    assert process.returncode == 0, message
    return message


def epochs_grow(folder: Path) -> Callable[[], bool]:
    before = epochs_on_record(folder)
    return lambda: epochs_on_record(folder) > before


def events_of(study: str) -> dict[int, list[Any]]:
    return {number: read_events(path)[0] for number, path in find_journals(work_folder(study)).items()}


def check_attempts(study: str) -> None:
    """No two attempts at a trial run at once: an epoch is recorded once, and nothing comes after the end."""
    for number, events in events_of(study).items():
        epochs = [event.metrics.epoch for event in events if isinstance(event, EpochDone)]
        assert epochs == sorted(set(epochs)), number
        last = [index for index, event in enumerate(events) if isinstance(event, Ended)][-1]
        assert not any(isinstance(event, EpochDone | TrialStarted) for event in events[last:]), number


# In this order two processes, which take every other test, are done at about the same time.
def test_the_same_numbers_as_here_and_exact_totals(
    place: Path, nodes: Nodes, harness: Harness, inside: Harness
) -> None:
    """40 trials on two nodes; one slot, folds and refit: the numbers of a sweep of this machine; pictures."""
    nodes.add()
    nodes.add()
    harness(*SWEEP, "--trials", "40", "--epochs", "4", "--study", "forty", "--ray", nodes.address)
    stores = Stores.here()
    stores.check("forty", 40, 4)
    places = {run.data.tags["node"] for run in stores.runs("forty", "trial")}
    assert places == {os.uname().nodename}
    assert all(run.data.tags["ray"] for run in stores.runs("forty", "trial"))
    assert left_behind(work_folder("forty")) == []
    again = harness(*SWEEP, "--trials", "40", "--epochs", "4", "--study", "forty", "--ray", nodes.address)
    assert "40 of 40 trials finished" in again.stdout
    words = (*SWEEP, "--trials", "2", "--epochs", "6", "--folds", "2", "--confirm", "0", "--jobs", "1")
    harness(*words, "--study", "there", "--ray", nodes.address)
    harness(*words, "--study", "here")
    stores.same_numbers("there", "here")
    pausing = ("sweep", "--data", "demo", "--model", "fcnn", "--pruner", "asha", "--trials", "6", "--jobs", "1")
    harness(*pausing, "--study", "paused-there", "--ray", nodes.address)
    harness(*pausing, "--study", "paused-here")
    stores.same_numbers("paused-there", "paused-here")
    assert set(stores.check_halved("paused-there", 6, (3, 10), 30)) == {3, 10, 30}
    pictures = ("sweep", "--data", "demo", "--model", "cnn", "--trials", "1", "--epochs", "1")
    harness(*pictures, "--set", "crop=frame", "--study", "pictures", "--ray", nodes.address)
    assert "test accuracy" in inside("export", "--study", "pictures", "--out", "best").stdout


def test_killed_workers_lost_and_frozen_nodes(place: Path, nodes: Nodes) -> None:
    """Actors killed, a node switched off, one joins, one is frozen and thawed: nothing is lost or doubled."""
    chance = random.Random("ray")
    first, second = nodes.add(), nodes.add()
    folder = work_folder("chaos")
    arguments = (*SWEEP, "--trials", "12", "--epochs", "400", "--study", "chaos", "--attempts", "50")
    process = begun(*arguments, "--ray", nodes.address)
    wait_for(lambda: epochs_on_record(folder) > 0)
    for _ in range(3):
        wait_for(lambda: bool(nodes.actors()))
        time.sleep(chance.uniform(0.1, 1.0))
        wait_for(epochs_grow(folder))
        os.kill(chance.choice(nodes.actors()), signal.SIGKILL)
    wait_for(epochs_grow(folder))
    nodes.remove(first)
    third = nodes.add()
    wait_for(lambda: len(nodes.actors()) == 2)
    wait_for(epochs_grow(folder))
    frozen = nodes.processes(second)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    message = ended(process, 280)
    for pid in frozen:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue
    assert "a worker is gone" in message
    assert third in nodes.cluster.worker_nodes
    Stores.here().check("chaos", 12, 400)
    check_attempts("chaos")
    assert left_behind(folder) == []


def test_comparisons_and_traits_give_the_same_numbers(
    place: Path, nodes: Nodes, harness: Harness, inside: Harness
) -> None:
    nodes.add()
    nodes.add()
    elsewhere = place / "elsewhere"
    own = ("--tracking-uri", f"sqlite:///{elsewhere}/mlflow.db", "--storage", f"sqlite:///{elsewhere}/optuna.db")
    for stores in ((), own):
        for study in ("a", "b"):
            words = (*SWEEP, "--trials", "1", "--epochs", "3", "--study", study, "--seed", str(ord(study)))
            inside(*words, *stores)
    compare = ("compare", "--study", "a", "--study", "b", "--repeats", "5", "--ensemble", "2", "--json")
    families = place / "families.toml"
    families.write_text('[families]\nmfcc = ["mfcc*"]\nrest = ["chroma*", "rms*", "tempo"]\n')
    traits = ("traits", "--study", "a", "--repeats", "5", "--families", str(families), "--json")
    there, here = last_json(harness(*compare, "--ray", nodes.address)), last_json(inside(*compare, *own))
    assert [model["test"] for model in there["models"]] == [model["test"] for model in here["models"]]
    assert there["verdict"] == here["verdict"]
    there, here = last_json(harness(*traits, "--ray", nodes.address)), last_json(inside(*traits, *own))
    assert there["learners"] == here["learners"]


def test_a_killed_and_an_interrupted_driver(place: Path, nodes: Nodes, inside: Harness) -> None:
    nodes.add()
    nodes.add()
    folder = work_folder("driver")
    arguments = (*SWEEP, "--trials", "6", "--epochs", "300", "--study", "driver", "--ray", nodes.address)
    killed = begun(*arguments)
    wait_for(lambda: epochs_on_record(folder) > 20)
    assert f"runs on {os.uname().nodename}" in inside("status").stdout
    killed.kill()
    killed.communicate()
    wait_for(lambda: nodes.actors() == [])  # they end with their driver
    interrupted = begun(*arguments)
    wait_for(epochs_grow(folder))
    interrupted.send_signal(signal.SIGINT)
    _, message = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, message
    assert {trial.state.name for trial in Stores.here().trials("driver")} <= {"COMPLETE", "WAITING"}
    ended(begun(*arguments))
    Stores.here().check("driver", 6, 300)
    check_attempts("driver")


def test_what_is_wrong_is_said(place: Path, harness: Harness, nodes: Nodes) -> None:
    refused = harness(*SWEEP, "--trials", "1", "--ray", "ray://127.0.0.1:1", code=1).stderr
    assert "HOST:PORT" in refused
    nothing = harness(*SWEEP, "--trials", "1", "--ray", "127.0.0.1:1", code=1).stderr
    assert "no Ray cluster answers at 127.0.0.1:1" in nothing
    waits = (*SWEEP, "--trials", "1", "--study", "waits", "--ray", nodes.address)  # a head without cores
    with (place / "stderr").open("w", encoding="utf-8") as said:
        process = begun(*waits, said=said)
        wait_for(lambda: "waiting for the cluster to grow: a worker takes 1 CPU" in (place / "stderr").read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    late = harness(*waits, "--timeout", "0.02")  # it does not wait for room for longer than it may
    assert "time is up, 1 trials left" in late.stdout
