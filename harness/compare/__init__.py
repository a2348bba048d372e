"""Comparison: trains the best configurations of studies on repeated splits, and judges the differences.

All names are imported when they are first used: a worker on another machine imports this package for its
trainings, and has neither Optuna nor MLflow in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.calling import make_callable
from harness.core.lazy import imported_later

if TYPE_CHECKING:
    from harness.compare.choose import plan_comparison
    from harness.compare.page import write_files
    from harness.compare.paper import write_paper
    from harness.compare.plan import CompareSettings, ComparisonPlan
    from harness.compare.result import Comparison
    from harness.compare.run import run_comparison

__all__ = [
    "CompareSettings",
    "Comparison",
    "ComparisonPlan",
    "plan_comparison",
    "run_comparison",
    "write_files",
    "write_paper",
]

HOMES = {
    "CompareSettings": "plan",
    "Comparison": "result",
    "ComparisonPlan": "plan",
    "plan_comparison": "choose",
    "run_comparison": "run",
    "write_files": "page",
    "write_paper": "paper",
}


__getattr__ = imported_later(__name__, HOMES)
make_callable(__name__)
