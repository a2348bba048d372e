"""Code in bundles, records and folders that must not run, because the user has not named it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.bad_inputs.base import Base, change_json, change_rows, copy_bundle
from tests.bad_inputs.bundles import sign
from tests.bad_inputs.case import Case, Outcome, prints
from tests.bad_inputs.records import SWEEP, reproduced
from tests.bad_inputs.studies import STUDY, lists_ours, report
from tests.support.planted import Planted

KIND = "code that must not run"
Recorded = Callable[[Path, Planted], None]
# Modules that the command or its workers import; a file of that name lies in the current folder.
MODULES = ("optuna", "mlflow", "torch", "numpy", "json", "harness", "sqlalchemy", "sitecustomize")


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases; `_harm` in `case.py` looks for the mark that planted code leaves."""
    for name, digest in (("no digest", None), ("a wrong digest", "0" * 64), ("its own digest", "right")):
        yield Case(KIND, f"a bundle names a file, {name} (predict)", partial(_bundle, base, digest, ()))
    for name, digest in (("no digest", None), ("a wrong digest", "0" * 64)):
        arguments = ("--trust-code",)
        yield Case(
            KIND,
            f"a bundle names a file, {name} (predict --trust-code)",
            partial(_bundle, base, digest, arguments),
        )
    yield Case(KIND, "a pt2 file with a pickle in it (predict)", partial(_pickled, base))
    yield from _checkpoints(base)
    yield from _contexts(base)
    yield from _studies(base)
    yield _stored_pickle(base)
    for module in MODULES:
        yield Case(
            KIND,
            f"{module}.py in the current folder (sweep)",
            partial(_module, base, module),
            _trained,
            seconds=60,
        )


def _bundle(base: Base, digest: str | None, options: tuple[str, ...], here: Path) -> list[str]:
    folder = copy_bundle(base.fcnn, here / "shared")
    planted = Planted.at(folder / "net.py")
    source = planted.digest if digest == "right" else digest
    change_json(folder / "model.json", {"architecture.model": planted.name, "architecture.source_digest": source})
    return ["predict", "shared", str(base.rows), *options]


def _pickled(base: Base, here: Path) -> list[str]:
    folder = copy_bundle(base.fcnn, here / "shared", ["model.json"])
    mark = here / "shared" / "pickle.ran"
    (folder / "model.pt2").write_bytes(b"\x80\x04cbuiltins\nopen\n(V" + str(mark).encode() + b"\nVw\ntR.")
    sign(folder, "model.pt2")
    return ["predict", "shared", str(base.rows)]


def _stored_pickle(base: Base) -> Case:
    """Optuna keeps the state of its sampler CMA-ES as a pickle in the storage; somebody has put another there."""

    def change(here: Path, planted: Planted) -> None:
        pickled = b"\x80\x04cbuiltins\nopen\n(V" + str(planted.mark).encode() + b"\nVw\ntR."
        database = here / "mlruns" / "optuna.db"
        change_rows(
            database,
            "INSERT INTO trial_system_attributes (trial_id, key, value_json) "
            "SELECT trial_id, 'cma:optimizer:0', ? FROM trials",
            json.dumps(pickled.hex()),
        )
        # A study of this sampler, whose search space has numbers only: CMA-ES draws no others.
        change_rows(
            database,
            "UPDATE study_user_attributes SET value_json = json_set(value_json, '$.sampler', 'cmaes') "
            "WHERE key = 'spec' AND value_json LIKE '%fcnn%'",
        )

    options = ("--trials", "4", "--sampler", "cmaes")
    case = _in_place(base, "a pickle of the sampler in the storage (sweep)", change, (*SWEEP, *options))
    return Case(KIND, case.name, case.prepare, prints("4 of 4"), seconds=90)


def _checkpoints(base: Base) -> Iterator[Case]:
    """A checkpoint of the store names a model file."""

    def change(digest: str | None, base: Base, here: Path, planted: Planted) -> None:
        (path,) = here.glob(f"mlruns/artifacts/*/{base.runs['trial']}/artifacts/checkpoint/model.json")
        source = planted.digest if digest == "right" else digest
        change_json(path, {"architecture.model": planted.name, "architecture.source_digest": source})

    for name, digest in (("no digest", None), ("its own digest", "right")):
        for option, value in (("--run", base.runs["trial"]), ("--study", STUDY)):
            yield _in_place(
                base,
                f"a checkpoint names a file, {name} (export {option})",
                partial(change, digest, base),
                ("export", option, value, "--out", "best"),
            )


