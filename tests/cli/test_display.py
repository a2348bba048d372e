"""What long work shows: live bars on a terminal, plain lines anywhere else."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli.display import epochs_display, file_display, repeats_display
from harness.core.records import EpochMetrics
from tests.support.commands import SWEEP, Harness
from tests.support.terminal import COLOURS, COLUMNS, HIDE_CURSOR, SHOW_CURSOR, Terminal, in_terminal, terminal


@pytest.mark.long
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["coloured", "NO_COLOR"])
def test_a_sweep_on_a_terminal(place: Path, environment: dict[str, str]) -> None:
    arguments = (*SWEEP, "--model", "fcnn", "--trials", "2", "--epochs", "600", "--jobs", "1")
    shown = in_terminal(arguments, environment)
    lines = shown.lines()
    bars = [line for line in lines if re.search(r"(demo-fcnn|trial \d+) .*\d+/\d+", line)]
    assert max(map(len, bars)) <= COLUMNS
    assert any("demo-fcnn" in bar and "0/2" in bar for bar in bars)
    assert any("demo-fcnn" in bar and "1/2" in bar and "best 0." in bar and " left" in bar for bar in bars)
    assert any("trial 0" in bar and "/600" in bar and "lr 0.001, batch_size 32" in bar for bar in bars)
    assert any("trial 0" in bar and "acc 0." in bar and "lr 0.001" in bar for bar in bars)
    assert not any("complete" in line and line.startswith("trial") for line in lines)  # lines are for files
    # The bars are gone at the end, the cursor is back, and the summary stands there.
    assert shown.shown.count(HIDE_CURSOR) == shown.shown.count(SHOW_CURSOR) > 0
    assert shown.left().lstrip().startswith("study demo-fcnn: 2 of 2 trials finished (2 complete, 0 pruned)")
    assert bool(COLOURS.search(shown.shown)) == (environment == {})


def test_a_sweep_into_a_file(place: Path, inside: Harness) -> None:
    done = inside(*SWEEP, "--model", "fcnn", "--trials", "2", "--epochs", "2", "--jobs", "1")
    first, second = (line for line in done.stderr.splitlines() if line.startswith("trial"))
    assert first.startswith("trial   0 complete lr 0.001, batch_size 32  ")
    assert second.startswith("trial   1 complete lr ")
    for line in (first, second):
        assert " s  acc 0." in line
        assert " at epoch " in line
        assert "  best 0." in line
    assert "\x1b" not in done.stderr + done.stdout


@contextmanager
def on_terminal(monkeypatch: pytest.MonkeyPatch, *, colour: bool = True) -> Iterator[tuple[Console, Terminal]]:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("TERM", "xterm-256color")
    if colour:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")
    with terminal() as opened, os.fdopen(os.dup(opened.file), "w") as file:
        yield Console(file=file), opened


@pytest.mark.parametrize("colour", [True, False])
def test_files_on_a_terminal(monkeypatch: pytest.MonkeyPatch, colour: bool) -> None:
    with on_terminal(monkeypatch, colour=colour) as (console, opened), file_display(console, "extract") as show:
        show("a" * 100 + ".wav", 1, 3, None)
        show("b[bold].wav", 2, 3, "is silent")
        show("c.wav", 3, 3, None)
    bars = [line for line in opened.lines() if "━" in line]
    assert max(map(len, bars)) <= COLUMNS
    assert any("extract" in bar and "3/3" in bar and "c.wav" in bar for bar in bars)
    assert "left out: b[bold].wav: is silent" in opened.lines()
    assert opened.left().strip() == ""
    assert bool(COLOURS.search(opened.shown)) == colour


def test_files_into_a_file() -> None:
    file = io.StringIO()
    with file_display(Console(file=file, width=COLUMNS), "extract") as show:
        show("a.wav", 1, 12, None)
        show("b[bold].wav", 2, 12, "is silent")
    assert file.getvalue() == " 1/12  a.wav\nleft out: b[bold].wav: is silent\n"


def test_repeats_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_terminal(monkeypatch) as (console, opened), repeats_display(console, "one against two") as show:
        show("one", 0, 1, 4)
        show("two", 1, 4, 4)
    assert any("one against two" in line and "4/4" in line and "two 1" in line for line in opened.lines())
    assert "on record" not in opened.shown
    assert opened.left().strip() == ""


def test_repeats_into_a_file() -> None:
    file = io.StringIO()
    with repeats_display(Console(file=file, width=COLUMNS), "one against two") as show:
        show("one", 0, 1, 4)
        show("two", 1, 4, 4)
    assert file.getvalue() == ("repeat  0 of one is on record (1 of 4)\nrepeat  1 of two is on record (4 of 4)\n")


def test_epochs_on_a_terminal_and_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = EpochMetrics(3, 1.0, 0.9, 0.5, 0.1)
    with on_terminal(monkeypatch) as (console, opened), epochs_display(console) as show:
        show(metrics, 30)
    assert any("3/30" in line and "acc 0.500" in line for line in opened.lines())
    assert opened.left().strip() == ""
    file = io.StringIO()
    with epochs_display(Console(file=file)) as show:
        show(metrics, 30)
    assert file.getvalue() == ""


def test_bars_are_erased_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(console: Console) -> None:
        with file_display(console, "extract") as show:
            show("a.wav", 1, 3, None)
            raise ZeroDivisionError

    with on_terminal(monkeypatch) as (console, opened), pytest.raises(ZeroDivisionError):
        fail(console)
    assert opened.shown.count(HIDE_CURSOR) == opened.shown.count(SHOW_CURSOR) == 1
    assert opened.left().strip() == ""
