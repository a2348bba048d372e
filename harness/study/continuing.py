"""Makes a study, or checks that a sweep continues it with the settings that it was made with."""

from __future__ import annotations

import json
from typing import Any

import optuna
from optuna.study import StudyDirection

from harness.core.errors import StudyError
from harness.core.json_types import JsonObject
from harness.core.known import KnownTrials
from harness.core.records import StudySpec
from harness.core.space import Params
from harness.core.study_record import StudyContext
from harness.study.attributes import CONTEXT_KEY, KNOWN_KEY, SPEC_KEY, StudyAttributes, StudyFault


def make_or_check(
    study: optuna.Study,
    record: StudyAttributes | StudyFault,
    spec: StudySpec,
    context: StudyContext,
    first_trial: Params | None,
    known: KnownTrials | None,
) -> None:
    """Store the settings of a new study; `first_trial` has the parameters of its first trial, `known` what its
    search is told.

    `record` is what the study has stored already. The caller has the study's lock. Raises StudyError if the study
    was made with other settings, in another experiment, or by another program.
    """
    if isinstance(record, StudyAttributes):
        check_continues(spec, record, known)
        return
    if record is StudyFault.DAMAGED or (record is StudyFault.FOREIGN and not _is_new(study, spec)):
        raise record.error(study.study_name)
    study.set_user_attr(CONTEXT_KEY, context.as_json())
    if known is not None:
        study.set_user_attr(KNOWN_KEY, known.as_json())
    starts = bool(first_trial) and not spec.covers_all
    if starts and not study.get_trials(deepcopy=False):
        study.enqueue_trial(dict(first_trial or {}))
    study.set_user_attr(SPEC_KEY, spec.frozen_settings())  # last: it marks the study as complete


def check_continues(spec: StudySpec, record: StudyAttributes, known: KnownTrials | None) -> None:
    """Raise StudyError if a sweep with this spec and these known trials cannot continue the study."""
    made_in = {"experiment": record.context.experiment}
    check_same_settings(spec, {**made_in, **record.spec.frozen_settings()})
    _check_same_sources(spec.name, known, record.known)


def direction_of(spec: StudySpec) -> StudyDirection:
    """Return the direction in which Optuna searches."""
    return StudyDirection.MINIMIZE if spec.objective.minimise else StudyDirection.MAXIMIZE


def _is_new(study: optuna.Study, spec: StudySpec) -> bool:
    """Return whether a study may be one whose creation has just begun."""
    return study.directions == [direction_of(spec)] and not study.get_trials(deepcopy=False)


def check_same_settings(spec: StudySpec, recorded: JsonObject) -> None:
    """Raise StudyError, with each difference, if the spec differs from the recorded settings and experiment."""
    wanted = {"experiment": spec.experiment, **spec.frozen_settings()}
    differences = [
        f"the file of the model {spec.model} has changed since (its SHA-256 differs)"
        if key == "source_digest" and None not in (value, recorded.get(key))
        else f"{key}: the study has {_short(recorded.get(key))}, this sweep {_short(value)}"
        for key, value in wanted.items()
        if recorded.get(key) != value
    ]
    if differences:
        pruner = recorded.get("pruner")
        that_one = f"--pruner {pruner}, or with " if wanted["pruner"] != pruner and len(differences) == 1 else ""
        raise StudyError(
            f"study {spec.name!r} was made with other settings:\n  " + "\n  ".join(differences),
            expected="to continue a study with the settings it was made with",
            hint=f"the same command with {that_one}--study NEW, for a study of its own",
        )


def _check_same_sources(name: str, known: KnownTrials | None, recorded: KnownTrials | None) -> None:
    """Raise StudyError if a sweep names other sources of known trials than the study was made with."""
    if known is not None and (recorded is None or known.sources != recorded.sources):
        has = "none" if recorded is None else ", ".join(recorded.sources)
        raise StudyError(
            f"study {name!r} was made with known trials of {has}, this sweep names {', '.join(known.sources)}",
            expected="known trials to be told when a study is made",
            hint="the same command without --from and --import, or with --study NEW",
        )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} of them"
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:20]}...{text[-8:]}"
