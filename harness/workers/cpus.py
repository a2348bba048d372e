"""The number of cores, and the default number of parallel training runs."""

from __future__ import annotations

import os
from collections.abc import Sequence


def default_jobs(threads: int, jobs_per_gpu: int, devices: Sequence[str]) -> int:
    """Return the default number of parallel training runs.

    With GPUs it is `jobs_per_gpu` for each of them, else the number of usable cores divided by `threads`.
    """
    gpus = sum(device.startswith("cuda") for device in devices)
    return gpus * jobs_per_gpu or max(1, usable_cores() // threads)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
