"""The order of trials, best first: one rule for Optuna's trials, MLflow's runs and confirmed trials."""

from __future__ import annotations

import math

from harness.core.objective import ACCURACY, Objective


def rank(
    value: float | None, val_loss: float | None, number: int, objective: Objective = ACCURACY
) -> tuple[float, float, int]:
    """Return the key by which trials are sorted, the best first: by their value, ties as `tie_break` has them."""
    return (objective.order(value), *tie_break(val_loss, number))


def tie_break(val_loss: float | None, number: int) -> tuple[float, int]:
    """Return the key by which trials of equal value are sorted: the lower loss first, as between epochs."""
    return (math.inf if val_loss is None else val_loss, number)
