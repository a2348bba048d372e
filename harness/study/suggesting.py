"""The values of a trial: one call of Optuna's trial for each hyperparameter of the space."""

from __future__ import annotations

from typing import cast

import optuna

from harness.core.space import Choice, Range, Space, Value


def suggest(trial: optuna.trial.BaseTrial, space: Space) -> dict[str, Value]:
    """Return the trial's value for each parameter that it uses; for a new trial the sampler draws it.

    The space is resolved: a conditional parameter comes after the parameter of its condition.
    """
    params: dict[str, Value] = {}
    for name, distribution in space.items():
        if distribution.when is not None and not distribution.when.holds(params):
            continue
        match distribution:
            case Range(low=low, high=high, log=log, integer=True):
                params[name] = trial.suggest_int(name, round(low), round(high), log=log)
            case Range(low=low, high=high, log=log):
                params[name] = trial.suggest_float(name, low, high, log=log)
            case Choice(values=values):
                params[name] = cast(Value, trial.suggest_categorical(name, values))
    return params
