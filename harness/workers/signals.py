"""Handling of SIGINT and SIGTERM in the parent process."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from harness.core.errors import Stopped

# A signal that repeats within this time counts once: timeout(1), for one, signals a process and its group.
REPEAT_SECONDS = 0.5


@contextmanager
def answered_by(on_signal: Callable[[int], None]) -> Iterator[None]:
    """Call `on_signal` with the number of each SIGINT and SIGTERM; restore the earlier handlers afterwards."""
    last: dict[int, float] = {}

    def answer(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        is_new = now - last.get(number, -REPEAT_SECONDS) >= REPEAT_SECONDS
        last[number] = now
        if is_new:
            on_signal(number)

    before = {number: signal.signal(number, answer) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible(found: str, hint: str) -> Iterator[None]:
    """Raise Stopped(found, hint) on SIGINT and SIGTERM, for work that can stop anywhere and be repeated."""
    numbers = []

    def on_signal(number: int) -> None:
        numbers.append(number)
        raise KeyboardInterrupt  # not an Exception: a library could catch it and raise its own

    with answered_by(on_signal):
        try:
            yield
        except KeyboardInterrupt:
            if not numbers:
                raise
            raise Stopped(found, signal=numbers[0], hint=hint) from None


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
