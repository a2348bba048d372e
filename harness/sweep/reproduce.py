"""Trains a trial again from its MLflow run alone, and compares the two trainings epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain

import torch

from harness.core.errors import DataError, Diverged, SettingsError, TrackingError
from harness.core.json_types import JsonObject
from harness.core.records import EpochMetrics, Split, TrialConfig, fold_round
from harness.core.space_parsing import parse_fixed
from harness.core.study_record import StudyContext
from harness.core.threads import intra_op_threads
from harness.core.workspace import resolve_stores
from harness.data import Tracks, TrainingData, View, validation_folds, with_crop
from harness.data.open import load_data, recorded_folder
from harness.models.registry import MODELS, model_of_source
from harness.models.spec import ModelSpec
from harness.tracking import RunInfo, Tracker
from harness.tracking.environment import code_version, environment
from harness.tracking.runs import EPOCH_FIGURES
from harness.training.devices import choose_device, gpu_name
from harness.training.folds import Curve, fold_config, mean_curve
from harness.training.hyperparameters import accepted_by
from harness.training.loop import fit, start_training
from harness.training.stacks import Stacks

MAX_THREADS = 1024  # of a recorded training: more than any machine has a use for


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference from the recorded trial: its name, the recorded value and the value found here."""

    what: str
    recorded: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPair:
    """One epoch of both trainings: the recorded figures and those found here (None if the epoch is missing)."""

    epoch: int
    recorded: dict[str, float] | None
    found: dict[str, float] | None

    @property
    def agrees(self) -> bool:
        """Whether every figure is the same to the last digit."""
        return self.recorded is not None and self.recorded == self.found

    @property
    def gaps(self) -> dict[str, float]:
        """The absolute difference of each figure; infinity if one training lacks it."""
        recorded, found = self.recorded or {}, self.found or {}
        return {
            name: abs(recorded.get(name, math.inf) - found.get(name, -math.inf))
            for name in dict.fromkeys((*recorded, *found))
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """The result of training a trial again."""

    run_id: str
    study: str
    trial: int
    epochs: tuple[EpochPair, ...]
    differences: tuple[Difference, ...]
    ended: str | None  # why the second training ended early; None if it trained every recorded epoch

    @property
    def agrees(self) -> bool:
        """Whether every epoch is the same to the last digit."""
        return bool(self.epochs) and all(pair.agrees for pair in self.epochs)

    @property
    def gaps(self) -> dict[str, float]:
        """The largest difference of each figure over all epochs."""
        gaps = [pair.gaps for pair in self.epochs]
        return {name: max(g[name] for g in gaps if name in g) for name in dict.fromkeys(chain(*gaps))}

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints; a gap that is not finite is null."""
        return {
            "run_id": self.run_id,
            "study": self.study,
            "trial": self.trial,
            "agrees": self.agrees,
            "epochs": [asdict(pair) for pair in self.epochs],
            "largest_differences": {name: gap if math.isfinite(gap) else None for name, gap in self.gaps.items()},
            "environment_differs": [asdict(difference) for difference in self.differences],
            "ended": self.ended,
        }


def reproduce(
    run_id: str,
    *,
    data: str | None = None,
    device: str | None = None,
    tracking_uri: str | None = None,
    trust_code: bool = False,
    listener: Callable[[EpochMetrics, int], None] = lambda *_: None,
) -> Reproduction:
    """Train the trial of a run again from its MLflow run alone, and compare the epochs.

    Threads, precision and the number of epochs are the recorded ones; there is no pruner. `data` and `device`
    override the recorded values. The result lists every difference from the recorded trial.

    Raises TrackingError if the run does not belong to a trial or has no epochs, and DataError if the data lack a
    track of the split.
    """
    tracker = Tracker(resolve_stores(tracking_uri, None).tracking_uri, create=False)
    run = tracker.studies.require_trial(run_id)
    recorded = tracker.runs.epochs(run_id, run.own_metrics)
    if not recorded:
        raise TrackingError(
            f"run {run_id} has no epochs", expected="the run of a trial that trained one epoch or more"
        )
    context = tracker.studies.context(run.parent_id)
    model = _model(run, context, trust_code)
    split = tracker.studies.split(run.parent_id)
    tracks = load_data(data or recorded_folder(context), context.dataset.options)
    _check_tracks(tracks, split)
    differences = [
        *_environment_differences(run),
        *_changed("data digest", run.data_digest, tracks.digest),
    ]
    where, differs = _device(device, run.device)
    differences += [*differs, *_changed("gpu", run.gpu or "none", gpu_name(where) or "none")]
    config = run.config
    _check_config(run_id, config, model)
    splits = _splits(run, tracks, split)
    tracks = with_crop(tracks, splits, [config.params.get("crop", "none")])
    view = View(tracks, model.representation, context.columns).for_params(config.params)
    configs = [fold_config(config, n) for n in range(1, len(splits) + 1)] if run.folds > 1 else [config]
    with intra_op_threads(config.threads):
        parts = [view.training(one).to(where) for one in splits]
        curves, ended = _train(configs, model, parts, len(recorded), listener)
    mean = mean_curve(curves)
    found = {epoch.metrics.epoch: _figures(epoch.metrics) for epoch in mean}
    numbers = range(1, max(len(recorded), len(found)) + 1)
    return Reproduction(
        run_id=run_id,
        study=run.study or "",
        trial=run.trial_number,
        epochs=tuple(EpochPair(epoch=n, recorded=recorded.get(n), found=found.get(n)) for n in numbers),
        differences=tuple(differences),
        ended=ended,
    )


def _splits(run: RunInfo, tracks: Tracks, split: Split) -> tuple[Split, ...]:
    """Return the splits that the trial was trained on: its folds, or that of the study, merged for a refit."""
    if run.refit_of is not None:
        return (split.merged(),)
    if run.folds == 1:
        return (split,)
    trained = len(run.trained_folds)  # fewer than the study's if the trial was pruned
    if run.trained_folds != tuple(range(1, trained + 1)) or not 1 <= trained <= run.folds:
        raise TrackingError(
            f"run {run.run_id} has the figures of the folds {run.trained_folds}", expected=f"1 to {run.folds}"
        )
    return validation_folds(tracks, split, run.folds, fold_round(run.confirms))[:trained]


def _model(run: RunInfo, context: StudyContext, trust_code: bool) -> ModelSpec:
    """Return the model. A model from a file is built from its recorded code, never from the present file."""
    name = run.config.model
    if name in MODELS:
        return MODELS[name]
    if context.model_source is None:
        raise TrackingError(f"run {run.run_id} has no code of its model {name!r} on record")
    what = f"run {run.parent_id}"
    return model_of_source(name, context.model_source, run.source_digest, what, trust_code=trust_code)


def _check_config(run_id: str, config: TrialConfig, model: ModelSpec) -> None:
    """Raise TrackingError or SettingsError for a recorded configuration that no training can have."""
    where = f"run {run_id}: "
    if type(config.threads) is not int or not 1 <= config.threads <= MAX_THREADS:
        raise TrackingError(f"{where}threads is {config.threads!r}", expected=f"1 to {MAX_THREADS}")
    stack, most = config.stack, model.largest_stack(config.precision)
    if stack is not None and not (type(stack) is int and 1 <= stack <= most):
        raise TrackingError(
            f"{where}stack is {stack!r}", expected=f"at most {most} of {model.name} in {config.precision}"
        )
    parse_fixed(config.params, accepted_by(model), where)


def _check_tracks(tracks: Tracks, split: Split) -> None:
    missing = sorted(set(split.train + split.valid) - set(tracks.ids))
    if missing:
        raise DataError(
            f"{tracks.folder} lacks {len(missing)} tracks of the recorded split: {', '.join(missing[:5])}",
            expected="the data that the study was made on",
            hint="the same command with --data",
        )


def _device(wanted: str | None, recorded: str) -> tuple[torch.device, list[Difference]]:
    """Return the device to train on, and its difference from the recorded one.

    It is the wanted device, or the recorded device if none is wanted, or `auto` if this machine lacks the latter.
    """
    try:
        device = choose_device(wanted or recorded)
    except SettingsError:
        if wanted is not None:
            raise
        device = choose_device("auto")
    return device, _changed("device", recorded, str(device))


def _environment_differences(run: RunInfo) -> list[Difference]:
    found: list[Difference] = []
    here = environment()
    for name in here:
        found += _changed(name, run.environment.get(name, "not recorded"), here[name])
    code = code_version()
    commit, dirty = ("unknown", "unknown") if code is None else (code[0], "yes" if code[1] else "no")
    found += _changed("commit", run.commit or "unknown", commit)
    then = run.code_dirty or "unknown"
    if "yes" in (then, dirty):  # the code may differ although the commit is the same
        found.append(Difference(what="uncommitted changes", recorded=then, found=dirty))
    return found


def _changed(what: str, recorded: str, found: str) -> list[Difference]:
    return [] if recorded == found else [Difference(what=what, recorded=recorded, found=found)]


def _figures(metrics: EpochMetrics) -> dict[str, float]:
    found = {name: getattr(metrics, name) for name in EPOCH_FIGURES} | dict(metrics.own)
    return {name: value for name, value in found.items() if value is not None}


def _train(
    configs: Sequence[TrialConfig],
    model: ModelSpec,
    parts: Sequence[TrainingData],
    epochs: int,
    listener: Callable[[EpochMetrics, int], None],
) -> tuple[list[Curve], str | None]:
    """Train each configuration on its part for so many epochs; return the curves, and why the last ended early."""
    curves: list[Curve] = []
    for number, (config, data) in enumerate(zip(configs, parts, strict=True)):
        device = data.train.inputs.device
        state = start_training(config, model, data, device)
        epochs_of = fit if config.stack is None else Stacks(config.stack, device).fit
        try:
            for metrics in epochs_of(state, data):
                listener(replace(metrics, epoch=number * epochs + metrics.epoch), epochs * len(configs))
                if metrics.epoch == epochs:
                    break
        except Diverged as divergence:
            return [*curves, state.curve], str(divergence)
        curves.append(state.curve)
    return curves, None
