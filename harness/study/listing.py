"""The studies of a storage and what is found in them, from Optuna's own tables by plain statements.

Optuna's interface reads every trial of a study to count them. Each function here sends one statement, however many
studies and trials there are, and takes no write lock. Optuna is not imported: `harness status` does without it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from harness.core.errors import StudyError
from harness.core.files import read_only_name, sqlite_path
from harness.core.objective import ACCURACY, Objective
from harness.core.ranking import tie_break
from harness.core.recorded import UNREADABLE
from harness.core.records import TrialCounts
from harness.core.space import Params, Value
from harness.study.attributes import (
    CONFIRMATION_KEY,
    CONTEXT_KEY,
    KNOWN_KEY,
    RESULT_KEY,
    SPEC_KEY,
    TARGETS_KEY,
    StudyAttributes,
    StudyFault,
    read_attributes,
)
from harness.study.database import (
    Database,
    HasEngine,
    check_is_optunas,
    has_failed,
    is_of_this_schema,
    rows_of,
)

_COUNTED = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}
_KEYS = ", ".join(f"'{key}'" for key in (SPEC_KEY, CONTEXT_KEY, TARGETS_KEY, CONFIRMATION_KEY, KNOWN_KEY))
_STUDIES = f"""
    SELECT s.study_id, s.study_name,
        (SELECT count(*) FROM study_directions AS d WHERE d.study_id = s.study_id),
        a."key", a.value_json
    FROM studies AS s
    LEFT JOIN study_user_attributes AS a ON a.study_id = s.study_id AND a."key" IN ({_KEYS})
"""
_SUMMARIES = "SELECT study_id, state, count(*), max(datetime_start), max(datetime_complete) FROM trials"
_BEST = f"""
    WITH ranked AS (
        SELECT t.study_id, t.trial_id, t.number, v.value,
            rank() OVER (
                PARTITION BY t.study_id
                ORDER BY CASE WHEN d.direction = 'MINIMIZE' THEN -v.value ELSE v.value END DESC
            ) AS place
        FROM trials AS t
        JOIN trial_values AS v ON v.trial_id = t.trial_id AND v.objective = 0 AND v.value IS NOT NULL
        JOIN study_directions AS d ON d.study_id = t.study_id AND d.objective = 0
        WHERE t.state = 'COMPLETE'
    )
    SELECT r.study_id, r.number, r.value, u.value_json, p.param_name, p.param_value, p.distribution_json
    FROM ranked AS r
    LEFT JOIN trial_user_attributes AS u ON u.trial_id = r.trial_id AND u."key" = '{RESULT_KEY}'
    LEFT JOIN trial_params AS p ON p.trial_id = r.trial_id
    WHERE r.place = 1
    ORDER BY r.study_id, r.number, p.param_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOverview:
    """One study in `harness status`; `n_trials` is the target of its last sweep, None before the first.

    `fault` says why the study cannot be used; such a study has neither model nor experiment nor identity.
    `part_of` is the study whose best setting this one trains or confirms, None for a search. `best` and
    `best_params` are those of the trial that a confirmation chose, if trials have not finished since.
    """

    name: str
    model: str | None
    experiment: str | None
    identity: str | None
    n_trials: int | None
    counts: TrialCounts
    best: float | None
    best_params: Params
    last_touched: datetime | None
    fault: StudyFault | None = None
    part_of: str | None = None
    objective: Objective = ACCURACY

    @property
    def is_finished(self) -> bool:
        """Whether the study has its target number of finished trials and at least one complete trial."""
        return self.best is not None and self.n_trials is not None and self.counts.finished >= self.n_trials


@dataclass(slots=True)
class StudyRow:
    """A study as the storage has it; an attribute that is no JSON is None."""

    name: str
    objectives: int
    attributes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSummary:
    """How many trials of a study are in each state, and the last start or end of one (local time)."""

    counts: TrialCounts
    last_touched: datetime | None


