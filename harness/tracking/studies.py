"""The runs of studies: one run for the study, and one run under it for each trial."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass

from harness.core.errors import CheckpointError, StudyError, TrackingError, mask_password
from harness.core.known import KnownTrials
from harness.core.records import Split, StudySpec
from harness.core.study_record import Stall, StudyContext
from harness.core.trial_rows import TrialCounts, TrialRow
from harness.core.workspace import check_name
from harness.tracking.artifacts import Artifacts
from harness.tracking.best_trial import best_of, check_has_best
from harness.tracking.run_info import RunInfo
from harness.tracking.runs import Runs, by_number
from harness.tracking.study_params import searched, study_figures, study_params
from harness.tracking.tags import BEST_PREFIX, YES, Kind, RunStatus, StudyState, Tag, Tags, study_tags

SPLIT_FILE, CONTEXT_FILE, KNOWN_FILE = "split.json", "context.json", "known_trials.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """How many runs of a study were deleted, and where files of theirs are that were not (see `delete_run`)."""

    runs: int = 0
    kept: tuple[str, ...] = ()


class Studies:
    """The studies of one MLflow store; `experiment_id` returns the id of an experiment by name."""

    def __init__(self, runs: Runs, artifacts: Artifacts, experiment_id: Callable[[str], str]) -> None:
        self._runs = runs
        self._artifacts = artifacts
        self._experiment_id = experiment_id

    def begin(
        self,
        spec: StudySpec,
        description: str,
        split: Split,
        context: StudyContext,
        n_trials: int,
        presence: Tags | None = None,
        known: KnownTrials | None = None,
        recorded: Callable[[], Collection[int]] = tuple,
    ) -> str:
        """Return the id of a study's run, made or reopened, with status RUNNING.

        A new run gets the split and `context` as files, by which an export finds the data. `n_trials` is the
        number of trials that the study should have. `presence` are the tags that name the process that works on
        it. `known` are the trials of others that the search is told: they have no runs, and are a file. `recorded`
        gives the trials whose end is on record: without a run of their study this is not the store that has it.
        """
        tags: dict[str, str] = {Tag.STUDY_STATE: StudyState.RUNNING, Tag.TRIALS_ASKED: str(n_trials)}
        tags |= presence or {}
        identity = context.identity
        # Before the experiment is made, which may have another name now.
        self._check_is_here(spec, identity, recorded)
        experiment = self._experiment_id(spec.experiment)
        named = self.runs_named(spec.name, experiment=experiment)
        found = own_run(named, identity) or next(iter(named), None)
        if found is None:
            tags |= {**study_tags(spec, Kind.STUDY), Tag.NOTE: description, Tag.STUDY_IDENTITY: identity}
            run_id = self._runs.create(experiment, spec.name, tags)
        elif found.study_identity not in (None, identity):
            raise TrackingError(
                f"MLflow has another study {spec.name!r} in experiment {spec.experiment!r} (run {found.run_id}), "
                "which is not in this --storage",
                expected="one study of a name in an experiment",
                hint="the same command with --study NEW, or with the --storage of that study; if nobody needs "
                "its runs any more, harness ui, to delete them",
            )
        else:
            run_id = found.run_id
            if found.stopped:
                tags[Tag.STOPPED] = ""
            if found.confirmed_trial is not None:
                tags[Tag.CONFIRMED_TRIAL] = ""  # trials may be added, which a new confirmation has to see
            self._runs.log(run_id, tags=tags)
            self._runs.set_status(run_id, RunStatus.RUNNING)
        if found is None or not found.is_whole:  # or the process that made it was stopped
            self._runs.log(run_id, params=study_params(spec) | {"search": searched(spec)})
            self._artifacts.log_json(run_id, asdict(split), SPLIT_FILE)
            self._artifacts.log_json(run_id, context.as_json(), CONTEXT_FILE)
            if known is not None:
                self._artifacts.log_json(run_id, known.as_json(), KNOWN_FILE)
                self._runs.log(run_id, tags={Tag.KNOWN: str(known)})
            self._runs.log(run_id, tags={Tag.WHOLE: YES})
        return run_id

    def _check_is_here(self, spec: StudySpec, identity: str, recorded: Callable[[], Collection[int]]) -> None:
        """Raise TrackingError if the run of a study is deleted, in another experiment, or in another store.

        A second run would tear the study's record apart.
        """
        made = self.runs_named(spec.name, identity=identity, deleted=True)
        if not made and (count := len(recorded())) and own_run(self.runs_named(spec.name), identity) is None:
            raise TrackingError(
                f"{count} trial{'s' if count > 1 else ''} of study {spec.name!r} ended before, and MLflow at "
                f"{mask_password(self._runs.uri)} has no run of the study",
                expected="the store that has its record",
                hint="--tracking-uri of that store, or its database from a copy; --study NEW for another study",
            )
        experiment = self._runs.experiment_named(spec.experiment) if made else None
        here = experiment and self.runs_named(spec.name, identity=identity, experiment=experiment)
        if made and not here:
            raise TrackingError(
                f"run {made[0].run_id} of study {spec.name!r} is not in experiment {spec.experiment!r} any more: "
                "it was deleted, or the experiment was deleted or renamed",
                expected="the study's run where it was made",
                hint="harness ui, to restore the run or give the experiment its name back (if that was deleted, "
                f"mlflow experiments restore); or harness delete {spec.name} --yes, to lose the study",
            )

    def end(
        self,
        run_id: str,
        state: StudyState,
        counts: TrialCounts,
        best: TrialRow | None,
        best_run_id: str | None,
        confirmed: int | None = None,
        searched: Collection[str] = (),
    ) -> None:
        """Write the metrics, the best trial and the status of a study's run.

        `searched` are the names of the hyperparameters that the study searches. `confirmed` is the trial that a
        confirmation chose, if no trial has finished since.
        """
        self._runs.add_metrics(run_id, study_figures(counts, best if best_run_id is not None else None))
        tags: dict[str, str] = {Tag.STUDY_STATE: state}
        if confirmed is not None:  # `begin` had cleared it
            tags[Tag.CONFIRMED_TRIAL] = str(confirmed)
        if best is not None:
            tags |= {f"{BEST_PREFIX}{name}": "" for name in searched}  # a best trial may lack some of them
            tags |= {
                Tag.BEST_RUN_ID: best_run_id or "",  # it was deleted, or another machine has not sent it yet
                Tag.BEST_TRIAL: str(best.number),
                **{f"{BEST_PREFIX}{name}": str(value) for name, value in best.params.items()},
            }
        self._runs.end(run_id, state.status, tags=tags)

    def note_stall(self, parent: str, stall: Stall) -> None:
        """Record in a study's run why its search was over before its number of trials."""
        self._runs.log(parent, tags={Tag.STOPPED: str(stall)})

    def require_checkpoint(self, run: RunInfo) -> None:
        """Raise CheckpointError if a run has no checkpoint: it was removed, or the trial has folds."""
        if run.checkpoint_removed:
            raise CheckpointError(
                f"the checkpoint of run {run.run_id} was removed by --keep",
                expected="a run whose checkpoint is stored",
                hint="export another run with --run",
            )
        if run.folds > 1:
            raise CheckpointError(
                f"trial {run.trial_number} of study {run.study!r} has no network: its folds only measure it",
                expected="a study whose best setting was refitted",
                hint=f"harness sweep --study {run.study}, with the settings of the study and --refit",
            )

    def runs_named(
        self,
        study: str,
        *,
        identity: str | None = None,
        experiment: str | None = None,
        deleted: bool = False,
    ) -> list[RunInfo]:
        """Return the runs of studies of that name: a shared server may have several, of several storages.

        `identity` selects the study of that identity, `experiment` (an id) those in one experiment. `deleted`: see
        `Runs.find`.
        """
        tags: dict[str, str] = {Tag.STUDY: study, Tag.KIND: Kind.STUDY}
        if identity is not None:
            tags[Tag.STUDY_IDENTITY] = identity
        return self._runs.find(tags, experiment=experiment, deleted=deleted)

    def all_runs(self) -> dict[str, list[RunInfo]]:
        """Return the runs of all studies, by the study's name."""
        found: dict[str, list[RunInfo]] = {}
        for run in self._runs.find({Tag.KIND: Kind.STUDY}):
            found.setdefault(run.study or "", []).append(run)
        return found

    def require_run(self, study: str, identity: str) -> RunInfo:
        """Return the run of a study, by its name and its identity.

        Raises StudyError if there is none.
        """
        found = self.runs_named(study, identity=identity)
        if not found:
            raise StudyError(
                f"MLflow at {mask_password(self._runs.uri)} has no run of study {study!r}",
                expected="the --tracking-uri that harness sweep was given",
                hint="the same command with it",
            )
        return found[0]

    def split(self, run_id: str) -> Split:
        """Return the split of a study, by the id of its run."""
        return self._artifacts.read_record(run_id, SPLIT_FILE, Split.of)

    def context(self, run_id: str) -> StudyContext:
        """Return the context of a study (data set, code of its model and more), by the id of its run."""
        return self._artifacts.read_record(run_id, CONTEXT_FILE, StudyContext.of)

    def trial_run(self, parent: str, number: int, experiment: str | None = None) -> RunInfo | None:
        """Return the run of one trial under the study's run `parent`, or None.

        Without `experiment` (an id) every experiment is searched.
        """
        tags: dict[str, str] = {Tag.PARENT_ID: parent, Tag.KIND: Kind.TRIAL, Tag.TRIAL: str(number)}
        found = self._runs.find(tags, experiment=experiment)
        return found[0] if found else None

    def trial_runs(self, parent: str, *, status: RunStatus | None = None) -> list[RunInfo]:
        """Return the runs of the trials under the study's run `parent`, in the order of the trials."""
        return by_number(self._runs.find({Tag.PARENT_ID: parent, Tag.KIND: Kind.TRIAL}, status=status))

    def require_trial(self, run_id: str) -> RunInfo:
        """Return the run of a trial, by its id.

        Raises TrackingError if there is no run of that id, or if it is not the run of a trial.
        """
        run = self._runs.get(run_id)
        if run.kind != Kind.TRIAL:
            raise TrackingError(
                f"run {run_id} is no trial's (kind {run.kind})",
                expected="the run of a trial",
                hint="harness ui, to find one",
            )
        return run

    def best_trial_run(self, study: str, identity: str | None = None) -> RunInfo:
        """Return the run of the complete trial that the study's confirmation chose.

        Without a confirmation it is the trial with the best value of the objective; of equals, the first.

        `identity` selects one of several studies of that name. Raises StudyError if the study does not exist or
        has no complete trial, and, without `identity`, if there are several studies of that name.
        """
        check_name("study", study)
        parents = self.runs_named(study, identity=identity)
        runs_of = {parent.run_id: self.trial_runs(parent.run_id) for parent in parents}
        best = [run for parent in parents if (run := best_of(parent, runs_of[parent.run_id])) is not None]
        if not best:
            found = f"study {study!r} has no complete trial" if parents else f"there is no study {study!r}"
            names = ", ".join(self.names()) or "no study yet"
            raise StudyError(
                found,
                expected="a study that has one" if parents else names,
                hint="harness status, or harness sweep",
            )
        if len(parents) > 1:
            raise StudyError(
                f"MLflow has {len(parents)} studies of the name {study!r}: runs "
                + ", ".join(parent.run_id for parent in parents),
                expected="one study of that name, or the run of a trial",
                hint="--run with the best trial of the study that is meant: "
                + ", ".join(f"{run.run_id} (of {run.parent_id})" for run in best),
            )
        check_has_best(parents[0], runs_of[parents[0].run_id], best[0])
        return best[0]

    def names(self) -> list[str]:
        """Return the names of all studies."""
        found = self._runs.find({Tag.KIND: Kind.STUDY})
        return sorted(run.study or "" for run in found if run.refit_of is None and run.confirms is None)

    def delete(self, study: str, identity: str) -> Deleted:
        """Delete the runs of a study with their files.

        Another study of that name, which has another identity, keeps its runs.
        """
        kept = []
        active = {run.run_id for run in self.runs_named(study, identity=identity)}
        # Runs of trials stay where only their study's run was deleted by hand: that is looked for too.
        for parent in self.runs_named(study, identity=identity, deleted=True):
            whole = [parent] if parent.run_id in active else []
            for run in (*self._runs.under(parent.run_id), *whole):  # the parent last: the rest is found by it
                kept.append(self._artifacts.delete_run(run.run_id))
        return Deleted(runs=len(kept), kept=tuple(place for place in kept if place is not None))


def own_run(named: Sequence[RunInfo], identity: str) -> RunInfo | None:
    """Return the run of the study of that identity among the runs of studies of its name, None if it has none.

    A run without an identity counts if no run has this one.
    """
    for wanted in (identity, None):
        found = next((run for run in named if run.study_identity == wanted), None)
        if found is not None:
            return found
    return None
