"""The check that a sweep continues a study with the settings that the study was made with."""

from __future__ import annotations

import json
from typing import Any

from harness.core.errors import StudyError
from harness.core.json_types import JsonObject
from harness.core.records import StudySpec


def check_same_settings(spec: StudySpec, recorded: JsonObject) -> None:
    """Raise StudyError, with each difference, if the spec differs from the recorded settings and experiment."""
    wanted = {"experiment": spec.experiment, **spec.frozen_settings()}
    differences = [
        f"{key}: the study has {_short(recorded.get(key))}, this sweep {_short(value)}"
        for key, value in wanted.items()
        if recorded.get(key) != value
    ]
    if differences:
        raise StudyError(
            f"study {spec.name!r} was made with other settings:\n  " + "\n  ".join(differences),
            expected="to continue a study with the settings it was made with",
            hint="the same command with --study NEW, for a study of its own",
        )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} of them"
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:20]}...{text[-8:]}"
