"""Optuna stores that somebody else has written, for `status`, `doctor`, `sweep`, `worker`, `compare`, `delete`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tests.bad_inputs.base import Base, change_rows
from tests.bad_inputs.case import Case, Check, Outcome, json_that, prints
from tests.bad_inputs.sets import writes

KIND = "Optuna stores"
STUDY, FOREIGN = "demo-fcnn", "foreign"
Direction = Literal["minimize", "maximize"]
Change = Callable[[Path], None]
STATUS, STATUS_JSON, DOCTOR = ("status",), ("status", "--json"), ("doctor", "--json")


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    for name, change in {**_attributes(), **_foreign()}.items():
        for arguments, right in (*READERS, (STATUS_JSON, lists_ours)):
            yield _case(base, f"{name} ({' '.join(arguments)})", change, arguments, right)
    for name, change in _trials().items():
        for arguments, right in READERS:
            yield _case(base, f"{name} ({' '.join(arguments)})", change, arguments, right)
    for name, change in _files().items():
        yield _case(base, f"{name} (status)", change, STATUS, None)
        yield _case(base, f"{name} (doctor)", change, DOCTOR, report(faults=True))
        yield _case(base, f"{name} (sweep)", change, _sweep(), None)
    for name in ("a spec without a model", "a spec that is a list", "a context that is a list"):
        change = _attributes()[name]
        for arguments in (_sweep(), ("worker", "--study", STUDY, "--data", str(base.data))):
            yield _case(base, f"{name} ({arguments[0]})", change, arguments, None)
        yield _case(base, f"{name} (compare)", change, ("compare", "--experiment", "demo", "--repeats", "2"), None)
        yield _case(base, f"{name} (delete)", change, ("delete", STUDY, "--yes"), prints("deleted"), True)
    delete = ("delete", FOREIGN, "--yes")
    yield _case(
        base, "a study of no harness (delete)", _foreign()["a study of no harness"], delete, prints(), True
    )


def _case(
    base: Base,
    name: str,
    change: Change,
    arguments: tuple[str, ...],
    right: Check | None,
    may_refuse: bool = False,
) -> Case:
    def prepare(here: Path) -> list[str]:
        base.copy_place(here)
        change(here / "mlruns" / "optuna.db")
        return list(arguments)

    return Case(KIND, name, prepare, right, may_refuse)


def _sweep() -> tuple[str, ...]:
    """The same sweep again, which has nothing left to do."""
    options = ("--trials", "2", "--epochs", "1", "--jobs", "1", "--pruner", "none")
    return "sweep", "--model", "fcnn", "--data", "demo", *options


def lists_ours(outcome: Outcome) -> str | None:
    """Return what is wrong with a list of studies in which ours must be, whatever else is."""
    wrong = prints("demo-cnn")(outcome)
    return wrong or (json_that(lambda found: None)(outcome) if "--json" in outcome.arguments else None)


def report(faults: bool = False) -> Check:
    """Return the check of what `harness doctor --json` prints; `faults`: it must have found one."""

    def accept(found: Any) -> str | None:
        if not isinstance(found, list) or not all(isinstance(each.get("found"), str) for each in found):
            return f"no list of findings: {str(found)[:200]}"
        return "found nothing" if faults and not any(each["fault"] for each in found) else None

    return json_that(accept, statuses=(0, 1))


Commands = tuple[tuple[tuple[str, ...], Check], ...]
READERS: Commands = ((STATUS, lists_ours), (DOCTOR, report()))


def _set(key: str, value: Any, database: Path) -> None:
    """Give our study another attribute."""
    change_rows(
        database,
        "UPDATE study_user_attributes SET value_json = ? WHERE key = ? "
        "AND study_id = (SELECT study_id FROM studies WHERE study_name = ?)",
        value if isinstance(value, bytes) else json.dumps(value),
        key,
        STUDY,
    )


def _attributes() -> dict[str, Change]:
    values: dict[str, tuple[str, Any]] = {
        "a spec without a model": ("spec", {"name": "x"}),
        "a spec that is a list": ("spec", [1, 2]),
        "a spec that is a number": ("spec", 3),
        "a spec that is null": ("spec", None),
        "a spec that is no JSON": ("spec", b"{"),
        "a model that is a number": ("spec", {"model": 3}),
        "a model's name of markup": ("spec", {"model": "x.py:[/b]"}),
        "a model's name with ESC": ("spec", {"model": "\x1b]0;x\x07"}),
        "a context that is a list": ("context", []),
        "a context that is a word": ("context", "x"),
        "a context without a data set": ("context", {"experiment": "demo"}),
        "targets that are a number": ("targets", 3),
        "a target that is a word": ("targets", {"n_trials": "many", "attempts": 3, "keep": None}),
        "targets that are NaN": ("targets", b'{"n_trials": NaN}'),
    }
    return {name: partial(_set, key, value) for name, (key, value) in values.items()}


def _foreign() -> dict[str, Change]:
    spec = {"model": "fcnn"}

    def made(name: str, directions: tuple[Direction, ...] = ("maximize",), **attributes: Any) -> Change:
        def change(database: Path) -> None:
            import optuna

            optuna.logging.set_verbosity(optuna.logging.ERROR)
            study = optuna.create_study(storage=f"sqlite:///{database}", study_name=name, directions=directions)
            for key, value in attributes.items():
                study.set_user_attr(key, value)
            study.add_trial(
                optuna.trial.create_trial(
                    values=[0.5] * len(directions),
                    params={"x": 1.5},
                    distributions={"x": optuna.distributions.FloatDistribution(0, 3)},
                )
            )

        return change

    return {
        "a study of no harness": made(FOREIGN),
        "a study with two objectives": made(FOREIGN, ("maximize", "minimize"), spec=spec, context={}),
        "a study's name with ESC": made("a\x1b[2Jb", spec=spec, context={}),
        "a study's name of markup": made("[link=http://evil.com]a[/link]", spec=spec, context={}),
        "a study's name that climbs": made("../../x", spec=spec, context={}),
        "a study's name that is written right to left": made("a\u202eb", spec=spec, context={}),
        "a study's name of 500 letters": made("a" * 500, spec=spec, context={}),
        "a study's empty name": made("", spec=spec, context={}),
    }


def _trials() -> dict[str, Change]:
    def statement(text: str, *parameters: object) -> Change:
        return lambda database: change_rows(database, text, *parameters)

    attribute = "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'result'"
    return {
        "results that are lists": statement(attribute, "[1]"),
        "results without a best epoch": statement(attribute, '{"best": {}}'),
        "results of words": statement(attribute, '{"best": "high"}'),
        "values that are infinite": statement("UPDATE trial_values SET value = NULL, value_type = 'INF_POS'"),
        "values of 10^300": statement("UPDATE trial_values SET value = 1e300"),
        "no values": statement("DELETE FROM trial_values"),
        "no params": statement("DELETE FROM trial_params"),
        "trials that run without a process": statement("UPDATE trials SET state = 'RUNNING'"),
        "trials that wait": statement("UPDATE trials SET state = 'WAITING'"),
        "no times": statement("UPDATE trials SET datetime_start = NULL, datetime_complete = NULL"),
        "numbers from 1 000 on": statement("UPDATE trials SET number = number + 1000"),
    }


def _files() -> dict[str, Change]:
    def cut(database: Path) -> None:
        content = database.read_bytes()
        database.write_bytes(content[: len(content) // 2])

    def is_folder(database: Path) -> None:
        database.unlink()
        database.mkdir()

    def is_the_other(database: Path) -> None:
        shutil.copy(database.with_name("mlflow.db"), database)

    def is_foreign(database: Path) -> None:
        database.unlink()
        change_rows(database, "CREATE TABLE notes (text TEXT)")

    def statement(text: str) -> Change:
        return lambda database: change_rows(database, text)

    return {
        "an empty file": writes(bytes),
        "a text": writes(lambda: b"hello\n" * 1000),
        "zeros": writes(lambda: bytes(10_000)),
        "the first half of the file": cut,
        "a folder": is_folder,
        "MLflow's database": is_the_other,
        "the database of another program": is_foreign,
        "an older schema": statement("UPDATE alembic_version SET version_num = 'v2.6.0.a'"),
        "no version of the schema": statement("DROP TABLE alembic_version"),
        "an unknown version of the schema": statement("UPDATE alembic_version SET version_num = 'v99'"),
        "no table of trials": statement("DROP TABLE trials"),
        "no table of attributes": statement("DROP TABLE study_user_attributes"),
    }
