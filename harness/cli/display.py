"""Progress displays: live bars on a terminal, else one line for each trial or file."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

from harness.core.events import Ended, EpochDone, Event, FoldEpochDone, TrialStarted
from harness.core.objective import ACCURACY, Objective, number_text
from harness.core.records import EpochMetrics, TrialConfig
from harness.core.space import describe
from harness.core.stage import Stage


@contextmanager
def sweep_display(console: Console, stage: Stage) -> Iterator[SweepDisplay]:
    """Show a running sweep: bars for the study and each running trial, or one line for each ended trial."""
    with _bars(console) as progress:
        yield SweepDisplay(console, progress, stage)


class SweepDisplay:
    """Shows journal events on stderr; stdout is for data."""

    def __init__(self, console: Console, progress: Progress, stage: Stage) -> None:
        self._console = console
        self._objective = stage.objective
        self._folds = stage.folds
        self._live = console.is_terminal
        self._total = stage.total
        self._done = stage.done
        self._best = stage.best
        self._started: dict[int, TrialStarted] = {}
        self._rows: dict[int, TaskID] = {}
        self._pauses = stage.pauses
        self._ends: deque[float] = deque([time.monotonic()], maxlen=20)
        self._lock = threading.Lock()  # events come from the uploader's thread
        self._progress = progress
        name = f"[bold]{escape(stage.title)}"
        self._study = progress.add_task(name, total=stage.total, completed=stage.done, note="")
        self._show_study()

    def __call__(self, number: int, event: Event) -> None:
        """Show one event of the trial with this number."""
        with self._lock:
            match event:
                case TrialStarted():
                    self._start(number, event)
                case EpochDone(metrics=metrics) if self._folds == 1:
                    self._epoch(number, metrics, metrics.epoch, "")
                case FoldEpochDone(fold=fold, metrics=metrics) if number in self._started:
                    done = (fold - 1) * self._started[number].config.epochs + metrics.epoch
                    self._epoch(number, metrics, done, f"  fold {fold}")
                case Ended():
                    self._end(number, event)

    def _start(self, number: int, event: TrialStarted) -> None:
        self._started[number] = event
        config = event.config
        if number not in self._rows:
            self._rows[number] = self._progress.add_task(
                f"trial {number}", total=config.end * self._folds, note=_setting(config)
            )

    def _epoch(self, number: int, metrics: EpochMetrics, done: int, fold: str) -> None:
        if number in self._rows:
            note = f"{_setting(self._started[number].config)}{fold}  {_score(metrics, self._objective)}"
            self._progress.update(self._rows[number], completed=done, note=note)

    def _end(self, number: int, event: Ended) -> None:
        if number in self._rows:
            self._progress.remove_task(self._rows.pop(number))
        start, result = self._started.get(number), event.result
        if result.has_finished:
            self._done += 1
            self._ends.append(time.monotonic())
        value = None if result.best is None else self._objective.of(result.best)
        if result.state == "complete" and value is not None:
            self._best = self._objective.best([self._best, value])
        self._show_study()
        if not self._live and start is not None:
            _print(self._console, self._line(number, start, event))

    def _show_study(self) -> None:
        notes = [] if self._best is None else [f"best {number_text(self._best)}"]
        left = None if self._pauses else self._seconds_left()  # see `Stage.pauses`
        if left is not None:
            notes.append(f"{_clock(left)} left")
        note = "  ".join(notes)
        self._progress.update(self._study, completed=min(self._done, self._total), note=note)

    def _seconds_left(self) -> float | None:
        if len(self._ends) < 2:
            return None
        rate = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return rate * max(0, self._total - self._done)

    def _line(self, number: int, start: TrialStarted, event: Ended) -> str:
        seconds, result = (event.time - start.time) / 1000, event.result
        outcome = (result.reason or "").strip().splitlines()[-1:] if not result.has_finished else []
        if result.best is not None and (not outcome or result.state == "paused"):
            outcome.insert(0, f"{_score(result.best, self._objective)} at epoch {result.best.epoch}")
        text = f"trial {number:3d} {result.state:8s} {_setting(start.config)}  {seconds:.1f} s"
        best = "" if self._best is None else f"  best {number_text(self._best)}"
        return "  ".join([text, *outcome]) + best


@contextmanager
def file_display(console: Console, title: str) -> Iterator[Callable[[str, int, int, str | None], None]]:
    """Show the progress of work on many files: a bar on a terminal, else one line for each file.

    Yields a function of the file's name, the number of finished files, the number of all files, and the reason if
    the file is left out (else None). Files that are left out are printed on a terminal too.
    """
    with _bars(console, TimeRemainingColumn()) as progress:
        bar = progress.add_task(f"[bold]{escape(title)}", total=None, note="")

        def show(name: str, done: int, total: int, error: str | None) -> None:
            progress.update(bar, completed=done, total=total, note=name)
            if error is not None:
                _print(console, f"left out: {name}: {error}")
            elif not console.is_terminal:
                _print(console, f"{done:{len(str(total))}d}/{total}  {name}")

        yield show


@contextmanager
def repeats_display(console: Console, name: str) -> Iterator[Callable[[str, int, int, int], None]]:
    """Show the progress of a comparison: a bar on a terminal, else one line for each repeat.

    Yields a function of the candidate's name, the number of a repeat that is in MLflow, the number of repeats in
    MLflow, and the number of all repeats.
    """
    with _bars(console) as progress:
        bar = progress.add_task(f"[bold]{escape(name)}", total=None, note="")

        def show(candidate: str, number: int, done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, note=f"{candidate} {number}")
            _print_repeat(console, candidate, number, done, total)

        yield show


@contextmanager
def trainings_display(
    console: Console, name: str
) -> Iterator[tuple[Callable[[str, int, int, int], None], Callable[[int, int], None]]]:
    """Show the progress of traits: a bar with the time left on a terminal, else one line for each repeat.

    Yields the function of `repeats_display`, and one of the number of trainings done and of all.
    """
    with _bars(console, TimeRemainingColumn()) as progress:
        bar = progress.add_task(f"[bold]{escape(name)}", total=None, note="")

        def on_record(candidate: str, number: int, done: int, total: int) -> None:
            _print_repeat(console, candidate, number, done, total)

        def watch(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, note="trainings")

        yield on_record, watch


@contextmanager
def epochs_display(console: Console) -> Iterator[Callable[[EpochMetrics, int], None]]:
    """Show the epochs of a training run: a bar on a terminal, else nothing.

    Yields a function of an epoch's metrics and the number of all epochs.
    """
    with _bars(console) as progress:
        bar = progress.add_task("", total=None, note="")

        def show(metrics: EpochMetrics, epochs: int) -> None:
            note = _score(metrics)
            progress.update(bar, completed=metrics.epoch, total=epochs, note=note)

        yield show


def _bars(console: Console, *more: ProgressColumn) -> Progress:
    """Return bars that are removed at the end; they show nothing if the console is not a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        *more,
        _Note(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _print_repeat(console: Console, candidate: str, number: int, done: int, total: int) -> None:
    if not console.is_terminal:
        _print(console, f"repeat {number:2d} of {candidate} is on record ({done} of {total})")


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Note(ProgressColumn):
    """The text beside a bar, cut to the width that is left."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("note", ""), overflow="ellipsis", no_wrap=True)


def _score(metrics: EpochMetrics, objective: Objective = ACCURACY) -> str:
    """Return an epoch's value, or its train loss if there is no validation part."""
    value = objective.of(metrics)
    if value is None:
        return f"train loss {number_text(metrics.train_loss)}"
    return f"{'acc' if objective.is_accuracy else objective.name} {number_text(value)}"


def _setting(config: TrialConfig) -> str:
    return describe(config.params)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
