"""The list of studies: the same as Optuna's own, by a few queries, whatever else lies in the storage."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from harness.core.errors import StudyError
from harness.core.files import read_only_url
from harness.core.records import TrialResult
from harness.study import Study, StudyFault, list_studies, open_storage, reading_storage
from tests.support.commands import Harness, last_json
from tests.support.scale import counted_statements, fabricate
from tests.support.stores import Stores
from tests.support.studies import CONTEXT, SPEC, complete, take


def made_in(storage: RDBStorage, folder: Path) -> Study:
    return Study.create(storage, SPEC, CONTEXT, folder / "work", first_trial={"lr": 0.001, "batch_size": 32})


def test_the_list_has_what_optuna_has(workspace: Path) -> None:
    storage = open_storage(Stores.here().storage)
    study = made_in(storage, workspace)
    for value in (0.3, 0.8, 0.8, 0.5):
        complete(take(study), value)
    take(study).finish(TrialResult(state="diverged", best=None, reason="nan"))
    take(study).finish(TrialResult(state="interrupted", best=None))
    running = take(study)
    (line,) = list_studies(storage)
    reference = optuna.load_study(study_name=SPEC.name, storage=storage)
    trials = reference.get_trials()
    states = [trial.state for trial in trials]
    assert (line.counts.complete, line.counts.failed) == (4, 1)
    assert line.counts.running == states.count(TrialState.RUNNING) == 1
    assert line.counts.total == len(trials)
    assert (line.best, line.best_params) == (reference.best_value, reference.best_params)
    assert line.best_params == trials[1].params  # of equals the first
    times = [time for trial in trials for time in (trial.datetime_start, trial.datetime_complete) if time]
    assert line.last_touched == max(times)
    assert (line.model, line.experiment, line.identity) == (SPEC.model, CONTEXT.experiment, CONTEXT.identity)
    running.abandon()
    storage.engine.dispose()


def test_the_number_of_queries_depends_neither_on_studies_nor_on_trials(workspace: Path) -> None:
    numbers = []
    for studies, trials in ((1, 20), (30, 20), (1, 1500)):
        fabricate(Stores.here(), studies, trials)
        with counted_statements() as statements, reading_storage(Stores.here().storage) as storage:
            found = list_studies(storage)
        assert found[0].best_params
        numbers.append(len(statements.sent))
    assert len(found) == 32
    assert max(line.counts.complete for line in found) == 1500
    assert {line.best for line in found} == {0.9}
    assert len(set(numbers)) == 1
    assert numbers[0] <= 10


def test_a_reader_writes_nothing_and_takes_no_lock(workspace: Path, inside: Harness) -> None:
    fabricate(Stores.here(), 1, 5)
    before = {path: path.stat() for path in workspace.rglob("*")}
    with counted_statements() as statements:
        inside("status")
        inside("status", "--json")
        inside("doctor")
    assert statements.write_locks == 0
    assert not [sent for sent in statements.sent if sent.split()[0] in ("INSERT", "UPDATE", "DELETE", "CREATE")]
    after = {path: path.stat() for path in workspace.rglob("*")}
    assert {path: (stat.st_size, stat.st_mtime_ns) for path, stat in before.items()} == {
        path: (stat.st_size, stat.st_mtime_ns) for path, stat in after.items()
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_storage_that_may_not_be_written(workspace: Path, inside: Harness) -> None:
    fabricate(Stores.here(), 1, 5)
    (workspace / "mlruns" / "optuna.db").chmod(0o444)
    (workspace / "mlruns").chmod(0o555)
    assert "large-1x5-000" in inside("status").stdout
    assert inside("doctor").stdout == "nothing is wrong\n"
    (workspace / "mlruns").chmod(0o755)


def test_a_storage_for_reading_cannot_be_written(workspace: Path) -> None:
    fabricate(Stores.here(), 1, 5)
    with pytest.raises(StudyError, match="readonly"), reading_storage(Stores.here().storage) as storage:
        optuna.create_study(study_name="new", storage=storage)
    assert "mode=ro" in read_only_url(Path("mlruns/optuna.db"))


def test_a_large_study_is_read_without_the_write_lock(workspace: Path) -> None:
    (spec,) = fabricate(Stores.here(), 1, 50)
    storage = open_storage(Stores.here().storage)
    study = Study.open(storage, spec.name, workspace / "work")
    with counted_statements() as statements:
        assert len(study.rows()) == study.counts().complete == 50
        assert study.stale() == []
    assert statements.write_locks == 0
    assert any("trial_params" in sent for sent in statements.sent)
    storage.engine.dispose()


def foreign(storage: RDBStorage) -> None:
    optuna.create_study(study_name="theirs", storage=storage).optimize(
        lambda trial: trial.suggest_float("x", 0, 1), 2
    )


def two_objectives(storage: RDBStorage) -> None:
    study = optuna.create_study(study_name="theirs", storage=storage, directions=["maximize", "minimize"])
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 0), 2)


def spec_of(content: Any) -> Callable[[RDBStorage], None]:
    def make(storage: RDBStorage) -> None:
        study = optuna.create_study(study_name="theirs", storage=storage, direction="maximize")
        study.set_user_attr("context", CONTEXT.as_json())
        study.set_user_attr("spec", content)

    return make


def targets_of(content: Any) -> Callable[[RDBStorage], None]:
    def make(storage: RDBStorage) -> None:
        spec_of(SPEC.frozen_settings())(storage)
        optuna.load_study(study_name="theirs", storage=storage).set_user_attr("targets", content)

    return make


def no_json(storage: RDBStorage) -> None:
    spec_of(SPEC.frozen_settings())(storage)
    with storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "UPDATE study_user_attributes SET value_json = '{' WHERE key = 'context' AND study_id = 2"
            )
        )


def interrupted(storage: RDBStorage) -> None:
    study = optuna.create_study(study_name="theirs", storage=storage, direction="maximize")
    study.set_user_attr("context", CONTEXT.as_json())


SETTINGS = SPEC.frozen_settings()


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (foreign, StudyFault.FOREIGN),
        (two_objectives, StudyFault.FOREIGN),
        (interrupted, StudyFault.INTERRUPTED),
        (spec_of({key: value for key, value in SETTINGS.items() if key != "model"}), StudyFault.DAMAGED),
        *(
            pytest.param(make, StudyFault.DAMAGED, marks=pytest.mark.long)
            for make in (
                spec_of([1, 2]),
                spec_of({**SETTINGS, "model": 5}),
                spec_of({**SETTINGS, "pruner": "theirs"}),
                spec_of({**SETTINGS, "space": {"lr": {"low": "a", "high": 1}}}),
                targets_of(7),
            )
        ),
        (targets_of({"n_trials": "many", "attempts": 3, "keep": None}), StudyFault.DAMAGED),
        (no_json, StudyFault.DAMAGED),
    ],
    ids=lambda value: None if isinstance(value, StudyFault) else getattr(value, "__name__", None),
)
def test_an_odd_study_is_listed_and_hides_no_other(
    workspace: Path, inside: Harness, make: Callable[[RDBStorage], None], fault: StudyFault
) -> None:
    fabricate(Stores.here(), 1, 5)
    storage = open_storage(Stores.here().storage)
    make(storage)
    with pytest.raises(StudyError, match=str(fault)):
        Study.open(storage, "theirs", workspace / "work")
    storage.engine.dispose()
    lines = {line["name"]: line for line in last_json(inside("status", "--json"))}
    assert (lines["theirs"]["fault"], lines["theirs"]["model"]) == (fault, None)
    assert (lines["large-1x5-000"]["fault"], lines["large-1x5-000"]["counts"]["complete"]) == (None, 5)
    shown = " ".join(inside("status", COLUMNS="200").stdout.split())
    assert f"theirs │ ({fault})" in shown
    assert "large-1x5-000 │ fcnn" in shown
    report = inside("doctor", code=int(fault is StudyFault.DAMAGED)).stdout
    assert f"theirs: {fault}" in report
    assert "large-1x5-000" not in report


def test_a_name_steers_no_terminal(workspace: Path, inside: Harness) -> None:
    storage = open_storage(Stores.here().storage)
    spec_of({**SETTINGS, "model": "x.py:[/b]"})(storage)
    for name in ("\x1b]0;mine\x07\x1b[31mred", "[bold]b[/red]", "[link=http://x]y[/link]", "../../up", "a\rb"):
        optuna.create_study(study_name=name, storage=storage)
    storage.engine.dispose()
    out = inside("status", COLUMNS="200").stdout
    assert "?]0;mine?[31mred" in out  # rich itself drops the bell
    assert "[bold]b[/red]" in out
    assert "[link=http://x]y[/link]" in out
    assert "[/b]" in out
    report = inside("doctor", code=1).stdout
    assert "../../up: not made by harness" in report
    assert not [character for character in out + report if ord(character) < 32 and character != "\n"]
    assert json.loads(inside("status", "--json").stdout)


def test_a_sweep_does_not_take_a_foreign_study_over(workspace: Path) -> None:
    storage = open_storage(Stores.here().storage)
    optuna.create_study(study_name=SPEC.name, storage=storage, directions=["maximize", "minimize"])
    with pytest.raises(StudyError, match="not made by harness"):
        made_in(storage, workspace)
    assert optuna.load_study(study_name=SPEC.name, storage=storage).user_attrs == {}
    storage.engine.dispose()


@pytest.mark.long
@pytest.mark.parametrize(
    ("statement", "found"),
    [("DROP TABLE alembic_version", "no table alembic_version"), ("DROP TABLE trials", "no table trials")],
)
def test_a_database_that_is_not_whole_is_one_error_and_stays_as_it_is(
    workspace: Path, inside: Harness, statement: str, found: str
) -> None:
    fabricate(Stores.here(), 1, 5)
    database = workspace / "mlruns" / "optuna.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = database.read_bytes()
    for command in (("status",), ("sweep", "--model", "fcnn", "--data", "demo", "--trials", "1")):
        error = inside(*command, code=1).stderr
        assert error.count("error: ") == 1
        assert found in " ".join(error.split())
    assert database.read_bytes() == before


def test_the_database_of_another_program_is_one_error(workspace: Path) -> None:
    path = workspace / "mlruns" / "optuna.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    for create in (False, True):
        with pytest.raises(StudyError, match="not a database of Optuna"):
            open_storage(Stores.here().storage, create=create)
