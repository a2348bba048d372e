"""The best checkpoint as a folder of its own, measured on the test part. One of two rooms that open that part."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.core.errors import CheckpointError, TrackingError
from harness.core.files import sha256_of
from harness.core.json_types import JsonObject
from harness.core.records import Split
from harness.core.stats import wilson_interval
from harness.core.workspace import resolve_stores
from harness.data import PICTURES_FOLDER, Part, Tracks, View, find_pictures, with_crop
from harness.data.open import load_recorded_data, recorded_folder
from harness.export.card import CARD_FILE, model_card
from harness.export.formats import (
    DEFAULT_FORMATS,
    FILES,
    Source,
    check_formats,
    compare_outputs,
    read_format,
    write_formats,
)
from harness.models.classifier import Classifier
from harness.tracking import (
    PICTURE_COLUMN,
    Kind,
    Ledger,
    Registered,
    RunInfo,
    Tracker,
    read_ledger,
    register,
)
from harness.training.checkpoint import (
    Architecture,
    Description,
    Exported,
    FormatCheck,
    TestResult,
    load_checkpoint,
    save_checkpoint,
    write_description,
)
from harness.training.loop import evaluate


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
    ledger: Ledger
    formats: tuple[FormatCheck, ...]
    registered: Registered | None

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints."""
        return {**asdict(self), "folder": str(self.folder), "ledger": self.ledger.as_json()}

    def as_text(self) -> str:
        """Return what the command prints."""
        test = self.test
        lines = [
            f"exported {self.model} (study {self.study}, run {self.run_id}) to {self.folder}",
            f"validation accuracy {self.val_accuracy:.3f}",
            f"test accuracy {test.accuracy:.3f} ({test.correct} of {test.tracks} tracks), "
            f"95 % interval {test.low:.3f} to {test.high:.3f}, split: {self.split_name}",
            *(
                f"{check.file}: read back, test accuracy {check.accuracy:.3f}, "
                f"largest difference of a probability {check.largest_difference:.1e}"
                for check in self.formats
            ),
        ]
        if self.registered is not None:
            again = ", as before" if self.registered.reused else ""
            lines.append(f"registered as {self.registered.uri} (version {self.registered.version}{again})")
        if self.synthetic:
            lines.append("the data are SYNTHETIC: these figures say nothing about music")
        lines.append(self.ledger.as_text())
        return "\n".join(lines)


