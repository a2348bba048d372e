"""The params and the figures of a study's run in MLflow."""

from __future__ import annotations

import json

from harness.core.records import StudySpec
from harness.core.trial_rows import TrialCounts, TrialRow
from harness.tracking.run_info import OBJECTIVE
from harness.tracking.tags import BEST_PREFIX


def study_params(spec: StudySpec) -> dict[str, object]:
    """Return the params that a study's run and the runs of its trials share."""
    return {
        "model": spec.model,
        **spec.fixed,
        "epochs": spec.epochs,
        "seed": spec.seed,
        "sampler": spec.sampler,
        "pruner": spec.pruner,
        "folds": spec.folds,
        "precision": spec.precision,
        "split": spec.split_name,
        "columns": ", ".join(spec.columns) or "none (pictures)",
        "columns_count": len(spec.columns),
        **({} if spec.objective.is_accuracy else {OBJECTIVE: spec.goal}),
    }


def searched(spec: StudySpec) -> str:
    """Return the search space as text."""
    return json.dumps(spec.frozen_settings()["space"])


def study_figures(counts: TrialCounts, best: TrialRow | None) -> dict[str, float]:
    """Return the metrics of a study's run: its counts, and the figures of its best trial if it has one."""
    figures: dict[str, float | None] = {
        "trials_complete": counts.complete,
        "trials_pruned": counts.pruned,
        "trials_failed": counts.failed,
    }
    if best is not None:
        figures |= {
            "best_val_accuracy": best.val_accuracy,
            "best_val_loss": best.val_loss,
            "best_epoch": best.best_epoch,
            **{f"best_{name}": value for name, value in best.own.items()},
            **{f"{BEST_PREFIX}{name}": v for name, v in best.params.items() if not isinstance(v, str)},
        }
    return {name: float(value) for name, value in figures.items() if value is not None}
