"""MLflow stores that somebody else has written, and damaged files of the work folder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from tests.bad_inputs.base import Base, change_json, change_rows
from tests.bad_inputs.case import Case, Check, Outcome, json_that, prints
from tests.bad_inputs.studies import STUDY, report

KIND = "MLflow stores"
TREASURE = "treasure/deep/artifacts"
Change = Callable[[Base, Path], None]  # the second is the folder `mlruns`
SWEEP = ("sweep", "--model", "fcnn", "--data", "demo", "--epochs", "1", "--jobs", "1", "--pruner", "none")


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    export = ("export", "--run", base.runs["trial"], "--out", "best", "--format", "safetensors")
    reproduce = ("reproduce", base.runs["trial"], "--json")
    for name, change in {**_files("context.json"), **_files("split.json")}.items():
        yield _case(base, f"{name} (export)", change, export)
        yield _case(base, f"{name} (reproduce)", change, reproduce)
    for name, change in _checkpoints().items():
        yield _case(base, f"{name} (export)", change, export)
    for name, change in _config_tags().items():
        yield _case(base, f"{name} (reproduce)", change, reproduce, reproduced, may_refuse=True)
    for name, change in {**_runs_of_others(base), **_tags(base)}.items():
        yield _case(base, f"{name} (doctor)", change, ("doctor", "--json"), report())
        yield _case(base, f"{name} (export)", change, export, exported, may_refuse=True)
        yield _case(base, f"{name} (sweep)", change, (*SWEEP, "--trials", "2"), prints(STUDY), may_refuse=True)
    for name, change in _databases().items():
        yield _case(base, f"{name} (doctor)", change, ("doctor", "--json"), report(faults=True))
        yield _case(base, f"{name} (export)", change, export)
    for name, change in _work_files().items():
        yield _case(base, f"{name} (doctor)", change, ("doctor", "--json"), report())
        yield _case(base, f"{name} (doctor --fix)", change, ("doctor", "--fix", "--json"), report())
        yield _case(base, f"{name} (sweep)", change, (*SWEEP, "--trials", "3"), prints(STUDY), may_refuse=True)
    yield from _deletions(base)


def _case(
    base: Base,
    name: str,
    change: Change,
    arguments: tuple[str, ...],
    right: Check | None = None,
    may_refuse: bool = False,
) -> Case:
    def prepare(here: Path) -> list[str]:
        base.copy_place(here)
        change(base, here / "mlruns")
        return list(arguments)

    return Case(KIND, name, prepare, right, may_refuse, seconds=40)


def exported(outcome: Outcome) -> str | None:
    """Return what is wrong with an export, or None."""
    wrong = prints("exported fcnn")(outcome)
    return wrong or (None if (outcome.here / "best" / "model.json").exists() else "no bundle")


def reproduced(outcome: Outcome) -> str | None:
    """Return what is wrong with the report of `harness reproduce`, or None."""
    return json_that(lambda found: None if "agrees" in found else "no report", statuses=(0, 1))(outcome)


def _folder(base: Base, mlruns: Path, kind: str) -> Path:
    """The folder of a run's artifacts."""
    (found,) = mlruns.glob(f"artifacts/*/{base.runs[kind]}/artifacts")
    return found


def _files(name: str) -> dict[str, Change]:
    """Other contents of a file of the study's run."""

    def written(content: bytes | None, base: Base, mlruns: Path) -> None:
        path = _folder(base, mlruns, "study") / name
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    def cut(base: Base, mlruns: Path) -> None:
        path = _folder(base, mlruns, "study") / name
        path.write_bytes(path.read_bytes()[:100])

    def with_numbers(base: Base, mlruns: Path) -> None:
        path = _folder(base, mlruns, "study") / name
        path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), 3)))

    contents = {
        "missing": None,
        "empty": b"",
        "a text": b"hello",
        "a list": b"[]",
        "an empty object": b"{}",
        "not UTF-8": b"\xff\xfe{}",
        "100 000 brackets": b"[" * 100_000,
    }
    found: dict[str, Change] = {f"{name}: {what}": partial(written, content) for what, content in contents.items()}
    return found | {f"{name}: the first 100 bytes": cut, f"{name}: numbers for everything": with_numbers}