def export_best(
    out: Path,
    *,
    study: str | None = None,
    run_id: str | None = None,
    data: str | None = None,
    tracking_uri: str | None = None,
    formats: tuple[str, ...] = DEFAULT_FORMATS,
    register: bool | None = None,
) -> Bundle:
    """Export the best complete trial of a study, or the trial of one run, to the folder `out`.

    The network is measured on the test part of the study's own split; each file is read back and compared with
    it there. `out` appears whole, with the measurements in its description and its card, or not at all.
    `register` puts the network into MLflow's model registry; by default a study's best is, a single run is not.

    Raises StudyError or TrackingError where there is nothing to export, DataError where the data are not
    those the study was made on, SettingsError for a format that does not exist, CheckpointError where the
    checkpoint is gone or damaged, a format's packages are missing, or a file does not do what the original does.
    """
    formats = check_formats(formats)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(
            f"{out} exists and is not an empty folder", expected="a new name", hint="--out OTHER"
        )
    tracker = Tracker(resolve_stores(tracking_uri, None).tracking_uri, create=False)
    run = _trial_run(tracker, run_id) if run_id is not None else tracker.studies.best_trial_run(study or "")
    if run.checkpoint_removed:
        raise CheckpointError(
            f"the checkpoint of run {run.run_id} was removed by --keep", hint="export another run with --run"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        bundle = _write(tracker, run, data, working, formats, run_id is None if register is None else register)
        if out.exists():
            out.rmdir()
        bundle.folder.rename(out)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return replace(bundle, folder=out)


def _trial_run(tracker: Tracker, run_id: str) -> RunInfo:
    run = tracker.runs.get(run_id)
    if run.kind != Kind.TRIAL or run.trial_state not in ("complete", "pruned"):
        raise TrackingError(
            f"run {run_id} has no checkpoint (kind {run.kind}, state {run.trial_state or 'none'})",
            expected="the run of a complete or pruned trial",
            hint="harness ui, to find one",
        )
    return run


def _write(
    tracker: Tracker, run: RunInfo, data: str | None, working: Path, formats: tuple[str, ...], registers: bool
) -> Bundle:
    split = tracker.studies.split(run.parent_id)
    context = tracker.studies.context(run.parent_id)
    tracks = load_recorded_data(data or recorded_folder(context), run.data_digest)
    classifier, description = load_checkpoint(tracker.artifacts.download_checkpoint(run.run_id, working))
    architecture = description.architecture
    parts = {name: len(getattr(split, name)) for name in ("train", "valid", "test")}
    exported = Exported(run_id=run.run_id, split=split.name, parts=parts)
    folder = working / "bundle"
    description = save_checkpoint(folder, classifier.state_dict(), replace(description, exported=exported))
    needed = tuple(name for name in FILES if name in formats or (registers and name == "pt2"))
    write_formats(folder, needed, _source(classifier, description))

    openings = tracker.runs.count_test_opening(run.run_id)
    crop = "none" if architecture.box is None else "frame"
    tracks = with_crop(tracks, [split], [crop])
    view = View(tracks, architecture.representation, architecture.columns, crop)
    part = view.open_test(split)
    # A file takes pictures as people have them, and must give what the network gives for the cache's.
    raw = part.inputs if architecture.representation == "features" else view.open_test_pictures(split)
    expected = torch.softmax(evaluate(classifier, part), 1)
    test = _test_result(expected, part, openings)
    checks = tuple(_check(folder, name, architecture, raw, expected, part) for name in needed)
    tracker.runs.add_metrics(run.run_id, {"test_accuracy": test.accuracy}, step=openings)

    registered = None
    if registers:
        registered = register(
            tracker,
            run.run_id,
            pt2=folder / FILES["pt2"],
            example=_example(tracks, split, architecture.columns),
            genres=architecture.genres,
        )
    for name in set(FILES) - set(formats):
        (folder / FILES[name]).unlink(missing_ok=True)
    checks = tuple(check for check in checks if check.format in formats)
    uri = None if registered is None else registered.uri
    exported = replace(exported, test=test, formats=checks, registered=uri)
    description = replace(description, exported=exported)
    write_description(folder, description)
    (folder / CARD_FILE).write_text(model_card(description))
    return Bundle(
        folder=folder,
        run_id=run.run_id,
        study=run.study or "",
        model=architecture.model,
        split_name=split.name,
        synthetic=tracks.synthetic,
        val_accuracy=description.metrics.val_accuracy,
        test=test,
        ledger=read_ledger(tracker, run.data_digest, split.digest),
        formats=checks,
        registered=registered,
    )


def _source(classifier: Classifier, description: Description) -> Source:
    architecture, about = description.architecture, description.as_json()
    names = ("run_id", "study", "split", "synthetic", "data_digest", "split_digest")
    known = {**asdict(architecture), **{name: about[name] for name in names}}
    return Source(classifier, architecture.representation, len(architecture.columns), known, architecture.box)


def _test_result(expected: Tensor, part: Part, openings: int) -> TestResult:
    correct = int((expected.argmax(1) == part.targets).sum())
    low, high = wilson_interval(correct, len(part))
    return TestResult(
        tracks=len(part),
        correct=correct,
        accuracy=correct / len(part),
        low=low,
        high=high,
        openings=openings,
    )


def _check(
    folder: Path, name: str, architecture: Architecture, raw: Tensor, expected: Tensor, part: Part
) -> FormatCheck:
    probabilities = read_format(folder, name, architecture)
    difference, guesses = compare_outputs(FILES[name], probabilities, raw, expected)
    return FormatCheck(
        format=name,
        file=FILES[name],
        sha256=sha256_of(folder / FILES[name]),
        largest_difference=difference,
        accuracy=int((guesses == part.targets).sum()) / len(part),
    )


def _example(tracks: Tracks, split: Split, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return two rows of the train part as the registered model takes them."""
    ids = split.train[:2]
    if not columns:
        found = find_pictures(tracks.folder / PICTURES_FOLDER)
        return pd.DataFrame({PICTURE_COLUMN: [found[track][1].read_bytes() for track in ids]})
    assert tracks.features is not None
    table = pd.DataFrame(tracks.features, index=list(tracks.ids), columns=list(tracks.columns))[list(columns)]
    # As pandas reads the CSV: a column of whole numbers is one of integers.
    whole = [name for name in columns if np.equal(table[name], np.floor(table[name])).all()]
    return table.astype(dict.fromkeys(whole, "int64")).loc[list(ids)].reset_index(drop=True)
