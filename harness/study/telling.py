"""Shows a sampler other trials than the study has: known ones of other studies, and those that pause.

Nothing else of Optuna sees them.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from copy import copy
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from harness.core.halving import HALVING_KEY
from harness.core.known import KnownTrials
from harness.core.space import Params, Space
from harness.study.suggesting import suggest

# Below every trial of the study, which samplers then take for later ones. Optuna's search space counts from -1.
NUMBER = -1


class ShowingSampler(BaseSampler):
    """A sampler that learns from known trials as if they were the first complete ones of the study.

    `pauses`: it learns from trials that pause, or go on after a pause, as from pruned ones. Optuna's samplers know
    no other trials that have a value and may get a better one.
    """

    def __init__(self, sampler: BaseSampler, known: KnownTrials | None, space: Space, *, pauses: bool) -> None:
        self._sampler = sampler
        trials = () if known is None else known.trials
        self._known = [_frozen(trial.params, trial.val_accuracy, space) for trial in trials]
        self._pauses = pauses

    def reseed_rng(self) -> None:
        """Seed the sampler anew."""
        self._sampler.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Prepare the sampler for a trial."""
        self._sampler.before_trial(self._told(study), trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the sampler note the end of a trial."""
        self._sampler.after_trial(self._told(study), trial, state, values)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are sampled together."""
        return self._sampler.infer_relative_search_space(self._told(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values of the parameters that are sampled together."""
        return self._sampler.sample_relative(self._told(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of one parameter."""
        return self._sampler.sample_independent(self._told(study), trial, param_name, param_distribution)

    def _told(self, study: optuna.Study) -> optuna.Study:
        told = _ShownStudy.__new__(_ShownStudy)
        # Hyperband shows a sampler a part of the study by an object that hides its own attributes.
        own = object.__getattribute__(study, "__dict__")
        told.__dict__ = {**own, "known": self._known, "pauses": self._pauses}
        return told


class _ShownStudy(optuna.Study):
    """A study with other trials than its own, as Optuna's Hyperband shows a sampler a part of the trials."""

    known: list[FrozenTrial]
    pauses: bool

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        if self.pauses:
            everything = (_as_pruned(trial) for trial in super()._get_trials(False, None, use_cache))
            own = [trial for trial in everything if states is None or trial.state in states]
        else:
            own = super()._get_trials(deepcopy, states, use_cache)
        return [*self.known, *own] if states is None or TrialState.COMPLETE in states else own


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial that has reached a rung, and has not ended, as one that was pruned there."""
    if trial.state.is_finished() or HALVING_KEY not in trial.user_attrs or not trial.intermediate_values:
        return trial
    shown = copy(trial)
    shown.state = TrialState.PRUNED
    return shown


def _frozen(params: Params, accuracy: float, space: Space) -> FrozenTrial:
    """Return a complete trial with these parameters."""
    drawn = FixedTrial(dict(params))
    suggest(drawn, space)
    found: FrozenTrial = create_trial(params=drawn.params, distributions=drawn.distributions, value=accuracy)
    found.number = NUMBER
    return found
