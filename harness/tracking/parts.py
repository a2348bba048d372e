"""The parts of a study in MLflow: its confirmation, its refit, and the ensemble of the refit's networks."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import CheckpointError
from harness.core.study_record import Confirmation
from harness.tracking.artifacts import Artifacts
from harness.tracking.run_info import RunInfo
from harness.tracking.runs import Runs
from harness.tracking.studies import Studies
from harness.tracking.tags import Tag


class Parts:
    """The parts of the studies of one MLflow store."""

    def __init__(self, studies: Studies, runs: Runs, artifacts: Artifacts) -> None:
        self._studies = studies
        self._runs = runs
        self._artifacts = artifacts

    def _adopt(self, study: str, identity: str, part: str) -> str:
        """Make the run of a part a child of the study's run, and return the id of that."""
        parent = self._studies.require_run(study, identity).run_id
        self._runs.log(part, tags={Tag.PARENT_ID: parent})
        return parent

    def note_refit(self, study: str, identity: str, refit: str, run_id: str, trial: int) -> None:
        """Record in a study's run which trial was refitted, and in which run; `refit` is the refit's study run.

        That run becomes a child of the study's run.
        """
        parent = self._adopt(study, identity, refit)
        self._runs.log(parent, tags={Tag.REFIT_RUN_ID: run_id, Tag.REFIT_TRIAL: str(trial)})

    def note_confirmation(self, study: str, identity: str, part: str, confirmation: Confirmation) -> None:
        """Record the confirmation of a study in the study's run; `part` is the confirmation's own study run.

        That run becomes a child of the study's run.
        """
        parent = self._adopt(study, identity, part)
        chosen = confirmation.chosen
        figures = {
            "confirmation_flattered_by": confirmation.flattered_by,
            "best_val_accuracy": chosen.val_accuracy,
            "best_val_loss": chosen.val_loss,
            "best_epoch": float(chosen.epoch),
        }
        self._runs.add_metrics(parent, figures)
        self._runs.log(parent, tags={Tag.CONFIRMED_TRIAL: str(chosen.trial)})

    def keep_ensemble(self, refit: str, checkpoint: Path, members: int) -> None:
        """Store the checkpoint of an ensemble with a refit's study run; the tag says that it is whole."""
        self._runs.log(refit, tags={Tag.MEMBERS: ""})
        self._artifacts.log_checkpoint(refit, checkpoint)
        self._runs.log(refit, tags={Tag.MEMBERS: str(members)})

    def network_run(self, study: str, identity: str | None = None) -> RunInfo:
        """Return the run with the network to use: the refit of the best trial, or the best trial itself.

        A refit for another number of epochs than the study asks for now is left out: a confirmation changes it.

        Raises StudyError as `best_trial_run` does.
        """
        best = self._studies.best_trial_run(study, identity)
        parent = self._runs.get(best.parent_id)
        if parent.refit is not None and parent.refit[0] == best.trial_number:
            refit = self._runs.get(parent.refit[1])
            if refit.metrics.get("best_epoch") == parent.metrics.get("best_epoch"):
                return refit
        return best

    def ensemble_run(self, study: str, identity: str | None = None) -> RunInfo:
        """Return the run with the ensemble of a study: the run of its refit.

        Raises StudyError as `best_trial_run` does, and CheckpointError if the study has no ensemble.
        """
        network = self.network_run(study, identity)
        refit = None if network.refit_of is None else self._runs.get(network.parent_id)
        if refit is None or refit.members is None:
            raise CheckpointError(
                f"study {study!r} has no ensemble",
                expected="a study that was swept with --ensemble N",
                hint=f"harness sweep --study {study} --ensemble 5, with the settings of the study",
            )
        return refit
