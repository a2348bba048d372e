"""How many training runs a machine carries at once."""

from __future__ import annotations

import os
from collections.abc import Sequence


def default_jobs(threads: int, jobs_per_gpu: int, devices: Sequence[str]) -> int:
    """Return how many training runs to have at once: what each GPU carries, else the cores over their threads."""
    gpus = sum(device.startswith("cuda") for device in devices)
    return gpus * jobs_per_gpu or max(1, usable_cores() // threads)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
