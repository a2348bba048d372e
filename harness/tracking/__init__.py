"""The MLflow adapter: experiments, runs, metrics, artifacts and the registry. Only this package imports MLflow.

Runs are always named by their id. The "active run" of MLflow's fluent API is not used, because MLflow marks it
FINISHED at exit after any outcome. Every metric point has its own time and step, so that a point that is sent
twice is stored once.
"""

from harness.tracking.artifact_paths import fix_artifact_paths, moved_experiments
from harness.tracking.client import request_timeout, translated
from harness.tracking.comparisons import ComparisonLog, Ledger, OwnResult, read_ledger
from harness.tracking.liveness import (
    DEAD_AFTER_MINUTES,
    Heartbeat,
    Life,
    Machine,
    Presence,
    forget,
    judge,
    read_presences,
    utc_text,
)
from harness.tracking.registry import PICTURE_COLUMN, Registered, register
from harness.tracking.run_info import RunInfo
from harness.tracking.studies import Deleted, own_run
from harness.tracking.tags import GOING_ON, Kind, RunStatus, StudyState
from harness.tracking.tracker import Tracker
from harness.tracking.trials import TrialLog

__all__ = [
    "DEAD_AFTER_MINUTES",
    "GOING_ON",
    "PICTURE_COLUMN",
    "ComparisonLog",
    "Deleted",
    "Heartbeat",
    "Kind",
    "Ledger",
    "Life",
    "Machine",
    "OwnResult",
    "Presence",
    "Registered",
    "RunInfo",
    "RunStatus",
    "StudyState",
    "Tracker",
    "TrialLog",
    "fix_artifact_paths",
    "forget",
    "judge",
    "moved_experiments",
    "own_run",
    "read_ledger",
    "read_presences",
    "register",
    "request_timeout",
    "translated",
    "utc_text",
]
