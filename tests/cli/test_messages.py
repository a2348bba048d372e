"""The reader of stderr goes away: the display stops, the work and its record go on."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.cli.run_plan import carry_out
from harness.core.events import Ended, Event
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import plan_sweep
from tests.support.commands import SWEEP, command
from tests.support.stores import Stores
from tests.support.sweeps import FAST, changed

STUDY = "demo-fcnn"


@contextmanager
def unread_stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stderr of this process whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield


@pytest.mark.long
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("as_json", [True, False])
def test_a_sweep_goes_on(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    with unread_stderr(monkeypatch):
        carry_out(plan_sweep(changed(FAST)), as_json=as_json)
    out = capfd.readouterr().out
    if as_json:
        assert json.loads(out)["trials"] == {"complete": 2, "pruned": 0, "failed": 0}
    else:
        assert "2 of 2 trials finished" in out
        assert "note: the display of progress stopped before the end" in out
        assert "BrokenPipeError" in out
    Stores.here().check(STUDY, 2, 4)


@pytest.mark.process
@pytest.mark.parametrize("lines", [1, 4])
def test_a_sweep_whose_stderr_is_a_pipe_that_is_closed(place: Path, lines: int) -> None:
    arguments = (*SWEEP, "--model", "fcnn", "--trials", "8", "--epochs", "20", "--jobs", "2", "--json")
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for _ in range(lines):
        assert process.stderr.readline()
    process.stderr.close()
    assert process.stdout is not None
    out = process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert json.loads(out)["trials"]["complete"] == 8
    Stores.here().check(STUDY, 8, 20)


@pytest.mark.long
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(1)])
def test_a_listener_that_fails_hears_nothing_more(error: Exception) -> None:
    heard: list[int] = []

    def listen(number: int, event: Event) -> None:
        if isinstance(event, Ended):
            heard.append(number)
            raise error

    plan = plan_sweep(changed(FAST, trials=3))
    summary = run_sweep(plan, open_study(plan), listen)
    assert heard == [0]
    assert summary.listener_error is error
    Stores.here().check(STUDY, 3, 4)
