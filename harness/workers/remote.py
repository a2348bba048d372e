"""The far side of a training on another machine: a trainer that is asked for what has happened, piece by piece.

`RemoteTrainer` is made in a Ray actor. It knows nothing of Ray, of the stores or of the driver: each answer of
`next` is one message to the driver, and each call of it may bring one back. A training waits for the driver where
it needs an answer (go on, or be pruned), and where an event must be on the driver's disk before it goes on.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic

from harness.core.errors import HarnessError
from harness.core.events import Event
from harness.core.journal import KnownEvents
from harness.core.records import EpochMetrics
from harness.core.version import __version__
from harness.workers.child import is_machine_fault, is_out_of_memory
from harness.workers.link import NO_JUDGE, End_co, Link, Material, Order_contra, Trainer, Where
from harness.workers.mirror import Changes, Watched, write_changes

# To wait for more events before a message is sent: one for each epoch of 20 ms takes as long as the epoch. The
# driver looks at its journals as often.
GATHER_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Written:
    """An event of the log; with `changes` those of the folder come before it, and the training waits."""

    event: Event
    changes: Changes | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to the judge: the name of its method, and the arguments. The training waits for the answer."""

    method: str
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The training has ended."""

    end: object
    changes: Changes


@dataclass(frozen=True, slots=True)
class Failed:
    """The training raised. `kind` is `bug`, `memory` (none was left) or `fault` (of machine or settings)."""

    kind: str
    text: str


Item = Written | Asked | Finished | Failed


@dataclass(frozen=True, slots=True)
class Versions:
    """What must be the same where trainings of one study run."""

    harness: str
    torch: str

    @classmethod
    def here(cls) -> Versions:
        """Return the versions of this process."""
        import torch  # takes seconds

        return cls(__version__, torch.__version__)

    def __str__(self) -> str:
        return f"harness {self.harness} and torch {self.torch}"


class RemoteTrainer(Generic[Order_contra, End_co]):
    """Trains one order at a time in a thread of its own, and hands out what happens.

    `next` and `stop` may be called at the same time, from two threads.
    """

    def __init__(self, material: Material[Order_contra, End_co], device: str, threads: int) -> None:
        self._material, self._device, self._threads = material, device, threads
        self._orders: queue.Queue[tuple[Order_contra, Sequence[Event], Changes, bool]] = queue.Queue()
        self._items: queue.Queue[Item] = queue.Queue()
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._made: queue.Queue[Where | Failed] = queue.Queue()
        self._waits = False
        self._stop = threading.Event()
        threading.Thread(target=self._serve, name="training", daemon=True).start()

    def hello(self) -> tuple[Versions, Where | Failed]:
        """Wait until the trainer is made; return the versions here, and where it is or why it was not made."""
        made = self._made.get()
        self._made.put(made)
        return Versions.here(), made

    def begin(self, order: Order_contra, events: Sequence[Event], content: Changes, *, judged: bool) -> None:
        """Begin a training: `events` and `content` are what earlier attempts left in its log and its folder.

        `judged`: its judge may end it, so that it asks after each epoch.
        """
        self._stop.clear()
        self._orders.put((order, events, content, judged))

    def next(self, answer: str | None = None) -> list[Item]:
        """Return what has happened since the last call; wait until something has, and a moment for more.

        `answer` is that to the question which was the last item, None for go on.
        """
        if self._waits:
            self._waits = False
            self._answers.put(answer)
        items = [self._items.get()]
        until = time.monotonic() + GATHER_SECONDS
        while isinstance(items[-1], Written) and not _waits(items[-1]):
            try:
                items.append(self._items.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        self._waits = _waits(items[-1])
        return items

    def stop(self) -> None:
        """Tell the training to end with a resume point."""
        self._stop.set()

    def tell(self, event: Event, changes: Changes | None) -> None:
        """Hand out an event; with `changes` wait until the driver has written both."""
        self._items.put(Written(event, changes))
        if changes is not None:
            self._answers.get()

    def ask(self, method: str, *arguments: object) -> str | None:
        """Ask the judge, and wait for the answer."""
        self._items.put(Asked(method, arguments))
        return self._answers.get()

    def _serve(self) -> None:
        try:
            trainer = self._material.trainer(self._device, self._threads)
            self._made.put(replace(trainer.where(), node=os.uname().nodename))
        except Exception as error:  # noqa: BLE001 - the driver raises it
            self._made.put(_failure(error))
            return
        while True:
            self._run(trainer, *self._orders.get())

    def _run(
        self,
        trainer: Trainer[Order_contra, End_co],
        order: Order_contra,
        events: Sequence[Event],
        content: Changes,
        judged: bool,
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="harness-") as place:
            folder = Path(place) / "work"
            try:
                write_changes(folder, content)
                watched = Watched(folder)
                watched.changes()  # the driver has what it sent
                log = RemoteLog(self, events, watched)
                judge = RemoteJudge(self) if judged else NO_JUDGE
                end = trainer.run(order, Link(log, folder, self._stop.is_set, judge))
                item: Item = Finished(end, watched.changes())
            except Exception as error:  # noqa: BLE001 - the driver raises it
                item = _failure(error)
        self._items.put(item)


class RemoteLog(KnownEvents):
    """Stands for the journal of the driver."""

    def __init__(
        self, trainer: RemoteTrainer[Order_contra, End_co], events: Sequence[Event], watched: Watched
    ) -> None:
        super().__init__(events)
        self._tell, self._watched = trainer.tell, watched

    def append(self, event: Event, *, sync: bool = False) -> None:
        """Append an event; with `sync` it is on the driver's disk when the method returns, after the folder."""
        self._tell(event, self._watched.changes() if sync else None)
        self._events.append(event)


class RemoteJudge:
    """Stands for the claim of the driver."""

    judges = True

    def __init__(self, trainer: RemoteTrainer[Order_contra, End_co]) -> None:
        self._ask = trainer.ask

    def report(self, metrics: EpochMetrics) -> str | None:
        """Report an epoch; return the reason if the training is to be pruned."""
        return self._ask("report", metrics)

    def report_fold(self, fold: int, accuracy: float, mean: float, step: int) -> str | None:
        """Report the end of a fold; return the reason if the trial is to be pruned."""
        return self._ask("report_fold", fold, accuracy, mean, step)


def _waits(item: Item) -> bool:
    """Whether the training waits until the driver has read the item."""
    return isinstance(item, Asked) or (isinstance(item, Written) and item.changes is not None)


def _failure(error: Exception) -> Failed:
    if is_out_of_memory(error):
        return Failed("memory", str(error).partition(".")[0])
    if isinstance(error, HarnessError) or is_machine_fault(error):
        return Failed("fault", str(error))
    return Failed("bug", "".join(traceback.format_exception(error, limit=-8)).rstrip())
