"""Garbage collection for commands of a few seconds, which import hundreds of thousands of objects that stay."""

from __future__ import annotations

import atexit
import gc

YOUNG = 50_000  # objects between two collections, where Python has 700 (2000 since 3.13)


def collect_seldom() -> None:
    """Collect less often in this process, and not once more when it ends.

    Importing PyTorch and MLflow takes a fifth longer with Python's thresholds, and a process with MLflow spends
    more than a second on collecting, before it ends, what the system takes back anyway.
    """
    gc.set_threshold(YOUNG)
    atexit.register(gc.freeze)
