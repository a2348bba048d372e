"""The values of a trial: one call of Optuna's trial for each hyperparameter of the space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import optuna
from optuna.distributions import BaseDistribution

from harness.core.space import Choice, Range, Space, Value


def suggest(trial: optuna.trial.BaseTrial, space: Space) -> dict[str, Value]:
    """Return the trial's value for each parameter that it uses; for a new trial the sampler draws it.

    The space is resolved: a conditional parameter comes after the parameter of its condition. Where an earlier
    process has died after it had drawn some parameters, the others are drawn as that would have drawn them.
    """
    params: dict[str, Value] = {}
    known = {name: trial.distributions[name] for name in space if name in trial.distributions}
    for name, distribution in space.items():
        if distribution.when is not None and not distribution.when.holds(params):
            continue
        if name not in known and known and isinstance(trial, optuna.Trial):
            _draw_again(trial, known)
            known = {}
        match distribution:
            case Range(low=low, high=high, log=log, integer=True):
                params[name] = trial.suggest_int(name, round(low), round(high), log=log)
            case Range(low=low, high=high, log=log):
                params[name] = trial.suggest_float(name, low, high, log=log)
            case Choice(values=values):
                params[name] = cast(Value, trial.suggest_categorical(name, values))
    return params


def _draw_again(trial: optuna.Trial, known: Mapping[str, BaseDistribution]) -> None:
    """Draw parameters that the trial has already, and drop them: the sampler's generator goes on from there."""
    frozen = trial._get_latest_trial()
    study = optuna.pruners._filter_study(trial.study, frozen)
    for name, distribution in known.items():
        is_given = trial._is_fixed_param(name, distribution) or distribution.single()
        if not is_given and not trial._is_relative_param(name, distribution):
            trial.study.sampler.sample_independent(study, frozen, name, distribution)
