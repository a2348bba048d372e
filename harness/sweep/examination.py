"""What an examination of the stores says, and on what terms it is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from harness.core.json_types import JsonObject
from harness.core.workspace import Stores
from harness.tracking import Life, Machine, RunInfo, Tracker, judge, read_presences


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that the doctor has to say: where, what, whether it was fixed, and what to run if it was not.

    `fault` is False for live work of somebody else, which is reported and left alone.
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
    """How an examination goes: from which machine, whether it fixes, and after how many silent minutes."""

    machine: Machine
    stores: Stores
    dead_after: float
    fix: bool

    def fixable(self, study: str | None, found: str) -> Finding:
        """Return a finding that `fix` puts right."""
        return Finding(study=study, found=found, fixed=self.fix, hint=None if self.fix else "harness doctor --fix")

    def judge(self, tracker: Tracker, parent: RunInfo) -> Life:
        """Return whether a process is at work on a study's or a comparison's run."""
        # Without heartbeats the runs under it say when it was touched last.
        under = [] if read_presences(parent) else tracker.runs.under(parent.run_id)
        return judge(parent, self.machine, self.dead_after, under)
