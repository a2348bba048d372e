"""Measure what the harness costs and how fast it trains, each figure against its reference in the same run.

    .venv/bin/python experiments/bench.py --data input --json bench.json

A harness figure and its reference are taken in turn, `--rounds` times; the value is the median of the ratios of
the rounds. The baselines are in `bench_loops.py`, in processes of their own. `--tiny` runs every row at a size
at which its value means nothing: it shows that the benchmark works.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console
from rich.table import Column, Table

from harness.core.events import Acknowledged, Ended, TrialStarted
from harness.core.journal import Journal, journal_path
from harness.core.records import EpochMetrics, TrialResult
from harness.core.study_record import Budget
from harness.data.open import load_data
from harness.models.registry import MODELS
from harness.study import Study, open_storage
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.settings import SweepSettings
from harness.sweep.uploader import JournalUploader
from harness.tracking import Tracker, TrialLog
from harness.training.devices import choose_device, gpu_name
from harness.workers.cpus import usable_cores
from harness.workers.fork_server import KEEP_LARGE_BLOCKS, TRAINING_SERVER

HERE = Path(__file__).parent
FIXED: dict[str, object] = {"lr": {"low": 0.001, "high": 0.001}, "batch_size": [32]}
# Multiply-adds of the CNN's forward pass on one picture, by layer; the first convolution needs no gradient of
# its input, every other layer costs twice as much backward as forward.
CONV1, REST = 216 * 144 * 16 * 27, 108 * 72 * 32 * 144 + 62208 * 128 + 128 * 10


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: `better` is `lower` or `higher`, `runs` are the rounds that `value` is the median of."""

    value: float
    target: float
    better: str
    unit: str
    runs: list[float]

    @property
    def holds(self) -> bool:
        return self.value <= self.target if self.better == "lower" else self.value >= self.target


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run: trials of the FCNN between which the slope is taken, epochs, rounds."""

    data: str
    rounds: int
    few: int = 4
    many: int = 24
    epochs: int = 30
    cnn_epochs: int = 30
    trials: int = 40
    late: int = 1000
    studies: int = 500
    tutorial: int = 3
    waves: int = 5


def median(values: list[float], target: float, better: str = "lower", unit: str = "ratio") -> Row:
    return Row(statistics.median(values), target, better, unit, values)


def loop(size: Size, name: str, configs: list[dict[str, Any]] | None = None, **options: object) -> list[float]:
    """Run a loop of `bench_loops.py` in a process of its own and return what it measured."""
    command = [sys.executable, str(HERE / "bench_loops.py"), name, "--data", size.data]
    for option, value in options.items():
        command += [f"--{option}", str(value)]
    done = subprocess.run(
        command, input=json.dumps(configs), capture_output=True, text=True, check=False, env=environment(name)
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    values: list[float] = json.loads(done.stdout.splitlines()[-1])
    return values


def environment(name: str) -> dict[str, str]:
    """The report's script knows nothing of glibc's settings; every other loop gets what the harness gets."""
    own = {key: value for key, value in os.environ.items() if key not in KEEP_LARGE_BLOCKS}
    return own if name == "report" else {**own, **KEEP_LARGE_BLOCKS}


def config(model: str, epochs: int, precision: str | None = None) -> dict[str, Any]:
    values = {"model": model, "lr": 0.001, "batch_size": 32, "epochs": epochs, "seed": 0}
    return values if precision is None else {**values, "precision": precision}


def settings(size: Size, model: str, trials: int, **changes: Any) -> SweepSettings:
    epochs = size.epochs if model == "fcnn" else size.cnn_epochs
    given = {"model": model, "data": size.data, "trials": trials, "epochs": epochs, "jobs": 1, "pruner": "none"}
    given["device"] = "cpu"  # as the bare loops, on a machine with a GPU too
    return SweepSettings(**{**given, "search": FIXED, "study": f"bench-{time.time_ns()}", **changes})


def sweep_seconds(wanted: SweepSettings) -> tuple[float, int]:
    """Return the wall time of a sweep, record complete, and the epochs it trained."""
    plan = plan_sweep(wanted)
    study = open_study(plan)
    started = time.perf_counter()
    run_sweep(plan, study)
    seconds = time.perf_counter() - started
    trials = open_study(plan)._study.get_trials(deepcopy=False)
    reported = sum(max(t.intermediate_values, default=wanted.epochs) for t in trials)
    return seconds, reported


def trial_ratio(size: Size, model: str, few: int, many: int, target: float, pruner: str = "none") -> Row:
    """A trial in a sweep (the slope between a short and a long one) over the bare loop's."""
    epochs = size.epochs if model == "fcnn" else size.cnn_epochs
    threads = MODELS[model].threads_of(1, usable_cores())
    ratios = []
    for _ in range(size.rounds):
        bare = statistics.mean(loop(size, "bare", [config(model, epochs)] * (many - few), threads=threads))
        short, long = (sweep_seconds(settings(size, model, n, pruner=pruner)) for n in (few, many))
        ratios.append((long[0] - short[0]) / (long[1] - short[1]) * epochs / bare)
    return median(ratios, target)


