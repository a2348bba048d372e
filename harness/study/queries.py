"""Queries over the trials of a study that Optuna's interface answers by reading all of them.

Each function takes no write lock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import select

from harness.core.halving import HALVING_KEY, Contender, Halving
from harness.study.database import HasEngine, plain_reads
from harness.study.tables import from_json

_TRIALS = models.TrialModel.__table__
_RESULTS = models.TrialUserAttributeModel.__table__
# As a text: a state that this Optuna does not know is an error only where it matters.
_STATE = sqlalchemy.type_coerce(_TRIALS.c.state, sqlalchemy.String)
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
CHUNK = 500  # numbers in one statement: databases limit its parameters


@dataclass(frozen=True, slots=True)
class FoundTrial:
    """The id and the state of a trial."""

    id: int
    state: str


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
        Contender(number, states.get(state, "ended"), Halving.of(from_json(text or "")))
        for number, state, text in _rows(storage, query)
    ]


def _chunks(numbers: list[int]) -> list[list[int]]:
    return [numbers[first : first + CHUNK] for first in range(0, len(numbers), CHUNK)]


def _rows(storage: HasEngine, query: sqlalchemy.Select[Any]) -> list[Any]:
    with plain_reads(), storage.engine.connect() as connection:
        return list(connection.execute(query).all())