def _contexts(base: Base) -> Iterator[Case]:
    """`context.json` of the study's run has code, which `harness reproduce` would build the network from."""
    run = base.runs["trial"]

    def with_source(here: Path, planted: Planted) -> None:
        (path,) = here.glob(f"mlruns/artifacts/*/{base.runs['study']}/artifacts/context.json")
        change_json(path, {"model_source": planted.code})

    def with_model(here: Path, planted: Planted, digest: bool) -> None:
        with_source(here, planted)
        database = here / "mlruns" / "mlflow.db"
        with closing(sqlite3.connect(database)) as connection:
            statement = "SELECT value FROM tags WHERE run_uuid = ? AND key = 'config'"
            (config,) = connection.execute(statement, (run,)).fetchone()
        changed = json.dumps(json.loads(config) | {"model": planted.name})
        change_rows(database, "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'config'", changed, run)
        if digest:
            statement = "INSERT INTO tags (run_uuid, key, value) VALUES (?, 'source_digest', ?)"
            change_rows(database, statement, run, planted.digest)

    reproduce = ("reproduce", run, "--json")
    case = _in_place(base, "code of a model of the package (reproduce)", with_source, reproduce)
    yield Case(KIND, case.name, case.prepare, reproduced)
    for name, digest in (("no digest", False), ("its own digest", True)):
        change = partial(with_model, digest=digest)
        yield _in_place(base, f"code of another model, {name} (reproduce)", change, reproduce)


def _studies(base: Base) -> Iterator[Case]:
    """The study's spec in Optuna's database names a model file."""

    def change(digest: str | None, here: Path, planted: Planted) -> None:
        database = here / "mlruns" / "optuna.db"
        with closing(sqlite3.connect(database)) as connection:
            statement = (
                "SELECT value_json FROM study_user_attributes WHERE key = 'spec' AND value_json LIKE '%fcnn%'"
            )
            (spec,) = connection.execute(statement).fetchone()
        source = planted.digest if digest == "right" else digest
        changed = json.dumps(json.loads(spec) | {"model": planted.name, "source_digest": source})
        statement = "UPDATE study_user_attributes SET value_json = ? WHERE value_json = ?"
        change_rows(database, statement, changed, spec)

    commands: dict[str, tuple[str, ...]] = {
        "worker": ("worker", "--study", STUDY, "--data", str(base.data), "--jobs", "1"),
        "compare": ("compare", "--study", STUDY, "--study", "demo-cnn", "--repeats", "2", "--jobs", "1"),
        "sweep": (*SWEEP, "--trials", "3"),
    }
    for name, digest in (("no digest", None), ("its own digest", "right")):
        for command, arguments in commands.items():
            yield _in_place(base, f"a study names a file, {name} ({command})", partial(change, digest), arguments)
        case = _in_place(base, f"a study names a file, {name} (status)", partial(change, digest), ("status",))
        yield Case(KIND, case.name, case.prepare, lists_ours)
        case = _in_place(
            base, f"a study names a file, {name} (doctor)", partial(change, digest), ("doctor", "--json")
        )
        yield Case(KIND, case.name, case.prepare, report())


def _in_place(base: Base, name: str, change: Recorded, arguments: tuple[str, ...]) -> Case:
    """A command on a copy of the stores, beside a planted file."""

    def prepare(here: Path) -> list[str]:
        base.copy_place(here)
        change(here, Planted.at(here / "net.py"))
        return list(arguments)

    return Case(KIND, name, prepare, seconds=40)


def _module(base: Base, module: str, here: Path) -> list[str]:
    (here / f"{module}.py").write_text(f"open({str(here / f'{module}.ran')!r}, 'w')\n")
    options = ["--trials", "1", "--epochs", "1", "--jobs", "1", "--pruner", "none", "--json"]
    return ["sweep", "--model", "fcnn", "--data", str(base.data), *options]


def _trained(outcome: Outcome) -> str | None:
    return prints('"complete": 1')(outcome)