def client() -> MlflowClient:
    return Tracker(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db").client


def runs_of(study: str, kind: str) -> list[Run]:
    """Return the runs of a kind that MLflow has of a study."""
    reader = client()
    experiments = [found.experiment_id for found in reader.search_experiments()]
    return list(reader.search_runs(experiments, f"tags.study = '{study}' and tags.kind = '{kind}'"))


def fcnn_trial(size: Size) -> Row:
    return trial_ratio(size, "fcnn", size.few, size.many, 1.10)


def fcnn_trial_pruner(size: Size) -> Row:
    return trial_ratio(size, "fcnn", size.few, size.many, 1.25, pruner="median")


def cnn_trial(size: Size) -> Row:
    return trial_ratio(size, "cnn", 1, 2, 1.02)


def ray_ratio(size: Size, model: str, trials: int, target: float) -> Row:
    """A trial in an actor of a Ray cluster of this machine over one in a worker process.

    The median time from the end of a trial to that of the next: how long actors take to begin varies by seconds.
    """
    ratios = []
    with ray_cluster() as address:
        for _ in range(size.rounds):
            seconds = []
            for changes in ({}, {"ray": address}):
                wanted = settings(size, model, trials, **changes)
                sweep_seconds(wanted)
                ends = sorted(run.info.end_time for run in runs_of(str(wanted.study), "trial"))
                seconds.append(statistics.median(after - before for before, after in pairwise(ends)))
            ratios.append(seconds[1] / seconds[0])
    return median(ratios, target)


@contextmanager
def ray_cluster() -> Iterator[str]:
    """A Ray cluster of one node with the cores of this machine; yields its address."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield str(cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


def ray_fcnn_trial(size: Size) -> Row:
    return ray_ratio(size, "fcnn", size.many, 1.15)


def ray_cnn_trial(size: Size) -> Row:
    return ray_ratio(size, "cnn", 2, 1.02)


def whole_command(size: Size) -> Row:
    """`harness sweep` with all cores, from its start to its exit, over its configurations one after the other."""
    ratios = []
    for _ in range(size.rounds):
        name = f"bench-{time.time_ns()}"
        command = [sys.executable, "-m", "harness.cli", "sweep", "--model", "fcnn", "--data", size.data]
        command += [
            "--device",
            "cpu",
            "--trials",
            str(size.trials),
            "--epochs",
            str(size.epochs),
            "--pruner",
            "none",
            "--study",
            name,
        ]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        ours = time.perf_counter() - started
        study = Study.open(open_storage(f"sqlite:///{Path.cwd()}/mlruns/optuna.db"), name, Path.cwd() / "work")
        configs = [{**config("fcnn", size.epochs), **row.params} for row in study.rows()]
        started = time.perf_counter()
        loop(size, "bare", configs, threads=1)
        ratios.append(ours / (time.perf_counter() - started))
    return median(ratios, 1.0)


def cnn_epoch(size: Size, target: float = 0.30, precision: str = "fp32") -> Row:
    ratios = []
    for _ in range(size.rounds):
        ours = loop(size, "harness", [config("cnn", 3, precision)], threads=2)
        ratios.append(statistics.median(ours[1:]) / statistics.median(loop(size, "report", epochs=2)))
    return median(ratios, target)


def cnn_epoch_bf16(size: Size) -> Row:
    return cnn_epoch(size, 0.20, "bf16")


def cnn_gemm_share(size: Size) -> Row:
    """Arithmetic of an epoch (training and validation) a second, over the float32 matrix product rate."""
    tracks = load_data(size.data)
    train, valid = round(0.64 * len(tracks.ids)), round(0.16 * len(tracks.ids))
    work = 2e-9 * (train * (2 * CONV1 + 3 * REST) + valid * (CONV1 + REST))
    shares = []
    for _ in range(size.rounds):
        rate = statistics.median(loop(size, "gemm", threads=2))
        seconds = statistics.median(loop(size, "harness", [config("cnn", 3, "fp32")], threads=2)[1:])
        shares.append(work / seconds / rate)
    return median(shares, 0.5, "higher", "share")


def cnn_threads(size: Size) -> Row:
    """Epochs a second of the whole machine with the package's threads for each training, over the best other way.

    Each way has as many trainings at once as the cores allow with 1, 2 or 4 threads for each.
    """
    cores, ours, ratios = usable_cores(), MODELS["cnn"].threads, []

    def throughput(threads: int) -> float:
        at_once = cores // threads
        with ThreadPoolExecutor(at_once) as pool:
            wanted = [
                pool.submit(loop, size, "harness", [config("cnn", 4, "fp32")], threads=threads)
                for _ in range(at_once)
            ]
        # Not the first epoch, in which the others still load, nor the last, in which some have ended.
        return sum(1 / statistics.median(seconds.result()[1:-1]) for seconds in wanted)

    for _ in range(size.rounds):
        rates = {threads: throughput(threads) for threads in (1, 2, 4) if threads <= cores}
        own = rates.pop(min(ours, cores))
        ratios.append(own / max(rates.values(), default=own))
    return median(ratios, 1.0, "higher")


def bookkeeping(size: Size) -> Row:
    """Claim, journal, end and record of a trial that trains nothing: the last ten over the tenth to twentieth."""
    plan = plan_sweep(settings(size, "fcnn", size.late, search={}))
    study, tracker = open_study(plan), Tracker(plan.stores.tracking_uri)
    parent = tracker.studies.begin(plan.spec, "", plan.split, study.context, size.late)
    uploader = JournalUploader(TrialLog(tracker, plan.spec, parent, study.context.dataset), study)
    best = EpochMetrics(1, 1.0, 1.0, 0.0, 0.0)
    seconds = []
    for number in range(size.late):
        started = time.perf_counter()
        claim = study.claim(Budget(size.late, 1))
        assert claim is not None
        journal = Journal(journal_path(plan.work_folder, number))
        trial = plan.spec.trial_config(number, claim.params, plan.model.threads)
        sweep = study.worker_id.sweep
        journal.append(
            TrialStarted(
                trial=number,
                sweep=sweep,
                config=trial,
                resumed=False,
                device="cpu",
                gpu=None,
                total=size.late,
            )
        )
        result = TrialResult(
            state="complete", best=replace(best, val_accuracy=1 / (1 + abs(float(claim.params["lr"]) - 0.003)))
        )
        journal.append(Ended(result=result), sync=True)
        claim.finish(result)
        journal.append(Acknowledged(), sync=True)
        journal.close()
        uploader.pump(flush=True)
        seconds.append(time.perf_counter() - started)
    return median([statistics.median(seconds[-10:]) / statistics.median(seconds[10:20])], 1.5)


def worker_memory(size: Size) -> Row:
    values = [loop(size, "memory", [config("cnn", 2)], threads=2)[0] for _ in range(size.rounds)]
    return median(values, 1024, unit="MB")


def help_seconds(size: Size) -> Row:
    values = []
    for _ in range(max(3, size.rounds)):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "harness.cli", "--help"], check=True, capture_output=True)
        values.append(time.perf_counter() - started)
    return median(values, 0.4, unit="s")


IMPORTS = "import torch, mlflow, optuna, matplotlib.figure, pandas"


@dataclass(frozen=True, slots=True)
class Short:
    """Seconds of a sweep of one FCNN trial of one epoch, as a user types it, and of the same command again."""

    first_epoch: float
    whole: float
    again: float
    status: float
    imports: float  # a process that imports what a script with these libraries imports, and ends


def typed(*words: str) -> tuple[float, float]:
    """Return when a command began (a time of the clock) and how many seconds it took."""
    began, started = time.time(), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return began, time.perf_counter() - started


def typed_sweep(size: Size, name: str, trials: int, epochs: int) -> list[str]:
    command = ["-m", "harness.cli", "sweep", "--model", "fcnn", "--data", size.data, "--study", name]
    return [*command, "--trials", str(trials), "--epochs", str(epochs)]


def epoch_times(study: str) -> list[float]:
    """Return when each epoch of a study ended, as MLflow has it: times of the clock, sorted."""
    reader, runs = client(), runs_of(study, "trial")
    points = [point for run in runs for point in reader.get_metric_history(run.info.run_id, "val_accuracy")]
    return sorted(point.timestamp / 1000 for point in points)


@cache
def short_sweep(size: Size, number: int) -> Short:
    """Measure the round of that number, once for all rows that are taken from it."""
    name = f"short-{number}-{time.time_ns()}"
    began, whole = typed(*typed_sweep(size, name, 1, 1))
    first, *_ = epoch_times(name)
    _, imports = typed("-c", IMPORTS)
    _, again = typed(*typed_sweep(size, name, 1, 1))
    _, status = typed("-m", "harness.cli", "status")
    return Short(first - began, whole, again, status, imports)


def short_row(name: str, target: float) -> Callable[[Size], Row]:
    def row(size: Size) -> Row:
        values = [getattr(short_sweep(size, number), name) for number in range(size.rounds)]
        return median(values, target, unit="s")

    return row


def status_of_many(size: Size) -> Row:
    """Seconds of `harness status` on 500 studies of 40 trials: copies, in the database, of one that was swept."""
    name = f"many-{time.time_ns()}"
    with tempfile.TemporaryDirectory() as folder:
        stores = ["--storage", f"sqlite:///{folder}/optuna.db", "--tracking-uri", f"sqlite:///{folder}/mlflow.db"]
        typed(*typed_sweep(size, name, size.trials, 1), *stores)
        copy_study(Path(folder) / "optuna.db", name, size.studies - 1)
        values = [typed("-m", "harness.cli", "status", *stores[:2])[1] for _ in range(size.rounds)]
    return median(values, 2.0, unit="s")


def copy_study(database: Path, name: str, copies: int) -> None:
    """Copy all rows of the only study in a database of Optuna, under names of their own."""
    with closing(sqlite3.connect(database)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        (step,) = connection.execute("SELECT max(trial_id) FROM trials").fetchone()
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if not {"study_id", "trial_id"} & set(columns):
                continue
            shifted = {"study_id": f"study_id + n * {step}", "trial_id": f"trial_id + n * {step}"}
            renamed = {each: f"replace({each}, '{name}', '{name}-' || n)" for each in ("study_name", "value_json")}
            known = {**shifted, **renamed}
            key = columns[0] if columns[0] not in known else None  # a key of the table alone: SQLite chooses it
            values = ["NULL" if each == key else known.get(each, f'"{each}"') for each in columns]
            connection.execute(
                f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {copies}) "
                f"INSERT INTO {table} SELECT {', '.join(values)} FROM {table}, numbers"
            )
        connection.commit()


def last_epoch_to_prompt(size: Size) -> Row:
    """Seconds from the last epoch of a sweep to its end, with pictures."""
    values = []
    for _ in range(size.rounds):
        name = f"ends-{time.time_ns()}"
        began, seconds = typed(*typed_sweep(size, name, size.trials, size.epochs))
        values.append(began + seconds - epoch_times(name)[-1])
    return median(values, 1.0, unit="s")


def throughput(model: str, target: float, jobs: int, **changes: Any) -> Callable[[Size], Row]:
    """Return the row of a sweep's trials an hour over those of the bare loop, both on the GPU if there is one.

    The slope between a sweep of one trial for each job and one of several, so that no start is in it.
    """

    def row(size: Size) -> Row:
        device, ratios = str(choose_device("auto")), []
        epochs = size.epochs if model == "fcnn" else size.cnn_epochs
        for _ in range(size.rounds):
            bare = statistics.mean(loop(size, "bare", [config(model, epochs)] * 3, threads=1, device=device)[1:])
            few, many = (
                sweep_seconds(settings(size, model, n * jobs, jobs=jobs, device=device, **changes))[0]
                for n in (1, size.waves)
            )
            ratios.append(bare * jobs * (size.waves - 1) / (many - few))
        return median(ratios, target, "higher")

    return row


def second_use(size: Size) -> Row:
    """Loading a data set whose pictures are cached over loading it the first time."""
    code = "import sys, time; from harness.data.open import load_data; t = time.perf_counter(); "
    code += "load_data(sys.argv[1]); print(time.perf_counter() - t)"
    ratios = []
    for _ in range(size.rounds):
        with tempfile.TemporaryDirectory() as cache:
            times = [
                float(
                    subprocess.run(
                        [sys.executable, "-c", code, size.data],
                        check=True,
                        capture_output=True,
                        text=True,
                        env={**os.environ, "HARNESS_CACHE": cache},
                    ).stdout
                )
                for _ in range(2)
            ]
        ratios.append(times[1] / times[0])
    return median(ratios, 0.1)


def tutorial(size: Size) -> Row:
    """A trial in the way of MLflow's Optuna tutorial over the same trial in a sweep."""
    configs = [config("fcnn", size.epochs)] * size.tutorial
    ratios = []
    for _ in range(size.rounds):
        with tempfile.TemporaryDirectory() as folder:
            theirs = statistics.median(loop(size, "tutorial", configs, threads=1, folder=folder))
        (short, _), (long, _) = (sweep_seconds(settings(size, "fcnn", n)) for n in (size.few, size.many))
        ratios.append(theirs / ((long - short) / (size.many - size.few)))
    return median(ratios, 1.0, "higher")


ROWS: dict[str, Callable[[Size], Row]] = {
    "fcnn_trial": fcnn_trial,
    "fcnn_trial_pruner": fcnn_trial_pruner,
    "cnn_trial": cnn_trial,
    "ray_fcnn_trial": ray_fcnn_trial,
    "ray_cnn_trial": ray_cnn_trial,
    "whole_command": whole_command,
    "cnn_epoch": cnn_epoch,
    "cnn_epoch_bf16": cnn_epoch_bf16,
    "cnn_gemm_share": cnn_gemm_share,
    "cnn_threads": cnn_threads,
    "bookkeeping": bookkeeping,
    "worker_memory": worker_memory,
    "help": help_seconds,
    "imports": short_row("imports", math.inf),  # no target: what the rows below are to be held against
    "first_epoch": short_row("first_epoch", 3.0),
    "last_epoch_to_prompt": last_epoch_to_prompt,
    "one_trial_sweep": short_row("whole", 5.0),
    "finished_study": short_row("again", 2.0),
    "status": short_row("status", 0.8),
    "status_of_many": status_of_many,
    "second_use": second_use,
    "tutorial": tutorial,
}
# What a GPU brings, as docs/performance.md wants it. They run on a CPU too, where their targets mean nothing.
GPU_ROWS: dict[str, Callable[[Size], Row]] = {
    "gpu_fcnn_1": throughput("fcnn", 10.0, 1),
    "gpu_fcnn_4": throughput("fcnn", 10.0, 4),
    "gpu_fcnn_8": throughput("fcnn", 10.0, 8),
    "gpu_fcnn_graph": throughput("fcnn", 10.0, 1, stack=1),
    "gpu_fcnn_8_graphs": throughput("fcnn", 10.0, 8, stack=1),
    "gpu_fcnn_stack_8": throughput("fcnn", 10.0, 8, stack=8),
    "gpu_fcnn_stack_32": throughput("fcnn", 10.0, 32, stack=32),
    "gpu_cnn_1": throughput("cnn", 3.0, 1),
    "gpu_cnn_1_bf16": throughput("cnn", 3.0, 1, precision="bf16"),
    "gpu_cnn_graph_bf16": throughput("cnn", 3.0, 1, precision="bf16", stack=1),
    "gpu_cnn_4_bf16": throughput("cnn", 3.0, 4, precision="bf16"),
}
ALL_ROWS = {**ROWS, **GPU_ROWS}


@contextmanager
def working_folder() -> Iterator[None]:
    """A temporary current folder with warm stores."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            open_storage(f"sqlite:///{folder}/mlruns/optuna.db").engine.dispose()
            Tracker(f"sqlite:///{folder}/mlruns/mlflow.db")
            yield
        finally:
            os.chdir(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo", help="data folder (default: the synthetic demo set)")
    parser.add_argument("--rounds", type=int, default=5)
    usual = list(ROWS if choose_device("auto").type == "cpu" else ALL_ROWS)
    parser.add_argument("--only", nargs="*", choices=list(ALL_ROWS), default=usual)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--tiny", action="store_true", help="run every row at a meaningless size")
    arguments = parser.parse_args()
    tracks = load_data(arguments.data)  # makes the demo set, and warms the cache of pictures
    size = Size(str(tracks.folder), arguments.rounds)
    if arguments.tiny:
        size = Size(
            str(tracks.folder),
            1,
            few=1,
            many=2,
            epochs=1,
            cnn_epochs=1,
            trials=2,
            late=25,
            studies=3,
            tutorial=1,
            waves=2,
        )
    TRAINING_SERVER.start()
    rows = {}
    console = Console(stderr=True)
    with working_folder():
        for name in arguments.only:
            started = time.perf_counter()
            rows[name] = ALL_ROWS[name](size)
            console.print(
                f"{name}: {rows[name].value:.3f} ({time.perf_counter() - started:.0f} s)", highlight=False
            )
    table = Table(Column("figure", no_wrap=True), "value", "target", "unit", "holds", "rounds")
    for name, row in rows.items():
        sign = "<=" if row.better == "lower" else ">="
        spread = f"{min(row.runs):.3g} to {max(row.runs):.3g}"
        table.add_row(
            name, f"{row.value:.3g}", f"{sign} {row.target}", row.unit, "yes" if row.holds else "NO", spread
        )
    Console().print(table)
    where = gpu_name(choose_device("auto")) or "no GPU"
    versions = f"torch {torch.__version__}, {where}, Python {platform.python_version()}, {os.cpu_count()} cores"
    print(f"data: {tracks.folder.name}{' (synthetic)' if tracks.synthetic else ''}; {versions}")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: asdict(row) for name, row in rows.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
