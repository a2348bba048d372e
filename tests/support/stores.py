"""The two stores of a test, read through the libraries' own clients, and what must hold after a crash."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.storages import RDBStorage

EPOCH_METRICS = ("train_loss", "val_loss", "val_accuracy", "epoch_seconds")


def work_folder(study: str) -> Path:
    """The work folder of a study whose stores are the ones under the current folder."""
    return Path.cwd() / "mlruns" / "work" / study


def artifacts(run: Run) -> Path:
    """The local folder of a run's artifacts."""
    return Path(run.info.artifact_uri.removeprefix("file://"))


@dataclass(frozen=True)
class Stores:
    """The two stores of a test; by default the ones under the current folder."""

    storage: str
    tracking: str

    @classmethod
    def here(cls) -> Stores:
        return cls(f"sqlite:///{Path.cwd()}/mlruns/optuna.db", f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")

    def client(self) -> MlflowClient:
        return MlflowClient(self.tracking)

    def trials(self, study: str) -> list[optuna.trial.FrozenTrial]:
        storage = RDBStorage(self.storage)
        try:
            return optuna.load_study(study_name=study, storage=storage).get_trials()
        finally:
            storage.engine.dispose()

    def runs(self, study: str, kind: str) -> list[Run]:
        """The runs of a study, those of trials in the trials' order."""
        client = self.client()
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(ids, f"tags.study = '{study}' and tags.kind = '{kind}'")
        return sorted(found, key=lambda run: int(run.data.tags.get("trial", "0")))

    def refit_of(self, study: str) -> str:
        """The name of the study that refits this one."""
        (run,) = self.client().search_runs(
            [each.experiment_id for each in self.client().search_experiments()],
            f"tags.kind = 'study' and tags.refit_of = '{study}'",
        )
        return run.data.tags["study"]

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        """The points of one metric, each its step and value, in the order in which MLflow gives them."""
        points = self.client().get_metric_history(run.info.run_id, metric)
        return [(point.step, point.value) for point in points]

    def curves(self, run: Run) -> list[list[tuple[int, float]]]:
        """The points of a run but for its times, metric by metric."""
        return [sorted(self.history(run, name)) for name in EPOCH_METRICS[:3]]

    def check(self, study: str, total: int, epochs: int) -> None:
        """Exact totals, each trial once, one run a trial, one point an epoch, nothing left RUNNING or behind."""
        found = self.trials(study)
        assert [trial.state.name for trial in found] == ["COMPLETE"] * total
        assert [trial.number for trial in found] == list(range(total))
        (parent,) = self.runs(study, "study")
        assert parent.info.status == "FINISHED"
        children = self.runs(study, "trial")
        assert [int(run.data.tags["trial"]) for run in children] == list(range(total))
        for trial, run in zip(found, children, strict=True):
            assert (run.info.status, run.data.tags["trial_state"]) == ("FINISHED", "complete")
            for metric in EPOCH_METRICS:
                steps = sorted(step for step, _ in self.history(run, metric))
                assert steps == list(range(1, epochs + 1)), (run.info.run_name, metric)
            assert run.data.metrics["best_val_accuracy"] == trial.value
            kept = {file.path for file in self.client().list_artifacts(run.info.run_id, "checkpoint")}
            folds = int(run.data.params["folds"])
            assert kept == (set() if folds > 1 else {"checkpoint/model.json", "checkpoint/model.safetensors"})
            for fold in range(1, folds + 1) if folds > 1 else ():
                steps = sorted(step for step, _ in self.history(run, f"val_accuracy_fold_{fold}"))
                assert steps == list(range(1, epochs + 1)), (run.info.run_name, fold)
            assert not self.client().list_artifacts(run.info.run_id, "resume")

    def check_halved(
        self, study: str, total: int, rungs: tuple[int, ...], epochs: int, *, lost: bool = False
    ) -> list[int]:
        """What must hold at the end of a sweep that pauses; return how many epochs each trial was trained.

        The best third of each rung has gone on; one run a trial, one point an epoch, nothing left RUNNING, paused
        or behind. `lost`: a machine was lost with the ends of trials that it had not sent; those were mended.
        """
        found, runs = self.trials(study), self.runs(study, "trial")
        assert [trial.number for trial in found] == list(range(total))
        assert [int(run.data.tags["trial"]) for run in runs] == list(range(total))
        trained = []
        for trial, run in zip(found, runs, strict=True):
            halving = trial.user_attrs["halving"]
            is_complete = trial.state.name == "COMPLETE"
            assert trial.state.name in ("COMPLETE", "PRUNED")
            assert is_complete == (halving["promoted"] == len(rungs))
            trained.append(epochs if is_complete else rungs[halving["promoted"]])
            for metric in EPOCH_METRICS:
                steps = sorted(step for step, _ in self.history(run, metric))
                assert steps == list(range(1, trained[-1] + 1)), (run.info.run_name, metric)
            end = ("FINISHED", "complete") if is_complete else ("KILLED", "pruned")
            assert (run.info.status, run.data.tags["trial_state"]) == end
            assert is_complete or "asha pruner, rung" in run.data.tags["reason"]
            kept = {file.path for file in self.client().list_artifacts(run.info.run_id, "checkpoint")}
            has_none = lost and "mended" in run.data.tags and not is_complete
            assert kept == (set() if has_none else {"checkpoint/model.json", "checkpoint/model.safetensors"})
            assert "best_val_accuracy" in run.data.metrics
            assert not self.client().list_artifacts(run.info.run_id, "resume")
        for rung in range(1, len(rungs) + 1):
            there = [t for t in found if len(t.user_attrs["halving"]["reached"]) >= rung]
            went = {t.number for t in there if t.user_attrs["halving"]["promoted"] >= rung}
            best = sorted(there, key=lambda t: self._score(t, rung))[: max(1, len(there) // 3)]
            assert {t.number for t in best} <= went
        return trained

    @staticmethod
    def _score(trial: optuna.trial.FrozenTrial, rung: int) -> tuple[float, float, int]:
        value, loss = trial.user_attrs["halving"]["reached"][rung - 1]
        return (-value, loss, trial.number)

    def same_numbers(self, broken: str, whole: str) -> None:
        """Two studies are equal, number for number, times aside."""
        pairs = [[(t.params, t.value) for t in self.trials(study)] for study in (broken, whole)]
        assert pairs[0] == pairs[1]
        for one, other in zip(self.runs(broken, "trial"), self.runs(whole, "trial"), strict=True):
            assert self.curves(one) == self.curves(other)


def left_behind(work_folder: Path) -> list[str]:
    """What a sweep that is over has left of its trials in its work folder."""
    return sorted(path.name for path in work_folder.glob("trial-*"))


def epochs_on_record(work_folder: Path) -> int:
    """How many epochs the journals of a work folder hold."""
    found = 0
    for path in work_folder.glob("*.jsonl"):
        with suppress(FileNotFoundError):  # its trial has just ended
            lines = path.read_bytes()
            found += lines.count(b'"event":"epoch"') + lines.count(b'"event":"fold_epoch"')
    return found
