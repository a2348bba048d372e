"""Comparison: trains the best configurations of studies on repeated splits, and judges the differences."""

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

from harness.core.calling import make_callable

make_callable(__name__)
