"""Asynchronous successive halving: the rungs at which trials pause, and which trial a worker takes next.

Every trial trains to the first rung and pauses there. Of the trials that have reached a rung, the best third goes
on to the next one, from the resume point that each left. The choice follows from the trials on record alone, so
that any worker of any machine makes the same one, before and after a crash.

Source: Li et al. (2020), A System for Massively Parallel Hyperparameter Tuning, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.core.json_types import JsonObject
from harness.core.objective import ACCURACY, Objective
from harness.core.ranking import rank
from harness.core.recorded import UNREADABLE, checked
from harness.core.records import EpochMetrics, TrialResult

HALVING = "asha"  # the name of the pruner
HALVING_KEY = "halving"  # the user attribute of a trial with its `Halving`
FACTOR = 3  # one of so many trials goes on to the next rung
FIRST_EPOCHS = 3  # the first rung has at least so many epochs: the accuracy of the first ones is mostly noise

# The best value so far, and the validation loss of its epoch.
Score = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Until:
    """Where a training stops before its end: after so many epochs, or folds where a trial has several.

    It is that of the rung with number `rung`, from 1, of `rungs`. With a `reason` the trial is over then, else it
    pauses.
    """

    after: int
    rung: int
    rungs: int
    reason: str | None = None

    def paused(self, best: EpochMetrics | None) -> TrialResult:
        """Return the result of a trial that pauses here, with its best epoch so far."""
        reason = f"paused at rung {self.rung} of {self.rungs}"
        return TrialResult(state="paused", best=best, reason=reason, rung=self.rung)


@dataclass(frozen=True, slots=True)
class Halving:
    """What the halving knows of one trial.

    `reached` has its score at each rung that it has reached. `promoted` is the number of rungs from which it was
    sent on, `over` why it is not to be sent on any more, None as long as it may. `seconds` is the wall time up to
    its last pause.
    """

    reached: tuple[Score, ...] = ()
    promoted: int = 0
    over: str | None = None
    seconds: float = 0.0

    @property
    def pauses(self) -> bool:
        """Whether the trial, if nothing runs it, waits for a promotion."""
        return self.over is None and len(self.reached) > self.promoted

    @classmethod
    def of(cls, recorded: Any) -> Halving:
        """Return what `as_json` made; of anything else, which others may have written, that of a new trial."""
        try:
            reached = tuple((value, loss) for value, loss in recorded["reached"])
            return checked(cls(reached, recorded["promoted"], recorded["over"], recorded["seconds"]))
        except UNREADABLE:
            return cls()

    def as_json(self) -> JsonObject:
        """Return the JSON form."""
        return {
            "reached": [list(score) for score in self.reached],
            "promoted": self.promoted,
            "over": self.over,
            "seconds": self.seconds,
        }

    def reaching(self, rung: int, score: Score, seconds: float = 0.0) -> Halving:
        """Return the halving of a trial that has reached a rung with this score, and those before it.

        `seconds` is the wall time since its last pause.
        """
        missing = max(0, rung - len(self.reached))
        return replace(self, reached=self.reached + (score,) * missing, seconds=self.seconds + seconds)

    def until(self, rungs: Sequence[int]) -> Until | None:
        """Return where the trial stops next, None for its end."""
        rung = max(1, len(self.reached)) if self.over is not None else self.promoted + 1
        return None if rung > len(rungs) else Until(rungs[rung - 1], rung, len(rungs), self.over)


NEW = Halving()  # of a trial that has reached no rung


@dataclass(frozen=True, slots=True)
class Contender:
    """A trial that has not failed, by its number; `state` is waiting, running or ended.

    `is_sent`: whether MLflow has the last pause of one that waits.
    """

    number: int
    state: Literal["waiting", "running", "ended"]
    halving: Halving
    is_sent: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """What a worker does next: run the trial of that number, None for a new one.

    `halving` is what is on record of the trial from then on.
    """

    number: int | None
    halving: Halving


def rungs_of(epochs: int, folds: int) -> tuple[int, ...]:
    """Return the epochs after which a trial pauses, rising; the folds, where a trial has several.

    Each rung has a third of the next one, the last of them a third of the whole.
    """
    whole, least = (folds, 1) if folds > 1 else (epochs, min(FIRST_EPOCHS, max(1, round(epochs / FACTOR))))
    found: list[int] = []
    rung = whole / FACTOR
    while round(rung) >= least:
        found.insert(0, round(rung))
        rung /= FACTOR
    return tuple(after for after in found if after < whole)


def next_step(
    contenders: Sequence[Contender], rungs: int, *, wanted: int, most: int = 0, objective: Objective = ACCURACY
) -> Step | None:
    """Return what a worker does next, None if there is nothing to do as long as other trials run.

    First it goes on with a trial that was interrupted. Then it promotes: of the trials that have reached a rung,
    from the last rung down, the best of those in the best third that pause there. Then it ends a trial that pauses
    and cannot be in the best third any more, unless a better one fails: nobody needs its resume point. One that
    MLflow does not have yet waits for that as long as other work is left: its epochs would be lost with this
    machine. Then it begins a new trial, if there are fewer than `wanted`; other processes may begin more, up to
    `most`. When nothing runs that could change the ranks, the best trial of a rung goes on even where a third is
    less than one, so that one trial reaches its end, and all others that pause are over.
    """
    waiting = {each.number: each.halving for each in contenders if each.state == "waiting"}
    interrupted = [number for number, halving in waiting.items() if not halving.pauses]
    if interrupted:
        return Step(min(interrupted), waiting[min(interrupted)])
    begins = len(contenders) < wanted
    runs = any(each.state == "running" and each.halving.over is None for each in contenders)
    is_settled = not begins and not runs
    least = 1 if is_settled else 0
    pausing_at = {number: len(halving.reached) for number, halving in waiting.items()}
    unsent = set() if is_settled else {each.number for each in contenders if not each.is_sent}
    by_rung = {rung: _ranked(contenders, rung, objective) for rung in range(1, rungs + 1)}
    for rung, ranked in reversed(by_rung.items()):
        for number in ranked[: max(least, len(ranked) // FACTOR)]:
            if pausing_at.get(number) == rung:
                return Step(number, replace(waiting[number], promoted=rung))
    for rung, ranked in by_rung.items():
        lost = sum(len(each.halving.reached) < rung and _is_over(each) for each in contenders)
        there = len(ranked) if is_settled else max(wanted, most, len(contenders)) - lost
        go_on = max(1, there // FACTOR)
        for place, number in enumerate(ranked[go_on:], go_on + 1):
            if pausing_at.get(number) == rung and number not in unsent:
                why = f"asha pruner, rung {rung}: place {place} of {len(ranked)}, and at most {go_on} go on"
                return Step(number, replace(waiting[number], over=why))
    return Step(None, NEW) if begins else None


def _is_over(contender: Contender) -> bool:
    return contender.state == "ended" or contender.halving.over is not None


def _ranked(contenders: Sequence[Contender], rung: int, objective: Objective) -> list[int]:
    """Return the numbers of the trials that have reached a rung, the best first."""
    keys = {
        each.number: rank(*each.halving.reached[rung - 1], each.number, objective)
        for each in contenders
        if len(each.halving.reached) >= rung
    }
    return sorted(keys, key=keys.__getitem__)
