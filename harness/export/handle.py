"""A study as an object: its trials as a table, its best trial, its network, predictions with it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from harness.core.records import StudySpec
from harness.core.trial_rows import TrialRow
from harness.core.workspace import Stores, check_name, resolve_stores
from harness.export.formats import of_network
from harness.export.frames import Items, predict_items
from harness.study import Study, reading_storage
from harness.tracking import Tracker
from harness.training.checkpoint import load_checkpoint
from harness.training.description import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStudy:
    """A recorded study. `best` is the trial to use (None if none is complete), `run_id` its run in MLflow.

    `identity` differs from that of other studies of the same name. `network_run_id` is the run with the network:
    the refit of the best trial, or the best trial itself.
    """

    name: str
    spec: StudySpec
    rows: tuple[TrialRow, ...]
    best: TrialRow | None
    run_id: str
    stores: Stores
    identity: str
    trust_code: bool = False

    def trials(self) -> pd.DataFrame:
        """Return the trials as a table, one row each, indexed by number.

        The columns are the hyperparameters, fixed ones included, then `state`, `val_accuracy`, `val_accuracy_std`
        (over the folds), `val_loss`, `best_epoch`, `seconds` and `reason`.
        """
        found = [
            {
                **self.spec.fixed,
                **row.params,
                "state": row.state.lower(),
                "val_accuracy": row.val_accuracy,
                "val_accuracy_std": row.val_accuracy_std,
                "val_loss": row.val_loss,
                **row.own,
                "best_epoch": row.best_epoch,
                "seconds": row.seconds,
                "reason": row.reason,
            }
            for row in self.rows
        ]
        return pd.DataFrame(found, index=pd.Index([row.number for row in self.rows], name="trial"))

    @property
    def network_run_id(self) -> str:
        """The run in MLflow that has the study's network."""
        return Tracker(self.stores.tracking_uri, create=False).parts.network_run(self.name, self.identity).run_id

    def network(self) -> torch.nn.Module:
        """Return the study's network with its normaliser, in evaluation mode, on the CPU.

        It takes raw rows, float32 [n, columns], or pictures of the network's size, uint8 [n, height, width, 3]. It
        gives logits [n, classes].

        Raises StudyError if no trial is complete, CheckpointError if the checkpoint was removed, UntrustedCode as
        `harness.load` does.
        """
        return self._loaded()[0]

    def predict(self, items: Items) -> pd.DataFrame:
        """Predict the class of each item, as a table; see `predict_items`."""
        network, architecture = self._loaded()
        with torch.inference_mode():
            return predict_items(of_network(network, architecture), architecture, items)

    def _loaded(self) -> tuple[torch.nn.Module, Architecture]:
        tracker = Tracker(self.stores.tracking_uri, create=False)
        run = tracker.parts.network_run(self.name, self.identity)
        tracker.studies.require_checkpoint(run)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = tracker.artifacts.download_checkpoint(run.run_id, Path(folder))
            network, description = load_checkpoint(checkpoint, trust_code=self.trust_code)
        return network, description.architecture


def load_study(
    name: str, *, tracking_uri: str | None = None, storage: str | None = None, trust_code: bool = False
) -> LoadedStudy:
    """Read a study from the stores.

    Raises StudyError if there is none of that name.
    """
    stores = resolve_stores(tracking_uri, storage)
    with reading_storage(stores.storage) as opened:
        study = Study.open(opened, check_name("study", name), stores.work_folder(name))
        spec, rows, best, identity = study.spec, study.rows(), study.best(), study.context.identity
    run = Tracker(stores.tracking_uri, create=False).studies.require_run(name, identity)
    return LoadedStudy(
        name=name,
        spec=spec,
        rows=tuple(rows),
        best=best,
        run_id=run.run_id,
        stores=stores,
        identity=identity,
        trust_code=trust_code,
    )
