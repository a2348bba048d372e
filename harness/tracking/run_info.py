"""A run that was read from MLflow, with its tags as typed properties."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.errors import TrackingError
from harness.core.objective import ACCURACY_NAME, LOSS_NAME, PREFIX
from harness.core.recorded import UNREADABLE, whole_number
from harness.core.records import TrialConfig
from harness.tracking.tags import OPENED_PREFIX, REMOVED, Kind, RunStatus, Tag, Tags

OBJECTIVE = "objective"  # the param with the objective of a model with a loss of its own
FOLD_PREFIX = "val_accuracy_fold_"  # before the number of a fold: the metric with its validation accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run as read from MLflow: params, last value of each metric, and tags, which the properties interpret.

    `touched` is the time of its start or its end, the later of the two, in seconds since 1970.
    """

    run_id: str
    status: RunStatus
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Tags
    touched: float = 0.0

    @property
    def kind(self) -> Kind:
        """The kind of the run."""
        found = self.tags.get(Tag.KIND)
        return next((kind for kind in Kind if kind == found), Kind.UNKNOWN)

    @property
    def name(self) -> str:
        """The name that MLflow shows."""
        return self.tags.get(Tag.RUN_NAME, self.run_id)

    @property
    def family_id(self) -> str:
        """The id of the study's or comparison's run: the parent's id, or the run's own if it has no parent."""
        return self.tags.get(Tag.PARENT_ID, self.run_id)

    @property
    def parent_id(self) -> str:
        """The id of the parent run: that of a trial's study, or of a repeat's comparison."""
        return self._required(Tag.PARENT_ID)

    @property
    def study(self) -> str | None:
        """The study that the run belongs to, None for comparisons."""
        return self.tags.get(Tag.STUDY)

    @property
    def study_identity(self) -> str | None:
        """The identity of a study, which differs from that of other studies of the same name."""
        return self.tags.get(Tag.STUDY_IDENTITY)

    @property
    def study_state(self) -> str | None:
        """The state of the study, as the last sweep has set it."""
        return self.tags.get(Tag.STUDY_STATE)

    @property
    def best_run_id(self) -> str | None:
        """The run id of the study's best trial, as the last sweep has set it."""
        return self.tags.get(Tag.BEST_RUN_ID) or None

    @property
    def best_trial(self) -> int | None:
        """The number of the study's best trial, as the last sweep has set it; its run may be missing."""
        return whole_number(self.tags.get(Tag.BEST_TRIAL))

    @property
    def refit(self) -> tuple[int, str] | None:
        """The trial of a study that was refitted last, and the run of that refit; None if there is no refit."""
        trial, run_id = whole_number(self.tags.get(Tag.REFIT_TRIAL)), self.tags.get(Tag.REFIT_RUN_ID)
        return None if trial is None or run_id is None else (trial, run_id)

    @property
    def refit_of(self) -> str | None:
        """The study that a refit belongs to, None for any other run."""
        return self.tags.get(Tag.REFIT_OF)

    @property
    def members(self) -> int | None:
        """The number of networks of the ensemble that is stored with a refit's study, None if there is none."""
        return whole_number(self.tags.get(Tag.MEMBERS))

    @property
    def stopped(self) -> str | None:
        """Why the search of a study was over before its number of trials, None or empty if it was not."""
        return self.tags.get(Tag.STOPPED)

    @property
    def confirms(self) -> str | None:
        """The study whose best trials a confirmation repeats, None for any other run."""
        return self.tags.get(Tag.CONFIRMS)

    @property
    def confirmed_trial(self) -> int | None:
        """The number of the trial that a study's confirmation chose, None if there is none."""
        return whole_number(self.tags.get(Tag.CONFIRMED_TRIAL))

    @property
    def is_whole(self) -> bool:
        """Whether a study's run has all params and files of its start."""
        return Tag.WHOLE in self.tags

    @property
    def model(self) -> str:
        """The model's name."""
        return self._required(Tag.MODEL)

    @property
    def source_digest(self) -> str | None:
        """The SHA-256 of the code of a model from a file, None for a model of the package."""
        return self.tags.get(Tag.SOURCE_DIGEST)

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """The metrics of an epoch that a model with a loss of its own declares."""
        if OBJECTIVE not in self.params:
            return ()
        # Also of a trial that was interrupted, which has no best epoch.
        names = {name.removeprefix("best_") for name in self.metrics}
        return tuple(sorted({name for name in names if name.startswith(PREFIX)} - {LOSS_NAME, ACCURACY_NAME}))

    @property
    def trial_number(self) -> int:
        """The number of the trial in its study."""
        return self._number(Tag.TRIAL)

    @property
    def is_numbered(self) -> bool:
        """Whether the run has the tags by which a trial or a repeat is found. A run of another program may not."""
        if self.kind == Kind.REPEAT:
            return Tag.CANDIDATE in self.tags and whole_number(self.tags.get(Tag.REPEAT)) is not None
        return whole_number(self.tags.get(Tag.TRIAL)) is not None

    @property
    def trial_state(self) -> str | None:
        """The state of a trial or a repeat."""
        return self.tags.get(Tag.TRIAL_STATE)

    @property
    def reason(self) -> str:
        """Why a trial or a repeat ended as it did, empty for none."""
        return self.tags.get(Tag.REASON, "")

    @property
    def folds(self) -> int:
        """The number of folds that each trial of the study trains on; 1 if the record names none."""
        return whole_number(self.params.get("folds")) or 1

    @property
    def trained_folds(self) -> tuple[int, ...]:
        """The folds of which the run has figures, sorted."""
        found = (whole_number(m.removeprefix(FOLD_PREFIX)) for m in self.metrics if m.startswith(FOLD_PREFIX))
        return tuple(sorted(fold for fold in found if fold is not None))

    @property
    def checkpoint_removed(self) -> bool:
        """Whether the run's checkpoint was removed by `--keep`."""
        return self.tags.get(Tag.CHECKPOINT) == REMOVED

    @property
    def data_digest(self) -> str:
        """The digest of the data set."""
        return self._required(Tag.DATA_DIGEST)

    @property
    def split_digest(self) -> str:
        """The digest of the split, empty if the run has none."""
        return self.tags.get(Tag.SPLIT_DIGEST, "")

    @property
    def test_openings(self) -> int:
        """How often the run has opened the test part; a tag that is not a number does not count."""
        counted = sum(name.startswith(OPENED_PREFIX) for name in self.tags)
        return max(counted, whole_number(self.tags.get(Tag.TEST_OPENINGS)) or 0)

    def metric(self, name: str) -> float:
        """Return the last value of a metric.

        Raises TrackingError if the run has none.
        """
        try:
            return self.metrics[name]
        except KeyError:
            raise self._lacks("metric", name) from None

    @property
    def comparison(self) -> str | None:
        """The identity of the comparison that the run belongs to, None for other runs."""
        return self.tags.get(Tag.COMPARISON)

    @property
    def looks(self) -> tuple[int, ...]:
        """With how many repeats the result of a comparison has been seen; what is no number does not count."""
        found = (whole_number(word.strip()) for word in self.tags.get(Tag.LOOKS, "").split(","))
        return tuple(number for number in found if number is not None)

    @property
    def candidate(self) -> str:
        """The candidate that a repeat trained."""
        return self._required(Tag.CANDIDATE)

    @property
    def repeat(self) -> int:
        """The number of a repeat."""
        return self._number(Tag.REPEAT)

    @property
    def device(self) -> str:
        """The device that a trial was trained on."""
        return self._required(Tag.DEVICE)

    @property
    def gpu(self) -> str | None:
        """The name of the GPU that a trial was trained on, None on a CPU."""
        return self.tags.get(Tag.GPU)

    @property
    def config(self) -> TrialConfig:
        """The configuration of a trial."""
        text = self._required(Tag.CONFIG)
        try:
            return TrialConfig.of(json.loads(text))
        except UNREADABLE as error:
            raise self._changed(Tag.CONFIG, text) from error

    @property
    def environment(self) -> Mapping[str, str]:
        """The versions and the machine, by name; empty if they are not recorded, or not as harness writes them."""
        try:
            found = json.loads(self.tags.get(Tag.ENVIRONMENT, "{}"))
            return {str(name): str(value) for name, value in found.items()}
        except UNREADABLE:
            return {}

    @property
    def commit(self) -> str | None:
        """The commit of the code that ran, None if it is not recorded."""
        return self.tags.get(Tag.COMMIT)

    @property
    def code_dirty(self) -> str | None:
        """`yes` or `no`: whether the code that ran differed from its commit; None if it is not recorded."""
        return self.tags.get(Tag.CODE_DIRTY)

    def _required(self, tag: Tag) -> str:
        try:
            return self.tags[tag]
        except KeyError:
            raise self._lacks("tag", tag.value) from None

    def _number(self, tag: Tag) -> int:
        text = self._required(tag)
        number = whole_number(text)
        if number is None:
            raise self._changed(tag, text)
        return number

    def _changed(self, tag: Tag, text: str) -> TrackingError:
        return self._damaged(f"has the tag {tag.value!r} with {text[:40]!r}")

    def _lacks(self, kind: str, name: str) -> TrackingError:
        return self._damaged(f"has no {kind} {name!r}")

    def _damaged(self, what: str) -> TrackingError:
        return TrackingError(
            f"run {self.run_id} ({self.kind}) {what}",
            expected="a run as harness made it, unchanged",
            hint="harness ui, to look at it",
        )
