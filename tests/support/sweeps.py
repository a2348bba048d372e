"""Small sweeps on the demo set, in the test's own process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from harness.core.records import Split
from harness.data import DEMO_FOLDER
from harness.study import Study
from harness.sweep import driver
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.placing import worker_tasks
from harness.sweep.plan import SweepPlan, plan_sweep
from harness.sweep.reconcile import Record
from harness.sweep.settings import SweepSettings
from harness.sweep.summary import StudySummary
from harness.sweep.uploader import JournalUploader
from harness.sweep.worker import work_at
from harness.tracking import Machine, Presence


@dataclass(frozen=True)
class Unsent:
    """A study whose trials are over in Optuna while MLflow has heard of none of them."""

    plan: SweepPlan
    study: Study
    record: Record
    uploader: JournalUploader

    @property
    def journals(self) -> list[Path]:
        return sorted(self.plan.work_folder.glob("trial-*.jsonl"))


FAST = SweepSettings(model="fcnn", data="demo", trials=2, epochs=4, jobs=1, pruner="none")


def changed(settings: SweepSettings = FAST, **changes: Any) -> SweepSettings:
    """Settings with some of them changed, and validated anew."""
    return SweepSettings(**{**settings.model_dump(exclude_unset=True), **changes})


@contextmanager
def no_pictures() -> Iterator[None]:
    """Draw no pictures of a study in this process: few tests look at them, and each sweep spends 0.6 s on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.study.plots._save", lambda _figure, _path: None)
        yield


def sweep(settings: SweepSettings = FAST, *, pictures: bool = False, **changes: Any) -> StudySummary:
    """Run a small sweep in the stores under the current folder, or in those that `changes` name."""
    plan = plan_sweep(changed(settings, **changes))
    with nullcontext() if pictures else no_pictures():
        return run_sweep(plan, open_study(plan))


def make_workspace(folder: Path, empty_stores: Path, demo_data: Path | None = None) -> Path:
    """Make a folder to work in, with empty stores under `mlruns/` and, where given, the demo set."""
    (folder / "mlruns").mkdir(parents=True)
    for name in ("optuna.db", "mlflow.db"):
        shutil.copy(empty_stores / name, folder / "mlruns" / name)
    if demo_data is not None:
        (folder / "input").mkdir()
        (folder / DEMO_FOLDER).symlink_to(demo_data)
    return folder


def write_lists(folder: Path, split: Split, suffix: str = "") -> Path:
    """Write a split as lists, in the form in which GTZAN's fault-filtered split is published."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "valid", "test"):
        lines = [f"{track.partition('.')[0]}/{track}.wav\n" for track in getattr(split, part)]
        (folder / f"{part}{suffix}.txt").write_text("".join(lines))
    return folder


def train_without_uploading(listen: Callable[..., None] = lambda *_: None, **changes: Any) -> Unsent:
    """Do what the workers of a small sweep do, in this process, and leave their journals unsent.

    `listen` is called for each event by the uploader, which was made before the first trial began.
    """
    plan = plan_sweep(changed(FAST, **changes))
    study = open_study(plan)
    machine = Machine.here(plan.stores.work_root, create=True)
    presence = Presence.of_this_process(machine, study.worker_id.sweep, plan.work_folder / "none.lock")
    record = driver._begin_record(plan, study, presence)
    uploader = record.uploader(listen)
    work_at(worker_tasks(plan, study)[0]("worker"), Event())
    return Unsent(plan, study, record, uploader)
