"""The names of all tags of runs, the kinds of run, and the statuses.

No other module spells the name of a tag. Names that begin with `mlflow.` are MLflow's own.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping
from enum import StrEnum

from harness.core.records import StudySpec, TrialState
from harness.core.version import __version__
from harness.tracking.environment import code_version, environment

TAG_LIMIT = 5000  # characters; every MLflow store takes so many
# This tag of an experiment makes MLflow's UI open with the page of training runs instead of traces.
EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
INPUT_CONTEXT = "mlflow.data.context"  # the tag of a run's data set, not of the run

Tags = Mapping[str, str]


class Tag(StrEnum):
    """The tags of runs."""

    # Every run.
    KIND = "kind"
    DATA_DIGEST = "data_digest"
    SPLIT_DIGEST = "split_digest"
    MODEL = "model"
    SOURCE_DIGEST = "source_digest"  # of a model from a file: the SHA-256 of its code
    HARNESS_VERSION = "harness_version"
    ENVIRONMENT = "environment"
    CODE_DIRTY = "code_dirty"
    TEST_OPENINGS = "test_openings"
    MENDED = "mended"
    PARENT_ID = "mlflow.parentRunId"
    RUN_NAME = "mlflow.runName"
    NOTE = "mlflow.note.content"
    USER = "mlflow.user"
    SOURCE = "mlflow.source.name"
    COMMIT = "mlflow.source.git.commit"
    # Studies, and STUDY of their trials.
    STUDY = "study"
    STUDY_IDENTITY = "study_identity"
    STUDY_STATE = "study_state"
    TRIALS_ASKED = "trials_asked"
    KNOWN = "known_trials"  # how many trials of others its search was told, and of whom
    WHOLE = "whole"
    BEST_RUN_ID = "best_run_id"
    BEST_TRIAL = "best_trial"
    REFIT_RUN_ID = "refit_run_id"
    REFIT_TRIAL = "refit_trial"  # the trial whose setting was refitted
    MEMBERS = "members"  # of a refit's study: how many of its networks are stored with its run as an ensemble
    REFIT_OF = "refit_of"  # of a refit: the study that it belongs to
    STOPPED = "stopped"  # of a study: why its search was over before its number of trials
    CONFIRMS = "confirms"  # of a confirmation: the study whose best trials it repeats
    CONFIRMED_TRIAL = "confirmed_trial"  # of a study: the trial that its confirmation chose
    # Trials, and the first three of repeats too.
    TRIAL_STATE = "trial_state"
    REASON = "reason"
    RUNG = "rung"  # of a trial with successive halving: the last rung at which it has paused
    DEVICE = "device"
    GPU = "gpu"
    NODE = "node"  # of a Ray cluster, on which it was trained
    RAY = "ray"  # the version of Ray
    TRIAL = "trial"
    TOTAL = "total"
    CONFIG = "config"
    RESUMED_AFTER = "resumed_after_epoch"
    CHECKPOINT = "checkpoint"
    # Comparisons, and COMPARISON of their repeats.
    COMPARISON = "comparison"
    VERDICT = "verdict"
    WARNINGS = "warnings"
    REPEATS = "repeats"
    LOOKS = "looks"  # with how many repeats the result has been seen, in that order
    # Repeats.
    CANDIDATE = "candidate"
    REPEAT = "repeat"
    THREADS = "threads"
    OF_STUDY = "of_study"


OPENED_PREFIX = "test_opened."  # before the id of one opening of the test part: its time (UTC)
ALIVE_PREFIX = "alive."  # before the id of a process family that works on the run
BEST_PREFIX = "best_"  # before the name of a hyperparameter: its value in the study's best trial
REMOVED = "removed"  # the value of CHECKPOINT after the checkpoint was removed
YES, NO = "yes", "no"


class Kind(StrEnum):
    """The kinds of run; UNKNOWN is a run that the harness did not make."""

    STUDY = "study"
    TRIAL = "trial"
    COMPARISON = "comparison"
    TRAITS = "traits"
    REPEAT = "repeat"
    UNKNOWN = "unknown"


class RunStatus(StrEnum):
    """The statuses of MLflow. SCHEDULED is that of a trial that pauses."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    KILLED = "KILLED"
    FAILED = "FAILED"
    SCHEDULED = "SCHEDULED"


GOING_ON = (RunStatus.RUNNING, RunStatus.SCHEDULED)  # a run that has not ended

# The status of the run of a trial or a repeat. The tag TRIAL_STATE has the exact state.
STATUS_OF: dict[TrialState, RunStatus] = {
    "running": RunStatus.RUNNING,
    "complete": RunStatus.FINISHED,
    "pruned": RunStatus.KILLED,
    "diverged": RunStatus.FAILED,
    "interrupted": RunStatus.KILLED,
    "paused": RunStatus.SCHEDULED,
    "failed": RunStatus.FAILED,
}


class StudyState(StrEnum):
    """The state of a study, which is more exact than MLflow's status."""

    RUNNING = "running"
    COMPLETE = "complete"
    TIMED_OUT = "timed out"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def status(self) -> RunStatus:
        """The status of the study's run."""
        return _STUDY_STATUS[self]


_STUDY_STATUS = {
    StudyState.RUNNING: RunStatus.RUNNING,
    StudyState.COMPLETE: RunStatus.FINISHED,
    StudyState.TIMED_OUT: RunStatus.FINISHED,
    StudyState.INTERRUPTED: RunStatus.KILLED,
    StudyState.FAILED: RunStatus.FAILED,
}


def study_tags(spec: StudySpec, kind: Kind) -> dict[str, str]:
    """Return the tags that a study's run and the runs of its trials share."""
    source: dict[str, str] = {} if spec.source_digest is None else {Tag.SOURCE_DIGEST: spec.source_digest}
    return {
        **source,
        Tag.KIND: kind,
        Tag.STUDY: spec.name,
        Tag.MODEL: spec.model,
        Tag.DATA_DIGEST: spec.data_digest,
        Tag.SPLIT_DIGEST: spec.split_digest,
        **({} if spec.refit_of is None else {Tag.REFIT_OF: spec.refit_of}),
        **({} if spec.confirms is None else {Tag.CONFIRMS: spec.confirms}),
        **origin_tags(),
    }


def origin_tags() -> dict[str, str]:
    """Return the tags that say which user and which version made a run."""
    return {Tag.HARNESS_VERSION: __version__, Tag.USER: _user(), Tag.SOURCE: "harness"}


def code_tags() -> dict[str, str]:
    """Return the tags that describe the code, the libraries and the machine of a run."""
    code = code_version()
    tags: dict[str, str] = {Tag.ENVIRONMENT: json.dumps(environment())}
    if code is not None:
        tags |= {Tag.COMMIT: code[0], Tag.CODE_DIRTY: YES if code[1] else NO}
    return tags


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container the user id may have no name
        return str(os.getuid())
