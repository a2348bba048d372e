"""What a study is and what its trials have found, read without any lock."""

from __future__ import annotations

from collections.abc import Collection

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness.core.known import KnownTrials
from harness.core.records import StudySpec, TrialResult
from harness.core.study_record import Budget, Confirmation, Stall, StudyContext, Targets, trials_left
from harness.core.trial_rows import TrialCounts, TrialRow
from harness.study.attributes import StudyAttributes, StudyFault
from harness.study.confirming import chosen_of, repeats_of
from harness.study.database import plain_reads
from harness.study.listing import read_record
from harness.study.overview import parameter_importances, ranked, trial_result, trial_row
from harness.study.queries import ENDED, FoundTrial, find_trials
from harness.study.tables import count_trials


class StudyReader:
    """The settings of a study that the harness made, and its trials. Nothing is written."""

    def __init__(self, study: optuna.Study, storage: RDBStorage) -> None:
        self._study = study
        self._storage = storage
        self.storage_url = str(storage.engine.url)  # with a masked password
        self.name = study.study_name
        record = self._record()
        self.context: StudyContext = record.context
        self.spec: StudySpec = record.spec
        self.known: KnownTrials | None = record.known

    def _record(self) -> StudyAttributes:
        record = read_record(self._storage, self._study._study_id)
        if isinstance(record, StudyFault):
            raise record.error(self._study.study_name)
        return record

    @property
    def targets(self) -> Targets | None:
        """The targets of the study's last sweep, None before the first."""
        return self._record().targets

    def counts(self) -> TrialCounts:
        """Return the number of trials in each state."""
        return count_trials(self._storage, self._study._study_id)

    def states(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the states of the trials of these numbers; a number without a trial has none."""
        return {number: trial.state for number, trial in self._find(*numbers).items()}

    def finished_numbers(self) -> list[int]:
        """Return the numbers of the trials that have ended."""
        return list(self._in_state(*ENDED))

    def result(self, number: int) -> TrialResult:
        """Return the result of a trial that has ended."""
        return trial_result(self._trial(number))

    def rows(self) -> list[TrialRow]:
        """Return the rows of all trials, sorted by number."""
        return [trial_row(trial) for trial in self._trials()]

    def ranked(self) -> list[TrialRow]:
        """Return the complete trials, the best first; ties by loss, then number."""
        return ranked(self.rows(), self.spec.objective)

    def best(self) -> TrialRow | None:
        """Return the trial to use: the one that a confirmation chose, else the first of the ranked; None for none.

        The row of a confirmed trial has the accuracy, the loss, the folds and the epoch of both measurements.
        """
        return chosen_of(self.ranked(), self.confirmation)

    @property
    def confirmation(self) -> Confirmation | None:
        """The confirmation of the study's best trials; None if there is none, or trials have finished since."""
        record = read_record(self._storage, self._study._study_id)
        found = None if isinstance(record, StudyFault) else record.confirmation
        return found if found is not None and found.finished == self.counts().finished else None

    def repeated(self) -> dict[int, TrialRow]:
        """Return the trials of a confirmation, by the number of the trial that each repeats."""
        return repeats_of(self._trials())

    def importances(self) -> dict[str, float]:
        """Return the importance of each parameter (see `parameter_importances`)."""
        return parameter_importances(self._study, self.ranked(), self.spec.objective)

    def is_over(self, budget: Budget) -> bool:
        """Return True if no more trials will be claimed: enough have finished, or too many have failed."""
        counts = self.counts()
        if self.is_complete(budget.n_trials) or counts.failed >= budget.max_failures:
            return True
        return not counts.waiting + counts.running and self.stall(budget) is not None

    def is_complete(self, n_trials: int) -> bool:
        """Return True if `n_trials` trials have finished, or as many as can."""
        return not trials_left(self.spec, self.counts(), n_trials)

    def stall(self, budget: Budget) -> Stall | None:
        """Return why the search is over before its number of trials, None if it is not."""
        return None if budget.patience is None else self._stall_of(self._trials(), budget)

    @staticmethod
    def _stall_of(trials: list[FrozenTrial], budget: Budget) -> Stall | None:
        return None if budget.patience is None else Stall.of([trial_row(trial) for trial in trials], budget)

    def _in_state(self, *states: TrialState) -> dict[int, FoundTrial]:
        return find_trials(self._storage, self._study._study_id, states=states)

    def _find(self, *numbers: int) -> dict[int, FoundTrial]:
        return find_trials(self._storage, self._study._study_id, numbers=numbers)

    def _trial(self, number: int) -> FrozenTrial:
        return self._study._storage.get_trial(self._find(number)[number].id)

    def _trials(self) -> list[FrozenTrial]:
        with plain_reads():
            return self._study.get_trials(deepcopy=False)
