"""The clock of what is recorded: it does not follow a clock that is set."""

import time

import pytest

from harness.core import clock


def test_the_time_is_right() -> None:
    assert abs(clock.now() - time.time() * 1000) < 60_000


@pytest.mark.parametrize("hours", [-1, 24])
def test_a_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    before, shifted = clock.now(), time.time_ns() + hours * 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: shifted)
    monkeypatch.setattr(time, "time", lambda: shifted / 1e9)
    assert 0 <= clock.now() - before < 60_000