def _checkpoints() -> dict[str, Change]:
    def written(file: str, content: bytes | None, base: Base, mlruns: Path) -> None:
        path = _folder(base, mlruns, "trial") / "checkpoint" / file
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    def changed(name: str, value: Any, base: Base, mlruns: Path) -> None:
        change_json(_folder(base, mlruns, "trial") / "checkpoint" / "model.json", {name: value})

    return {
        "a checkpoint without weights": partial(written, "model.safetensors", None),
        "a checkpoint of other weights": partial(written, "model.safetensors", b"hello"),
        "a checkpoint without a description": partial(written, "model.json", None),
        "a checkpoint's description is a list": partial(written, "model.json", b"[]"),
        "a checkpoint of an unknown network": partial(changed, "architecture.model", "vgg"),
        "a checkpoint of too few genres": partial(changed, "architecture.genres", ["blues"]),
        "a checkpoint of other columns": partial(changed, "architecture.columns", ["a"] * 58),
        "a checkpoint of no study": partial(changed, "study", None),
        "a checkpoint of another trial": partial(changed, "trial", 99),
        "a checkpoint of another split": partial(changed, "split_digest", "0" * 64),
    }


def _set_tag(kind: str, key: str, value: str | None, base: Base, mlruns: Path) -> None:
    database, run = mlruns / "mlflow.db", base.runs[kind]
    change_rows(database, "DELETE FROM tags WHERE run_uuid = ? AND key = ?", run, key)
    if value is not None:
        change_rows(database, "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)", run, key, value)


def _config_tags() -> dict[str, Change]:
    values = {
        "missing": None,
        "empty": "",
        "a list": "[]",
        "a word": '"fcnn"',
        "no JSON": "{",
        "of numbers": '{"model": 1, "epochs": 2, "seed": 3, "threads": 4, "precision": 5}',
        "of 10^9 threads": '{"model": "fcnn", "epochs": 1, "seed": 3, "threads": 1000000000, "precision": "fp32"}',
        "of an unknown network": '{"model": "vgg", "epochs": 1, "seed": 3, "threads": 1, "precision": "fp32"}',
        "of an unknown hyperparameter": (
            '{"model": "fcnn", "epochs": 1, "seed": 3, "threads": 1, "precision": "fp32", "depth": 3}'
        ),
        "of a batch of 0": (
            '{"model": "fcnn", "epochs": 1, "seed": 3, "threads": 1, "precision": "fp32", "batch_size": 0}'
        ),
    }
    return {f"a config {name}": partial(_set_tag, "trial", "config", value) for name, value in values.items()}


def _tags(base: Base) -> dict[str, Change]:
    def tag(kind: str, key: str, value: str | None) -> Change:
        return partial(_set_tag, kind, key, value)

    return {
        "a trial of number x": tag("other trial", "trial", "x"),
        "a trial of number -1": tag("other trial", "trial", "-1"),
        "a trial without a number": tag("other trial", "trial", None),
        "a test part opened many times": tag("other trial", "test_openings", "many"),
        "a trial without a study's run": tag("other trial", "mlflow.parentRunId", None),
        "a kind that is unknown": tag("other trial", "kind", "x\x1b[2J"),
        "an environment that is no JSON": tag("trial", "environment", "{"),
        "a study without a digest of its data": tag("study", "data_digest", None),
        "a heartbeat that is no JSON": tag("study", "alive.x", "{"),
        "a heartbeat of the year 9999": tag("study", "alive.x", '{"seen": "9999-01-01T00:00:00Z"}'),
        "a heartbeat that is a list": tag("study", "alive.x", "[]"),
    }


def _runs_of_others(base: Base) -> dict[str, Change]:
    def run(status: str = "FINISHED", **tags: str) -> Change:
        def change(base: Base, mlruns: Path) -> None:
            _add_run(mlruns / "mlflow.db", status, tags)

        return change

    ours = {"study": STUDY, "mlflow.parentRunId": base.runs["study"]}
    digest = json.loads((base.fcnn / "model.json").read_text())["data_digest"]
    return {
        "a run of somebody else, trial x": run(kind="trial", trial="x", **ours),
        "a run of somebody else, trial 0": run(kind="trial", trial="0", **ours),
        "a running run of trial x": run("RUNNING", kind="trial", trial="x", **ours),
        "a run of the same data, opened many times": run(kind="trial", test_openings="many", data_digest=digest),
        "a second run of the study": run(kind="study", study=STUDY),
        "a running study with ESC": run("RUNNING", kind="study", study="a\x1b[2Jb"),
        "a running comparison that climbs": run("RUNNING", kind="comparison", comparison="../../../x"),
        "a running repeat x": run("RUNNING", kind="repeat", repeat="x", comparison="y"),
    }


