"""The record: experiments, runs, metrics and artifacts in MLflow. The only room that imports MLflow.

Runs are always named by their id (no "active run" of the fluent API, which would be marked finished at exit
whatever became of it), and every metric point carries its own time and step, so that sending it twice is
the same as sending it once.
"""

from harness.tracking.artifact_paths import fix_artifact_paths, moved_experiments
from harness.tracking.comparisons import ComparisonLog, Ledger, read_ledger
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
from harness.tracking.tracker import CONTEXT_FILE, SPLIT_FILE, RunInfo, Tracker, translated
from harness.tracking.trials import TrialLog, best_trial_run

__all__ = [
    "CONTEXT_FILE",
    "DEAD_AFTER_MINUTES",
    "PICTURE_COLUMN",
    "SPLIT_FILE",
    "ComparisonLog",
    "Heartbeat",
    "Ledger",
    "Life",
    "Machine",
    "Presence",
    "Registered",
    "RunInfo",
    "Tracker",
    "TrialLog",
    "best_trial_run",
    "fix_artifact_paths",
    "forget",
    "judge",
    "moved_experiments",
    "read_ledger",
    "read_presences",
    "register",
    "translated",
    "utc_text",
]