@dataclass(frozen=True, slots=True)
class BestTrial:
    """The value and the parameters of a study's best trial; `params` is None if they cannot be read."""

    value: float
    params: dict[str, Value] | None


@contextmanager
def reading_database(url: str) -> Iterator[Database | HasEngine]:
    """Open a storage for the list of studies alone, as `reading_storage` does.

    Optuna's own way is taken only for a database server, and for a file that this Optuna's last migration has not
    seen.

    Raises StudyError if the storage cannot be opened, or fails inside the block.
    """
    path = sqlite_path(url)
    if path is not None and path.exists():
        check_is_optunas(path)
    if path is None or not path.exists() or not is_of_this_schema(path):
        from harness.study.storage import reading_storage

        with reading_storage(url) as storage:
            yield storage
        return
    try:
        with closing(sqlite3.connect(read_only_name(path), uri=True)) as connection:
            yield Database(connection)
    except (sqlite3.Error, OSError) as error:
        raise has_failed(url, error) from error


def list_studies(storage: Database | HasEngine) -> list[StudyOverview]:
    """Return all studies of this storage, the last used first; nothing is locked or written.

    A study that the harness did not make, or whose record is damaged, has a `fault`.
    """
    studies, summaries, best = read_studies(storage), summarise_trials(storage), best_trials(storage)
    none = TrialSummary(counts=TrialCounts(), last_touched=None)
    found = [_overview(row, summaries.get(key, none), best.get(key)) for key, row in studies.items()]
    return sorted(found, key=lambda o: (o.last_touched is not None, o.last_touched), reverse=True)


def _overview(row: StudyRow, trials: TrialSummary, best: BestTrial | None) -> StudyOverview:
    record = read_attributes(row.name, row.attributes, row.objectives)
    if not isinstance(record, StudyFault) and best is not None and best.params is None:
        record = StudyFault.DAMAGED
    if isinstance(record, StudyFault):
        return StudyOverview(
            name=row.name,
            model=None,
            experiment=None,
            identity=None,
            n_trials=None,
            counts=trials.counts,
            best=None,
            best_params={},
            last_touched=trials.last_touched,
            fault=record,
        )
    value, params = (None, None) if best is None else (best.value, best.params)
    confirmation = record.confirmation
    if confirmation is not None and confirmation.finished == trials.counts.finished:
        value, params = confirmation.chosen.val_accuracy, dict(confirmation.chosen.params)
    return StudyOverview(
        name=row.name,
        model=record.spec.model,
        experiment=record.context.experiment,
        identity=record.context.identity,
        n_trials=None if record.targets is None else record.targets.n_trials,
        counts=trials.counts,
        best=value,
        best_params=params or {},
        last_touched=trials.last_touched,
        part_of=record.spec.part_of,
        objective=record.spec.objective,
    )


def read_studies(storage: Database | HasEngine, study_id: int | None = None) -> dict[int, StudyRow]:
    """Return all studies, or the one of that id, by their id, with the attributes that the harness reads."""
    only = "" if study_id is None else f"WHERE s.study_id = {study_id:d}"
    found: dict[int, StudyRow] = {}
    for found_id, name, number, key, text in rows_of(storage, f"{_STUDIES} {only} ORDER BY s.study_id"):
        row = found.setdefault(found_id, StudyRow(name, number))
        if key is not None:
            row.attributes[key] = from_json(text)
    return found


def read_record(storage: Database | HasEngine, study_id: int) -> StudyAttributes | StudyFault:
    """Return the record of a study, or why it has none that can be used.

    Raises KeyError if there is no study of that id.
    """
    row = read_studies(storage, study_id)[study_id]
    return read_attributes(row.name, row.attributes, row.objectives)


