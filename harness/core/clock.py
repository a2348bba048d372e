"""The time in milliseconds since 1970, by a clock that nobody sets while a process runs."""

from __future__ import annotations

import time

# A clock that also runs while the machine sleeps, where there is one.
STEADY_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# Read once: what is recorded later keeps its order and its distances if the machine's clock is set.
_BEGAN = time.time_ns() - time.clock_gettime_ns(STEADY_CLOCK)


def now() -> int:
    """Return the time in milliseconds since 1970. It never goes back in a process."""
    return (_BEGAN + time.clock_gettime_ns(STEADY_CLOCK)) // 1_000_000
