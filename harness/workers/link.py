"""Where trainings run: what a training has of the process that ordered it, and what that process has of it.

A training is the same code in a process of this machine and in a Ray actor. It gets a `Link`: a log, a folder, a
judge and a signal to stop. In a process of this machine these are the journal, its folder and the claim. In an
actor each stands for that of the driver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from harness.core.errors import HarnessError
from harness.core.journal import RunLog
from harness.core.records import EpochMetrics

Order_contra = TypeVar("Order_contra", contravariant=True)
End_co = TypeVar("End_co", covariant=True)


class Judge(Protocol):
    """Says of a training whether it is to end early, and why."""

    @property
    def judges(self) -> bool:
        """Whether it ever ends a training; if not, a training elsewhere need not ask."""

    def report(self, metrics: EpochMetrics) -> str | None:
        """Report an epoch; return the reason if the training is to be pruned."""

    def report_fold(self, fold: int, accuracy: float, mean: float, step: int) -> str | None:
        """Report the end of a fold; return the reason if the trial is to be pruned (see `Claim.report_fold`)."""


class NoJudge:
    """Lets every training go on to its last epoch."""

    judges = False

    def report(self, metrics: EpochMetrics) -> str | None:
        """Return None."""

    def report_fold(self, fold: int, accuracy: float, mean: float, step: int) -> str | None:
        """Return None."""


NO_JUDGE = NoJudge()


@dataclass(frozen=True, slots=True)
class Link:
    """What a training has of the process that ordered it.

    `log` is its journal. `folder` is where its resume point and checkpoint lie. `stop` returns True when it is to
    end with a resume point.
    """

    log: RunLog
    folder: Path
    stop: Callable[[], bool]
    judge: Judge = NO_JUDGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where trainings run. `node` and `ray` (a version) are None on this machine, `stack` outside of one."""

    device: str
    gpu: str | None
    threads: int
    node: str | None = None
    ray: str | None = None
    stack: int | None = None


class Trainer(Protocol[Order_contra, End_co]):
    """Trains what it is ordered to, with what it has in memory; see `Material`."""

    def where(self) -> Where:
        """Return where it trains."""

    def run(self, order: Order_contra, link: Link) -> End_co:
        """Run a training from its resume point, if there is one, and return its end."""


class Material(Protocol[Order_contra, End_co]):
    """All that trainings need but their orders. It is sent once to each process or node."""

    def trainer(self, device: str, threads: int) -> Trainer[Order_contra, End_co]:
        """Return a trainer for this process on a device (`auto`: its GPU, else its CPU) and so many threads."""


class Place(Protocol[Order_contra, End_co]):
    """A place for one training at a time: this process, or a Ray actor."""

    @property
    def where(self) -> Where:
        """Where it is."""

    def run(self, order: Order_contra, link: Link) -> End_co:
        """Run a training there and return its end.

        Raises PlaceDied if its process was killed, PlaceLost if its machine is gone.
        """


class Here(Place[Order_contra, End_co]):
    """This process."""

    def __init__(self, trainer: Trainer[Order_contra, End_co]) -> None:
        self._trainer = trainer
        self._where = trainer.where()

    @property
    def where(self) -> Where:
        """Where it is."""
        return self._where

    def run(self, order: Order_contra, link: Link) -> End_co:
        """Run a training and return its end."""
        return self._trainer.run(order, link)


class PlaceDied(HarnessError):  # noqa: N818 - an outcome
    """The process in which a training ran was killed or is out of memory: an attempt that counts."""


class PlaceLost(HarnessError):  # noqa: N818 - likewise
    """The machine on which a training ran is gone or not reached: no fault of the training."""


class TrainingBug(Exception):  # noqa: N818 - the exception's name is in its text
    """An unexpected exception in a training elsewhere; its text is the traceback there."""
