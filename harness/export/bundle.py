"""Write the best checkpoint of a study, or of one run, to a folder that can be used without the stores."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from harness.core.errors import CheckpointError, TrackingError
from harness.core.files import with_parents
from harness.core.records import Split
from harness.core.trust import remember
from harness.core.workspace import resolve_stores
from harness.data import View, with_crop
from harness.data.open import load_recorded_data
from harness.export.card import CARD_FILE, model_card
from harness.export.example import example_table
from harness.export.formats import DEFAULT_FORMATS, FILES, Source, check_formats, write_formats
from harness.export.measure import measure
from harness.export.result import ExportResult
from harness.tracking import (
    Kind,
    Registered,
    RunInfo,
    Tracker,
    read_ledger,
    register,
)
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from harness.training.description import (
    Architecture,
    Description,
    Exported,
    FormatCheck,
    TestResult,
    write_description,
)


def export_best(
    out: Path,
    *,
    study: str | None = None,
    identity: str | None = None,
    run_id: str | None = None,
    ensemble: bool = False,
    data: str | None = None,
    tracking_uri: str | None = None,
    formats: tuple[str, ...] = DEFAULT_FORMATS,
    register: bool | None = None,
    trust_code: bool = False,
) -> ExportResult:
    """Export the network of a study, or that of one run, to the folder `out`.

    `identity` is that of the study, where there may be several of its name.

    A study's network is the refit of its best complete trial, or that trial's own if there is no refit; with
    `ensemble` it is the mean of the probabilities of all networks of the refit.

    The network is measured on the test part of the study's split. Each file is read back, and its outputs there
    are compared with those of the network. `out` is complete, with the measurements in its description and its
    model card, or it does not exist. `register` adds the network to MLflow's model registry; the default is to
    register the best trial of a study, and not the trial of a run. `trust_code`: see `require_trust`.

    Raises StudyError or TrackingError if there is nothing to export, DataError if the data are not those that the
    study was made on, SettingsError for an unknown format, and CheckpointError if the checkpoint is removed or
    damaged, if a package for a format is missing, or if the outputs of a file differ from those of the network.
    """
    formats = check_formats(formats)
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise CheckpointError(
            f"{out} exists and is not an empty folder", expected="a new folder name", hint="--out OTHER"
        )
    tracker = Tracker(resolve_stores(tracking_uri, None).tracking_uri, create=False)
    if run_id is not None:
        run = _trial_run(tracker, run_id)
    else:
        run = (tracker.parts.ensemble_run if ensemble else tracker.parts.network_run)(study or "", identity)
    tracker.studies.require_checkpoint(run)
    with with_parents(out):
        working = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            trained = _load(tracker, run, data, working, trust_code)
            _remove_empty(out)
            registers = _registers(trained.description.architecture, register, is_study=run_id is None)
            bundle = _write(tracker, run, trained, working, formats, registers)
            bundle.folder.rename(out)
            for check in bundle.formats:
                if check.format == "pt2":
                    remember(check.sha256, out / check.file)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    return replace(bundle, folder=out)


def _registers(architecture: Architecture, wanted: bool | None, *, is_study: bool) -> bool:
    """Return whether the network goes to the registry; `wanted` is the setting, None for the default.

    Raises CheckpointError if a network without classes is wanted there: a registered model predicts classes.
    """
    if wanted and not architecture.is_classifier:
        raise CheckpointError(
            f"{architecture.model} has a loss of its own: what it gives are no classes",
            expected="a classifier for the registry",
            hint="--no-register",
        )
    return architecture.is_classifier and (is_study if wanted is None else wanted)


def _remove_empty(out: Path) -> None:
    """Remove an empty folder in the place of the export. That may fail, and not after the test part was opened."""
    if out.exists():
        try:
            out.rmdir()
        except OSError as error:  # the current folder, or one that a file system is mounted at
            raise CheckpointError(
                f"{out} cannot be replaced: {error}", expected="a new folder name", hint="--out OTHER"
            ) from error


def _trial_run(tracker: Tracker, run_id: str) -> RunInfo:
    run = tracker.runs.get(run_id)
    if run.kind != Kind.TRIAL or run.trial_state not in ("complete", "pruned"):
        raise TrackingError(
            f"run {run_id} has no checkpoint (kind {run.kind}, state {run.trial_state or 'none'})",
            expected="the run of a complete or pruned trial",
            hint="harness ui, to find one",
        )
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """The network to export, with the data and the split that it was trained on."""

    classifier: nn.Module
    description: Description
    view: View
    split: Split  # that of the training: a refit has the validation part among its train tracks
    split_digest: str


def _write(
    tracker: Tracker, run: RunInfo, trained: _Trained, working: Path, formats: tuple[str, ...], registers: bool
) -> ExportResult:
    """Write the export of a run to a new folder in `working`; see `export_best`."""
    folder = working / "bundle"
    needed = tuple(name for name in FILES if name in formats or (registers and name == "pt2"))
    description = save_checkpoint(folder, trained.classifier.state_dict(), trained.description)
    write_formats(folder, needed, _source(trained.classifier, description))
    # Counted before the test part is opened, so that MLflow has every use of it, even if the export fails later.
    openings = tracker.runs.count_test_opening(run.run_id)
    test, checks = measure(folder, needed, trained.classifier, trained.view, trained.split, openings)
    found = test.figures if test.accuracy is None else {"test_accuracy": test.accuracy}
    tracker.runs.add_metrics(run.run_id, found, step=openings)
    registered = _register(tracker, run.run_id, folder, trained, description.sha256) if registers else None
    for name in set(FILES) - set(formats):  # pt2, if it was written for the registry only
        (folder / FILES[name]).unlink(missing_ok=True)
    checks = tuple(check for check in checks if check.format in formats)
    _describe(folder, description, test, checks, registered)
    return ExportResult(
        folder=folder,
        run_id=run.run_id,
        study=run.study or "",
        model=description.architecture.model,
        split_name=trained.split.name,
        synthetic=trained.view.tracks.synthetic,
        val_accuracy=description.metrics.val_accuracy,
        members=description.architecture.members,
        items=trained.view.tracks.words.items,
        test=test,
        ledger=read_ledger(tracker, run.data_digest, trained.split_digest),
        formats=checks,
        registered=registered,
    )


def _load(tracker: Tracker, run: RunInfo, data: str | None, working: Path, trust_code: bool) -> _Trained:
    """Download the checkpoint of a run to `working`, and open the data and the split of its study."""
    split = tracker.studies.split(run.parent_id)
    context = tracker.studies.context(run.parent_id)
    tracks = load_recorded_data(context, run.data_digest, data)
    checkpoint = tracker.artifacts.download_checkpoint(run.run_id, working)
    classifier, description = load_checkpoint(checkpoint, trust_code=trust_code)
    _check_origin(run, description, split)
    digest = split.digest
    if run.refit_of is not None:
        split = split.merged()
    parts = {name: len(getattr(split, name)) for name in ("train", "valid", "test")}
    exported = Exported(run_id=run.run_id, split=split.name, parts=parts)
    architecture = description.architecture
    crop = "none" if architecture.box is None else "frame"
    tracks = with_crop(tracks, [split], [crop])
    return _Trained(
        classifier=classifier,
        description=replace(description, exported=exported),
        view=View(tracks, architecture.representation, architecture.columns, crop),
        split=split,
        split_digest=digest,
    )


def _check_origin(run: RunInfo, description: Description, split: Split) -> None:
    """Raise CheckpointError if a checkpoint is not known to be that of the run, its data and its split.

    The test part of another split may have trained the network.
    """
    origin = description.origin
    trial = run.trial_number if run.kind == Kind.TRIAL else None
    wanted = (run.study, trial, run.data_digest, split.digest)
    found = None if origin is None else (origin.study, origin.trial, origin.data_digest, origin.split_digest)
    if found != wanted:
        raise CheckpointError(
            f"the checkpoint of run {run.run_id} is not that of its trial: "
            + (
                "it does not say where it comes from"
                if origin is None
                else "its study, trial, data or split differ"
            ),
            expected=f"a checkpoint of study {run.study!r}, {'all trials' if trial is None else f'trial {trial}'}",
            hint="harness export of another run, with --run",
        )


def _describe(
    folder: Path,
    description: Description,
    test: TestResult,
    checks: tuple[FormatCheck, ...],
    registered: Registered | None,
) -> None:
    """Write `model.json` and the model card with the measurements."""
    assert description.exported is not None
    uri = None if registered is None else registered.uri
    exported = replace(description.exported, test=test, formats=checks, registered=uri)
    description = replace(description, exported=exported)
    write_description(folder, description)
    (folder / CARD_FILE).write_text(model_card(description), encoding="utf-8")


def _source(classifier: nn.Module, description: Description) -> Source:
    architecture, about = description.architecture, description.as_json()
    names = ("run_id", "study", "split", "synthetic", "data_digest", "split_digest")
    known = {**asdict(architecture), **{name: about[name] for name in names}}
    return Source(
        classifier,
        architecture.representation,
        len(architecture.columns),
        known,
        architecture.box,
        architecture.input_size,
        architecture.is_classifier,
    )


def _register(tracker: Tracker, run_id: str, folder: Path, trained: _Trained, network: str) -> Registered:
    example = example_table(trained.view, trained.split)
    genres = trained.description.architecture.genres
    return register(tracker, run_id, pt2=folder / FILES["pt2"], example=example, genres=genres, network=network)