def find_record(storage: Database | HasEngine, name: str) -> StudyAttributes | None:
    """Return the record of a study, None if there is no study of that name or its record cannot be used."""
    for row in read_studies(storage).values():
        if row.name == name:
            record = read_attributes(row.name, row.attributes, row.objectives)
            return None if isinstance(record, StudyFault) else record
    return None


def check_exists(storage: Database | HasEngine, name: str) -> None:
    """Raise StudyError, with the existing names, if there is no study of that name."""
    names = sorted(row.name for row in read_studies(storage).values())
    if name not in names:
        raise StudyError(
            f"there is no study {name!r}",
            expected=", ".join(names) or "none yet",
            hint="harness status, or harness sweep to make one",
        )


def summarise_trials(storage: Database | HasEngine, study_id: int | None = None) -> dict[int, TrialSummary]:
    """Return the summary of each study that has trials, or of one study, by the study's id."""
    only = "" if study_id is None else f"WHERE study_id = {study_id:d}"
    counts: dict[int, dict[str, int]] = {}
    touched: dict[int, list[datetime]] = {}
    for study, state, number, started, ended in rows_of(storage, f"{_SUMMARIES} {only} GROUP BY study_id, state"):
        if state not in _COUNTED:
            continue
        counts.setdefault(study, {})[_COUNTED[state]] = number
        touched.setdefault(study, []).extend(_time(text) for text in (started, ended) if text is not None)
    return {
        study: TrialSummary(counts=TrialCounts(**found), last_touched=_local(max(touched[study], default=None)))
        for study, found in counts.items()
    }


def count_trials(storage: Database | HasEngine, study_id: int) -> TrialCounts:
    """Return the number of trials of a study in each state."""
    found = summarise_trials(storage, study_id).get(study_id)
    return TrialCounts() if found is None else found.counts


def best_trials(storage: Database | HasEngine) -> dict[int, BestTrial]:
    """Return the best complete trial of each study, by the study's id; ties as `tie_break` has them."""
    equals: dict[int, dict[int, list[Any]]] = {}  # the rows of each trial, by study and number
    for study, number, *rest in rows_of(storage, _BEST):
        equals.setdefault(study, {}).setdefault(number, []).append(rest)
    found = {}
    for study, trials in equals.items():
        number = min(trials, key=lambda n: tie_break(_val_loss(trials[n][0][1]), n))
        found[study] = BestTrial(trials[number][0][0], _params([row[2:] for row in trials[number]]))
    return found


def _val_loss(text: str | None) -> float | None:
    try:
        loss = json.loads(text or "")["best"]["val_loss"]
    except UNREADABLE:
        return None
    return loss if isinstance(loss, float) else None


def _params(rows: list[Any]) -> dict[str, Value] | None:
    """Return the parameters of a trial from their names, values and distributions; None if they cannot be read."""
    try:
        return {name: _external(value, json.loads(text)) for name, value, text in rows if name is not None}
    except (*UNREADABLE, IndexError, OverflowError):
        return None


def _external(value: float, distribution: dict[str, Any]) -> Value:
    """Return the value of a parameter, which Optuna keeps as a number, as its distribution has it.

    Raises one of UNREADABLE or IndexError for what is no distribution as this Optuna writes it.
    """
    match distribution["name"]:
        case "CategoricalDistribution":
            choice: Value = distribution["attributes"]["choices"][int(value)]
            return choice
        case "IntDistribution":
            return int(value)
        case "FloatDistribution":
            return float(value)
    raise ValueError(distribution["name"])


def from_json(text: str) -> object:
    """Return the content of a JSON text, None for any other text."""
    try:
        return json.loads(text)
    except UNREADABLE:
        return None


def _time(found: datetime | str) -> datetime:
    """Return a time of the storage, which is a text in SQLite."""
    return datetime.fromisoformat(found) if isinstance(found, str) else found


def _local(time: datetime | None) -> datetime | None:
    """Return a time of the storage, which is UTC, as the local time without a zone that Optuna gives."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
