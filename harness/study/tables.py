"""Optuna's own tables, read by plain statements: studies, and what is found in their trials.

Optuna's interface reads every trial of a study to count them. Each function here sends one statement, however many
studies and trials there are, and takes no write lock. Optuna is not imported.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from harness.core.ranking import tie_break
from harness.core.recorded import UNREADABLE
from harness.core.space import Value
from harness.core.trial_rows import TrialCounts
from harness.study.attributes import CONFIRMATION_KEY, CONTEXT_KEY, KNOWN_KEY, RESULT_KEY, SPEC_KEY, TARGETS_KEY
from harness.study.database import Database, HasEngine, rows_of

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


def read_studies(storage: Database | HasEngine, study_id: int | None = None) -> dict[int, StudyRow]:
    """Return all studies, or the one of that id, by their id, with the attributes that the harness reads."""
    only = "" if study_id is None else f"WHERE s.study_id = {study_id:d}"
    found: dict[int, StudyRow] = {}
    for found_id, name, number, key, text in rows_of(storage, f"{_STUDIES} {only} ORDER BY s.study_id"):
        row = found.setdefault(found_id, StudyRow(name, number))
        if key is not None:
            row.attributes[key] = from_json(text)
    return found


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
