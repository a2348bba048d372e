"""Samplers of Optuna with something left out."""

from __future__ import annotations

from typing import Any

from optuna import samplers
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial


class CmaEs(samplers.CmaEsSampler):
    """Optuna's CMA-ES sampler, which reads no pickle from the storage and writes none.

    Optuna stores the optimizer's state as a pickle beside the trials and loads it for a later one: whoever can
    write to the storage could run code in every worker. Here the state follows from the complete trials on record,
    which are told to a new optimizer, generation by generation. It takes less than a millisecond a generation.
    """

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> None:
        """Return None, for no state on record: `_init_optimizer` is called next."""
        self._completed = completed_trials

    def _init_optimizer(self, trans: Any, direction: StudyDirection) -> Any:
        optimizer = super()._init_optimizer(trans, direction)
        sign = 1 if direction == StudyDirection.MINIMIZE else -1
        while True:
            told = self._get_solution_trials(self._completed, optimizer.generation)[: optimizer.population_size]
            if len(told) < optimizer.population_size:
                return optimizer
            optimizer.tell([(trans.transform(trial.params), sign * trial.values[0]) for trial in told])


class Sobol(samplers.QMCSampler):
    """Optuna's sampler of Sobol points, which gives trial n the point n - 1; trial 0 is drawn independently.

    Optuna counts the points on record and takes the next one: a trial whose process dies while it draws would take
    two, and all later trials would have other points.
    """

    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(**options)
        self._number = number

    def _find_sample_id(self, *_: object) -> int:
        return max(0, self._number - 1)


class Grid(samplers.GridSampler):
    """Optuna's grid sampler, which gives trial n the point n. The study limits the number of trials itself."""

    def after_trial(self, *_: object) -> None:
        """Do nothing. Optuna's method stops `Study.optimize`, which is not used here."""
