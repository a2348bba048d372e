"""Handling of SIGINT, SIGTERM and SIGHUP in the parent process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from harness.core.errors import Stopped

# Ctrl-C, kill(1) or a batch system, the end of the terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A signal that repeats within this time counts once: timeout(1), for one, signals a process and its group.
REPEAT_SECONDS = 0.5


@contextmanager
def answered_by(on_signal: Callable[[int], None]) -> Iterator[None]:
    """Call `on_signal` with the number of each SIGINT, SIGTERM and SIGHUP; restore the handlers afterwards.

    A SIGHUP that is ignored stays so, because nohup(1) ignores it for the commands that it starts. In another
    thread than the main one, which alone may set handlers, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last: dict[int, float] = {}

    def answer(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        is_new = now - last.get(number, -REPEAT_SECONDS) >= REPEAT_SECONDS
        last[number] = now
        if is_new:
            on_signal(number)

    numbers = [number for number in STOP_SIGNALS if number != signal.SIGHUP or not is_ignored(number)]
    before = {number: signal.signal(number, answer) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible(found: str, hint: str) -> Iterator[None]:
    """Raise Stopped(found, hint) on a signal of STOP_SIGNALS, for work that can stop anywhere and be repeated."""
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


def is_ignored(number: int) -> bool:
    """Return True if this process ignores a signal."""
    return signal.getsignal(number) == signal.SIG_IGN


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
