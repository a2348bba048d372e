"""The result of a sweep, and the JSON that `harness sweep --json` prints."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.errors import TrackingError
from harness.core.json_types import JsonObject
from harness.core.known import KnownTrials
from harness.core.records import StudySpec
from harness.core.study_record import Confirmation, Stall, trials_left
from harness.core.trial_rows import TrialCounts, TrialRow


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """The result of a sweep: the counts of its trials, the best trial with its MLflow run, and an early stop.

    `trials_wanted` is the number of finished trials that the study is to have, `seconds` the sweep's duration.
    `is_late`: the time was up before the best trials were all confirmed.
    `known` are the trials of others that the search was told.
    `signal` is the number of the signal that interrupted the sweep, `stall` says that it ended by patience (None:
    neither). `unsent` is the error of an interrupted sweep that could not send everything to MLflow.
    `listener_error` is what the sweep's listener raised; it was told nothing more afterwards. `confirmation` has
    the best trials as they were measured again, and `refit` is the summary of the refit; None for none. `members`
    is the number of networks of a refit's ensemble.
    """

    spec: StudySpec
    counts: TrialCounts
    trials_wanted: int
    best: TrialRow | None
    best_run_id: str | None
    parent_run_id: str
    seconds: float
    tracking_uri: str
    synthetic: bool
    known: KnownTrials | None = None
    signal: int | None = None
    stall: Stall | None = None
    is_late: bool = False
    unsent: TrackingError | None = None
    listener_error: Exception | SystemExit | None = None
    confirmation: Confirmation | None = None
    refit: StudySummary | None = None
    members: int | None = None

    @property
    def trials_left(self) -> int:
        """How many trials are left that can finish; those of a search that has stalled too."""
        return trials_left(self.spec, self.counts, self.trials_wanted)

    @property
    def is_over(self) -> bool:
        """Whether the study has all trials that it can have, or has stalled, and the sweep was not interrupted."""
        is_short = self.trials_left > 0 and self.stall is None
        return self.signal is None and not is_short and not self.is_late

    @property
    def is_complete(self) -> bool:
        """Whether the study is over and has a best trial."""
        return self.best is not None and self.is_over

    @property
    def has_network(self) -> bool:
        """Whether there is a network to export: the refit's, or the best trial's if it has one validation part."""
        if self.refit is not None:
            return self.refit.best_run_id is not None
        return self.best is not None and self.spec.folds == 1

    @property
    def stopped(self) -> str | None:
        """Why the sweep has ended before all that it was to do was done; None if it was, or on a signal."""
        if self.is_late:
            return "time is up before the best trials were confirmed"
        if self.stall is not None:
            return str(self.stall)
        refit = self.refit
        if self.signal is None and (self.trials_left or (refit is not None and refit.trials_left)):
            return "time is up"
        return None

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints."""
        best = None
        if self.best is not None:
            best = {
                "run_id": self.best_run_id,
                "trial": self.best.number,
                "params": dict(self.best.params),
                "val_accuracy": self.best.val_accuracy,
                **({} if self.spec.objective.is_accuracy else {"val_loss": self.best.val_loss, **self.best.own}),
                "epoch": self.best.best_epoch,
            }
        return {
            "study": self.spec.name,
            "model": self.spec.model,
            "experiment": self.spec.experiment,
            "fixed": dict(self.spec.fixed),
            "trials": {
                "complete": self.counts.complete,
                "pruned": self.counts.pruned,
                "failed": self.counts.failed,
            },
            "known": None if self.known is None else self.known.as_json(),
            "stopped": self.stopped,
            "best": best,
            "confirmation": None if self.confirmation is None else self.confirmation.as_json(),
            "refit": None if self.refit is None else self.refit._as_refit(),
            "parent_run_id": self.parent_run_id,
            "seconds": round(self.seconds, 3),
            "tracking_uri": self.tracking_uri,
        }

    def _as_refit(self) -> JsonObject:
        ensemble = None if self.members is None else {"run_id": self.parent_run_id, "networks": self.members}
        return {"run_id": self.best_run_id, "ensemble": ensemble}
