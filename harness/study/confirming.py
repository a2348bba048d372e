"""The trials of a confirmation, and the trial that it chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial

from harness.core.study_record import Confirmation
from harness.core.trial_rows import TrialRow
from harness.study.attributes import CONFIRMS_KEY
from harness.study.overview import trial_row


def enqueue_repeats(study: optuna.Study, rows: Sequence[TrialRow]) -> None:
    """Add a waiting trial for each of these trials, unless the study has one. The caller has the study's lock."""
    have = repeats_of(study.get_trials(deepcopy=False))
    for row in rows:
        if row.number not in have:
            study.enqueue_trial(dict(row.params), user_attrs={CONFIRMS_KEY: row.number})


def repeats_of(trials: Sequence[FrozenTrial]) -> dict[int, TrialRow]:
    """Return the rows of the trials that repeat others, by the number of the trial that each repeats."""
    return {
        number: trial_row(trial)
        for trial in trials
        if isinstance(number := trial.user_attrs.get(CONFIRMS_KEY), int)
    }


def chosen_of(ranked: Sequence[TrialRow], confirmation: Confirmation | None) -> TrialRow | None:
    """Return the row of the trial that a confirmation chose, with the figures of both measurements.

    Without a confirmation it is the first of the ranked trials, None if there is none.
    """
    if confirmation is not None:
        chosen = confirmation.chosen
        for row in ranked:
            if row.number == chosen.trial:
                return replace(
                    row,
                    val_accuracy=chosen.val_accuracy,
                    val_loss=chosen.val_loss,
                    best_epoch=chosen.epoch,
                    folds=chosen.folds,
                )
    return next(iter(ranked), None)