def _add_run(database: Path, status: str, tags: dict[str, str]) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        experiment, uri = connection.execute(
            "SELECT experiment_id, artifact_location FROM experiments WHERE name = 'demo'"
        ).fetchone()
        run = "f" * 32
        connection.execute(
            "INSERT INTO runs (run_uuid, name, source_type, status, start_time, lifecycle_stage, artifact_uri, "
            "experiment_id) VALUES (?, 'foreign', 'LOCAL', ?, 1, 'active', ?, ?)",
            (run, status, f"{uri}/{run}/artifacts", experiment),
        )
        connection.executemany(
            "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)",
            [(run, key, value) for key, value in tags.items()],
        )


def _databases() -> dict[str, Change]:
    def written(content: bytes, base: Base, mlruns: Path) -> None:
        (mlruns / "mlflow.db").write_bytes(content)

    def cut(base: Base, mlruns: Path) -> None:
        content = (mlruns / "mlflow.db").read_bytes()
        (mlruns / "mlflow.db").write_bytes(content[: len(content) // 2])

    def is_folder(base: Base, mlruns: Path) -> None:
        (mlruns / "mlflow.db").unlink()
        (mlruns / "mlflow.db").mkdir()

    def statement(text: str, base: Base, mlruns: Path) -> None:
        change_rows(mlruns / "mlflow.db", text)

    return {
        "an empty database": partial(written, b""),
        "a database that is a text": partial(written, b"hello\n" * 1000),
        "the first half of the database": cut,
        "a database that is a folder": is_folder,
        "a database of an unknown version": partial(statement, "UPDATE alembic_version SET version_num = 'x'"),
        "a database without runs": partial(statement, "DROP TABLE runs"),
    }


def _work_files() -> dict[str, Change]:
    def written(name: str, content: bytes, base: Base, mlruns: Path) -> None:
        path = mlruns / "work" / STUDY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def folder(name: str, base: Base, mlruns: Path) -> None:
        (mlruns / "work" / STUDY / name).mkdir(parents=True)

    def machine(content: bytes, base: Base, mlruns: Path) -> None:
        (mlruns / "work" / ".machine").write_bytes(content)

    return {
        "a journal of another name": partial(written, "trial-x.jsonl", b"hello\n"),
        "a journal of no name": partial(written, "trial-.jsonl", b""),
        "a journal of a trial that is unknown": partial(written, "trial-00099.jsonl", b"{}\n"),
        "a journal that is a text": partial(written, "trial-00000.jsonl", b"hello\n" * 100),
        "a journal of zeros": partial(written, "trial-00000.jsonl", bytes(10_000)),
        "a journal of one line of 10 MB": partial(written, "trial-00002.jsonl", b"a" * 10_000_000),
        "a journal that is a folder": partial(folder, "trial-00002.jsonl"),
        "a machine's id that is not UTF-8": partial(machine, b"\xff\xfe\x00"),
        "a machine's id of 1 MB": partial(machine, b"a" * 1_000_000),
    }


def _deletions(base: Base) -> Iterator[Case]:
    """`harness delete` where the record says that the files are somewhere else: nothing may be removed there."""
    uris = {
        "in another folder": "file://{here}/" + TREASURE,
        "in another folder, climbing": "file://{here}/mlruns/artifacts/demo/../../../" + TREASURE,
        "in another folder, encoded": "file://{here}/mlruns/..%2F" + TREASURE,
        "in another folder, without a scheme": "{here}/" + TREASURE,
        "on another host": "file://evil.com{here}/" + TREASURE,
        "at the root of the store": "file://{here}/mlruns/artifacts",
    }
    for name, uri in uris.items():
        yield Case(
            KIND, f"artifacts {name} (delete)", partial(_moved, base, uri), prints("deleted"), True, never=_lost
        )


def _moved(base: Base, uri: str, here: Path) -> list[str]:
    base.copy_place(here)
    for folder in (here / TREASURE, here / "mlruns" / "artifacts"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mine.txt").write_text("mine")
    statement = "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?"
    change_rows(here / "mlruns" / "mlflow.db", statement, uri.format(here=here), base.runs["trial"])
    return ["delete", STUDY, "--yes"]


def _lost(outcome: Outcome) -> str | None:
    kept = [outcome.here / folder / "mine.txt" for folder in (TREASURE, "mlruns/artifacts")]
    lost = [str(path.relative_to(outcome.here)) for path in kept if not path.exists()]
    return f"removed {lost}, which is not the run's" if lost else None
