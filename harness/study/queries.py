"""Queries over Optuna's own tables: its interface reads every trial of a study to count them.

Each function sends one statement, however many studies and trials there are, and takes no write lock.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import optuna
import sqlalchemy
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import case, func, select

from harness.core.errors import StudyError
from harness.core.halving import HALVING_KEY, Contender, Halving
from harness.core.ranking import tie_break
from harness.core.recorded import UNREADABLE
from harness.core.records import TrialCounts
from harness.core.space import Value
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
from harness.study.storage import HasEngine, plain_reads

_STUDIES = models.StudyModel.__table__
_DIRECTIONS = models.StudyDirectionModel.__table__
_ATTRIBUTES = models.StudyUserAttributeModel.__table__
_TRIALS = models.TrialModel.__table__
_VALUES = models.TrialValueModel.__table__
_PARAMS = models.TrialParamModel.__table__
_RESULTS = models.TrialUserAttributeModel.__table__
# As a text: a state that this Optuna does not know is an error only where it matters.
_STATE = sqlalchemy.type_coerce(_TRIALS.c.state, sqlalchemy.String)
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
CHUNK = 500  # numbers in one statement: databases limit its parameters

_COUNTED = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}


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


@dataclass(frozen=True, slots=True)
class FoundTrial:
    """The id and the state of a trial."""

    id: int
    state: str


def read_studies(storage: HasEngine, study_id: int | None = None) -> dict[int, StudyRow]:
    """Return all studies, or the one of that id, by their id, with the attributes that the harness reads."""
    keys = (SPEC_KEY, CONTEXT_KEY, TARGETS_KEY, CONFIRMATION_KEY, KNOWN_KEY)
    objectives = (
        select(func.count())
        .where(_DIRECTIONS.c.study_id == _STUDIES.c.study_id)
        .correlate(_STUDIES)
        .scalar_subquery()
    )
    query = (
        select(_STUDIES.c.study_id, _STUDIES.c.study_name, objectives, _ATTRIBUTES.c.key, _ATTRIBUTES.c.value_json)
        .outerjoin(_ATTRIBUTES, (_ATTRIBUTES.c.study_id == _STUDIES.c.study_id) & _ATTRIBUTES.c.key.in_(keys))
        .order_by(_STUDIES.c.study_id)
    )
    if study_id is not None:
        query = query.where(_STUDIES.c.study_id == study_id)
    found: dict[int, StudyRow] = {}
    for found_id, name, number, key, text in _rows(storage, query):
        row = found.setdefault(found_id, StudyRow(name, number))
        if key is not None:
            row.attributes[key] = _from_json(text)
    return found


def read_record(storage: HasEngine, study_id: int) -> StudyAttributes | StudyFault:
    """Return the record of a study, or why it has none that can be used.

    Raises KeyError if there is no study of that id.
    """
    row = read_studies(storage, study_id)[study_id]
    return read_attributes(row.name, row.attributes, row.objectives)


def find_record(storage: HasEngine, name: str) -> StudyAttributes | None:
    """Return the record of a study, None if there is no study of that name or its record cannot be used."""
    for row in read_studies(storage).values():
        if row.name == name:
            record = read_attributes(row.name, row.attributes, row.objectives)
            return None if isinstance(record, StudyFault) else record
    return None


def check_exists(storage: HasEngine, name: str) -> None:
    """Raise StudyError, with the existing names, if there is no study of that name."""
    names = sorted(row.name for row in read_studies(storage).values())
    if name not in names:
        raise StudyError(
            f"there is no study {name!r}",
            expected=", ".join(names) or "none yet",
            hint="harness status, or harness sweep to make one",
        )


def summarise_trials(storage: HasEngine, study_id: int | None = None) -> dict[int, TrialSummary]:
    """Return the summary of each study that has trials, or of one study, by the study's id."""
    times = func.max(_TRIALS.c.datetime_start), func.max(_TRIALS.c.datetime_complete)
    query = select(_TRIALS.c.study_id, _STATE, func.count(), *times).group_by(_TRIALS.c.study_id, _STATE)
    if study_id is not None:
        query = query.where(_TRIALS.c.study_id == study_id)
    counts: dict[int, dict[str, int]] = {}
    touched: dict[int, list[datetime]] = {}
    for study, state, number, started, ended in _rows(storage, query):
        if state not in _COUNTED:
            continue
        counts.setdefault(study, {})[_COUNTED[state]] = number
        touched.setdefault(study, []).extend(time for time in (started, ended) if time is not None)
    return {
        study: TrialSummary(counts=TrialCounts(**found), last_touched=_local(max(touched[study], default=None)))
        for study, found in counts.items()
    }


def count_trials(storage: HasEngine, study_id: int) -> TrialCounts:
    """Return the number of trials of a study in each state."""
    found = summarise_trials(storage, study_id).get(study_id)
    return TrialCounts() if found is None else found.counts


