"""The best checkpoint as a folder of its own, measured on the test part. One of two rooms that open that part."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.checkpoint import (
    DESCRIPTION_FILE,
    Architecture,
    load_checkpoint,
    read_description,
    save_checkpoint,
)
from harness.data import open_test
from harness.errors import CheckpointError, StudyError, TrackingError
from harness.plan import load_recorded_data
from harness.records import Split
from harness.settings import check_name, resolve_stores
from harness.statistics import wilson_interval
from harness.tracking import CONTEXT_FILE, SPLIT_FILE, RunRecord, Tracker
from harness.training import evaluate


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """Accuracy on the test part with its 95 % Wilson interval; `openings` counts how often this run opened it."""

    tracks: int
    correct: int
    accuracy: float
    low: float
    high: float
    openings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An exported checkpoint: where it lies, which run made it, how it does."""

    folder: Path
    run_id: str
    study: str
    model: str
    split_name: str
    synthetic: bool
    val_accuracy: float
    test: TestResult

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {**asdict(self), "folder": str(self.folder)}

    def as_text(self) -> str:
        """Return what the command prints."""
        test = self.test
        lines = [
            f"exported {self.model} (study {self.study}, run {self.run_id}) to {self.folder}",
            f"validation accuracy {self.val_accuracy:.3f}",
            f"test accuracy {test.accuracy:.3f} ({test.correct} of {test.tracks} tracks), "
            f"95 % interval {test.low:.3f} to {test.high:.3f}, split: {self.split_name}",
        ]
        if self.synthetic:
            lines.append("the data are SYNTHETIC: these figures say nothing about music")
        if test.openings > 1:
            lines.append(f"the test part has now been opened {test.openings} times by this run")
        return "\n".join(lines)


def export_best(
    out: Path,
    *,
    study: str | None = None,
    run_id: str | None = None,
    data: str | None = None,
    tracking_uri: str | None = None,
) -> Bundle:
    """Export the best complete trial of a study, or the trial of one run, to the folder `out`.

    The network is written, loaded back from the folder, and measured on the test part of the study's own
    split; `out` appears whole, with the measurement in its description, or not at all.

    Raises StudyError or TrackingError where there is nothing to export, DataError where the data are not
    those the study was made on, CheckpointError where the checkpoint is gone or damaged.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} exists and is not an empty folder", legal="a new name", run="--out OTHER")
    tracking, _, _ = resolve_stores(tracking_uri, None)
    tracker = Tracker(tracking, create=False)
    run = _trial_run(tracker, run_id) if run_id is not None else best_trial_run(tracker, study or "")
    if run.tags.get("checkpoint") == "removed":
        raise CheckpointError(
            f"the checkpoint of run {run.run_id} was removed by --keep", run="export another run with --run"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        bundle = _write(tracker, run, data, working, out)
        if out.exists():
            out.rmdir()
        (working / "bundle").rename(out)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return bundle


def best_trial_run(tracker: Tracker, study: str) -> RunRecord:
    """Return the run of a study's best complete trial: highest accuracy, of several the first trial.

    Raises StudyError where the study or a complete trial is missing.
    """
    check_name("study", study)
    runs = tracker.trial_runs(study)
    complete = [run for run in runs if run.tags.get("trial_state") == "complete"]
    if not complete:
        found = f"study {study!r} has no complete trial" if runs else f"there is no study {study!r}"
        raise StudyError(
            found,
            legal=", ".join(tracker.study_names()) or "no study yet",
            run="harness status, or harness sweep",
        )
    return max(complete, key=lambda run: (run.metrics["best_val_accuracy"], -int(run.tags["trial"])))


def _trial_run(tracker: Tracker, run_id: str) -> RunRecord:
    run = tracker.run(run_id)
    if run.tags.get("kind") != "trial" or run.tags.get("trial_state") not in ("complete", "pruned"):
        kind, state = run.tags.get("kind", "unknown"), run.tags.get("trial_state", "without one")
        raise TrackingError(
            f"run {run_id} has no checkpoint (kind {kind}, state {state})",
            legal="the run of a complete or pruned trial",
            run="harness ui, to find one",
        )
    return run


def _write(tracker: Tracker, run: RunRecord, data: str | None, working: Path, out: Path) -> Bundle:
    parent = run.tags["mlflow.parentRunId"]
    split = Split.of(tracker.read_json(parent, SPLIT_FILE))
    context = tracker.read_json(parent, CONTEXT_FILE)
    tracks = load_recorded_data(data or context["data"], run.tags["data_digest"])
    checkpoint = tracker.download(run.run_id, "checkpoint", working)
    classifier, description = load_checkpoint(checkpoint)
    architecture = Architecture(**description["architecture"])
    folder = working / "bundle"
    about = {key: value for key, value in description.items() if key not in ("format", "architecture", "sha256")}
    about |= {"run_id": run.run_id, "split": split.name}
    save_checkpoint(folder, architecture, classifier.state_dict(), about)

    loaded, _ = load_checkpoint(folder)
    openings = tracker.count_test_opening(run.run_id)
    part = open_test(tracks, split, architecture.representation, tuple(architecture.columns))
    correct = int((evaluate(loaded, part).argmax(1) == part.targets).sum())
    low, high = wilson_interval(correct, len(part))
    test = TestResult(
        tracks=len(part),
        correct=correct,
        accuracy=correct / len(part),
        low=low,
        high=high,
        openings=openings,
    )
    tracker.add_metrics(run.run_id, {"test_accuracy": test.accuracy}, step=openings)
    written = read_description(folder)
    written["metrics"] |= {"test": asdict(test)}
    (folder / DESCRIPTION_FILE).write_text(json.dumps(written, indent=2) + "\n")
    return Bundle(
        folder=out,
        run_id=run.run_id,
        study=run.tags["study"],
        model=architecture.model,
        split_name=split.name,
        synthetic=tracks.synthetic,
        val_accuracy=description["metrics"]["val_accuracy"],
        test=test,
    )
