"""The findings of `harness doctor`, and the options of an examination."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.json_types import JsonObject
from harness.core.workspace import Stores
from harness.tracking import Life, Machine, RunInfo, Tracker, judge, read_presences


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding of the doctor: the study, what was found, whether it was fixed, and a hint if it was not.

    `fault` is False for a run that a live process elsewhere writes to: it is reported and left unchanged.
    """

    study: str | None
    found: str
    fixed: bool
    hint: str | None = None
    fault: bool = True

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The options of an examination: machine, stores, minutes without heartbeat that mean dead, fix or report."""

    machine: Machine
    stores: Stores
    dead_after: float
    fix: bool

    def fixable(self, study: str | None, found: str) -> Finding:
        """Return a finding that `fix` puts right."""
        return Finding(study=study, found=found, fixed=self.fix, hint=None if self.fix else "harness doctor --fix")

    def judge(self, tracker: Tracker, parent: RunInfo, held: Path | None = None) -> Life:
        """Return whether a live process writes to the run of a study or a comparison.

        `held` is a lock file that this process has locked.
        """
        # Without heartbeats the runs under it say when it was touched last.
        under = [] if read_presences(parent) else tracker.runs.under(parent.run_id)
        return judge(parent, self.machine, self.dead_after, under, held)
