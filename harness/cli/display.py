"""What long work shows while it runs: a live display on a terminal, one line a trial or a file anywhere else."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from harness.core.events import Ended, EpochDone, Event, TrialStarted
from harness.core.records import EpochMetrics, TrialConfig
from harness.core.space import describe

FINISHED = ("complete", "pruned")


class SweepDisplay:
    """Listens to journal events and shows them on stderr; data go to stdout and are no concern of this."""

    def __init__(self, console: Console, model: str, *, total: int, done: int, best: float | None) -> None:
        self._console = console
        self._live = console.is_terminal
        self._total = total
        self._done = done
        self._best = best
        self._started: dict[int, TrialStarted] = {}
        self._rows: dict[int, TaskID] = {}
        self._ends: deque[float] = deque([time.monotonic()], maxlen=20)
        self._lock = threading.Lock()  # events come from the uploader's thread
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            _Note(),
            console=console,
            disable=not self._live,
            transient=True,
        )
        self._study = self._progress.add_task(f"[bold]{escape(model)}", total=total, completed=done, note="")

    def __enter__(self) -> SweepDisplay:
        self._progress.start()
        self._show_study()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, number: int, event: Event) -> None:
        """Take one event of the trial of that number."""
        with self._lock:
            match event:
                case TrialStarted():
                    self._start(number, event)
                case EpochDone(metrics=metrics):
                    self._epoch(number, metrics)
                case Ended():
                    self._end(number, event)

    def _start(self, number: int, event: TrialStarted) -> None:
        self._started[number] = event
        config = event.config
        if number not in self._rows:
            self._rows[number] = self._progress.add_task(
                f"trial {number}", total=config.epochs, note=_setting(config)
            )

    def _epoch(self, number: int, metrics: EpochMetrics) -> None:
        if number in self._rows:
            note = f"{_setting(self._started[number].config)}  acc {metrics.val_accuracy:.3f}"
            self._progress.update(self._rows[number], completed=metrics.epoch, note=note)

    def _end(self, number: int, event: Ended) -> None:
        if number in self._rows:
            self._progress.remove_task(self._rows.pop(number))
        start, result = self._started.get(number), event.result
        if result.state in FINISHED:
            self._done += 1
            self._ends.append(time.monotonic())
        if result.state == "complete" and result.best is not None:
            self._best = max(self._best or 0.0, result.best.val_accuracy)
        self._show_study()
        if not self._live and start is not None:
            self._console.print(self._line(number, start, event), markup=False, highlight=False, soft_wrap=True)

    def _show_study(self) -> None:
        best = "" if self._best is None else f"best {self._best:.3f}"
        left = self._seconds_left()
        note = best if left is None else f"{best}  {_clock(left)} left"
        self._progress.update(self._study, completed=min(self._done, self._total), note=note)

    def _seconds_left(self) -> float | None:
        if len(self._ends) < 2:
            return None
        rate = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return rate * max(0, self._total - self._done)

    def _line(self, number: int, start: TrialStarted, event: Ended) -> str:
        seconds, result = (event.time - start.time) / 1000, event.result
        outcome = (result.reason or "").strip().splitlines()[-1:] if result.state not in FINISHED else []
        if result.best is not None and not outcome:
            outcome = [f"acc {result.best.val_accuracy:.3f} at epoch {result.best.epoch}"]
        text = f"trial {number:3d} {result.state:8s} {_setting(start.config)}  {seconds:.1f} s"
        best = "" if self._best is None else f"  best {self._best:.3f}"
        return "  ".join([text, *outcome]) + best


class FileDisplay:
    """Shows on stderr how far work on many files has come; what cannot be used is named on a terminal too."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            _Note(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(f"[bold]{escape(title)}", total=None, note="")

    def __enter__(self) -> FileDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, name: str, done: int, total: int, error: str | None) -> None:
        """Show that a file is done, the `done`th of `total`, or why it is left out."""
        self._progress.update(self._task, completed=done, total=total, note=name)
        if error is not None:
            self._line(f"left out: {name}: {error}")
        elif not self._console.is_terminal:
            self._line(f"{done:{len(str(total))}d}/{total}  {name}")

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Note(ProgressColumn):
    """The text beside a bar, cut to the width that is left."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("note", ""), overflow="ellipsis", no_wrap=True)


def _setting(config: TrialConfig) -> str:
    return describe(config.params)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class RepeatsDisplay:
    """Shows how the repeats of a comparison go: a bar on a terminal, one line a repeat anywhere else."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            _Note(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bar = self._progress.add_task(f"[bold]{escape(name)}", total=None, note="")

    def __enter__(self) -> RepeatsDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, candidate: str, number: int, done: int, total: int) -> None:
        """Take one repeat that is on record."""
        self._progress.update(self._bar, completed=done, total=total, note=f"{candidate} {number}")
        if not self._console.is_terminal:
            text = f"repeat {number:2d} of {candidate} is on record ({done} of {total})"
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class EpochsDisplay:
    """Shows a training's epochs: a bar on a terminal, nothing anywhere else."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(), BarColumn(bar_width=16), MofNCompleteColumn(), _Note())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._bar = self._progress.add_task("", total=None, note="")

    def __enter__(self) -> EpochsDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, metrics: EpochMetrics, epochs: int) -> None:
        """Take one epoch."""
        note = f"acc {metrics.val_accuracy:.3f}"
        self._progress.update(self._bar, completed=metrics.epoch, total=epochs, note=note)
