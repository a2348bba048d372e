"""The user attributes of studies and trials in Optuna's storage, and how those of a study are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from harness.core.errors import HarnessError, StudyError
from harness.core.known import KnownTrials, check_known
from harness.core.recorded import UNREADABLE, checked
from harness.core.records import StudySpec
from harness.core.study_record import Confirmation, StudyContext, Targets
from harness.core.workspace import check_name
from harness.study.samplers import PRUNERS, SAMPLERS

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# User attributes of studies and of trials.
SPEC_KEY, CONTEXT_KEY, TARGETS_KEY = "spec", "context", "targets"
KNOWN_KEY = "known"  # of a study: the trials of others that its search was told
CONCLUSION_KEY = "conclusion"  # of a study: the end that MLflow has of it
CONFIRMATION_KEY = "confirmation"  # of a study: its best trials, measured again
RESULT_KEY, DEATHS_KEY, BEGUN_KEY = "result", "deaths", "begun"
CONFIRMS_KEY = "confirms"  # of a trial of a confirmation: the number of the trial that it repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyAttributes:
    """What the harness has stored with a study.

    `targets` is None before its first sweep, `confirmation` as long as no trial was measured again, `known` if its
    search was told of no trials of others.
    """

    spec: StudySpec
    context: StudyContext
    targets: Targets | None
    confirmation: Confirmation | None
    known: KnownTrials | None


class StudyFault(StrEnum):
    """Why a study of the storage cannot be used."""

    FOREIGN = "not made by harness"
    INTERRUPTED = "its creation was interrupted"
    DAMAGED = "damaged record"

    def error(self, name: str) -> StudyError:
        """Return the error of a command that was to use the study of that name."""
        expected = {
            StudyFault.FOREIGN: "a study that harness sweep made",
            StudyFault.INTERRUPTED: "a study whose creation was finished",
            StudyFault.DAMAGED: "the record of a study as this version of harness writes it",
        }
        hint = f"harness delete {name} --yes, or --study NEW"
        if self is StudyFault.INTERRUPTED:
            hint = f"harness sweep --study {name}, which finishes it, or {hint}"
        return StudyError(f"study {name!r} cannot be used: {self}", expected=expected[self], hint=hint)


def recorded_folds(trial: FrozenTrial) -> tuple[float, ...]:
    """Return the validation accuracy of each fold at the best epoch of a trial; () if it has none on record."""
    try:
        return tuple(float(accuracy) for accuracy in trial.user_attrs[RESULT_KEY].get("folds", ()))
    except UNREADABLE:
        return ()


def read_attributes(name: str, attributes: Mapping[str, Any], objectives: int) -> StudyAttributes | StudyFault:
    """Return the record of a study, or why it has none that can be used.

    Others may write to the storage as well: `attributes` may be anything, and there may be several `objectives`.
    """
    if SPEC_KEY not in attributes:
        return StudyFault.INTERRUPTED if CONTEXT_KEY in attributes else StudyFault.FOREIGN
    try:
        check_name("study", name)
        context = StudyContext.of(attributes[CONTEXT_KEY])
        spec = StudySpec.of(name, context.experiment, attributes[SPEC_KEY])
        targets = None if TARGETS_KEY not in attributes else checked(Targets(**attributes[TARGETS_KEY]))
        confirmation = Confirmation.of(attributes[CONFIRMATION_KEY]) if CONFIRMATION_KEY in attributes else None
        known = KnownTrials.of(attributes[KNOWN_KEY]) if KNOWN_KEY in attributes else None
        if known is not None:
            check_known(known, spec.space)
    except (*UNREADABLE, HarnessError):
        return StudyFault.DAMAGED
    if objectives != 1 or spec.pruner not in PRUNERS or spec.sampler not in SAMPLERS:
        return StudyFault.DAMAGED
    return StudyAttributes(spec=spec, context=context, targets=targets, confirmation=confirmation, known=known)