def best_trials(storage: HasEngine) -> dict[int, BestTrial]:
    """Return the best complete trial of each study, by the study's id; ties as `tie_break` has them."""
    falling = case((_DIRECTIONS.c.direction == StudyDirection.MINIMIZE, -_VALUES.c.value), else_=_VALUES.c.value)
    place = func.rank().over(partition_by=_TRIALS.c.study_id, order_by=falling.desc())
    has_direction = (_DIRECTIONS.c.study_id == _TRIALS.c.study_id) & (_DIRECTIONS.c.objective == 0)
    ranked = (
        select(_TRIALS.c.study_id, _TRIALS.c.trial_id, _TRIALS.c.number, _VALUES.c.value, place.label("place"))
        .join(_VALUES, _VALUES.c.trial_id == _TRIALS.c.trial_id)
        .join(_DIRECTIONS, has_direction)
        .where(_TRIALS.c.state == TrialState.COMPLETE, _VALUES.c.objective == 0, _VALUES.c.value.is_not(None))
        .subquery()
    )
    of_trial, is_result = _RESULTS.c.trial_id == ranked.c.trial_id, _RESULTS.c.key == RESULT_KEY
    query = (
        select(ranked.c.study_id, ranked.c.number, ranked.c.value, _RESULTS.c.value_json)
        .add_columns(_PARAMS.c.param_name, _PARAMS.c.param_value, _PARAMS.c.distribution_json)
        .outerjoin(_RESULTS, of_trial & is_result)
        .outerjoin(_PARAMS, _PARAMS.c.trial_id == ranked.c.trial_id)
        .where(ranked.c.place == 1)
        .order_by(ranked.c.study_id, ranked.c.number, _PARAMS.c.param_id)
    )
    equals: dict[int, dict[int, list[Any]]] = {}  # the rows of each trial, by study and number
    for row in _rows(storage, query):
        equals.setdefault(row.study_id, {}).setdefault(row.number, []).append(row)
    found = {}
    for study, trials in equals.items():
        number = min(trials, key=lambda n: tie_break(_val_loss(trials[n][0].value_json), n))
        found[study] = BestTrial(trials[number][0].value, _params(trials[number]))
    return found


def _val_loss(text: str | None) -> float | None:
    try:
        loss = json.loads(text or "")["best"]["val_loss"]
    except UNREADABLE:
        return None
    return loss if isinstance(loss, float) else None


def _params(rows: list[Any]) -> dict[str, Value] | None:
    try:
        return {
            row.param_name: optuna.distributions.json_to_distribution(row.distribution_json).to_external_repr(
                row.param_value
            )
            for row in rows
            if row.param_name is not None
        }
    except (*UNREADABLE, IndexError):
        return None


def find_trials(
    storage: HasEngine,
    study_id: int,
    *,
    states: Collection[TrialState] | None = None,
    numbers: Collection[int] | None = None,
) -> dict[int, FoundTrial]:
    """Return the trials of a study that have one of these states and one of these numbers, sorted by number."""
    query = select(_TRIALS.c.number, _TRIALS.c.trial_id, _STATE).where(_TRIALS.c.study_id == study_id)
    if states is not None:
        query = query.where(_TRIALS.c.state.in_(states))
    found: dict[int, FoundTrial] = {}
    for chunk in [None] if numbers is None else _chunks(sorted(numbers)):
        part = query if chunk is None else query.where(_TRIALS.c.number.in_(chunk))
        found |= {number: FoundTrial(trial_id, state) for number, trial_id, state in _rows(storage, part)}
    return dict(sorted(found.items()))


def read_contenders(storage: HasEngine, study_id: int) -> list[Contender]:
    """Return what the halving knows of the trials of a study that have not failed, sorted by number."""
    of_trial = (_RESULTS.c.trial_id == _TRIALS.c.trial_id) & (_RESULTS.c.key == HALVING_KEY)
    query = (
        select(_TRIALS.c.number, _STATE, _RESULTS.c.value_json)
        .outerjoin(_RESULTS, of_trial)
        .where(_TRIALS.c.study_id == study_id, _TRIALS.c.state != TrialState.FAIL)
        .order_by(_TRIALS.c.number)
    )
    states: dict[str, Literal["waiting", "running"]] = {"WAITING": "waiting", "RUNNING": "running"}
    return [
        Contender(number, states.get(state, "ended"), Halving.of(_from_json(text or "")))
        for number, state, text in _rows(storage, query)
    ]


def _chunks(numbers: list[int]) -> list[list[int]]:
    return [numbers[first : first + CHUNK] for first in range(0, len(numbers), CHUNK)]


def _rows(storage: HasEngine, query: sqlalchemy.Select[Any]) -> list[Any]:
    with _connected(storage) as connection:
        return list(connection.execute(query).all())


@contextmanager
def _connected(storage: HasEngine) -> Iterator[sqlalchemy.Connection]:
    with plain_reads(), storage.engine.connect() as connection:
        yield connection


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except UNREADABLE:
        return None


def _local(time: datetime | None) -> datetime | None:
    """Return a time of the storage, which is UTC, as the local time without a zone that Optuna gives."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
