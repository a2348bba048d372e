"""Plans a sweep: reads the data, makes the split, and checks every setting before anything is written."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.conditions import resolve
from harness.core.errors import DataError, SettingsError
from harness.core.halving import HALVING
from harness.core.known import KnownTrials
from harness.core.records import MAX_STACK, Split, StudySpec
from harness.core.space import Params, Space, first_params, possible_crops
from harness.core.space_parsing import parse_fixed, parse_search_option, parse_set_option, parse_space
from harness.core.study_record import Budget
from harness.core.workspace import Stores, check_new_name, resolve_stores
from harness.data import (
    Tracks,
    View,
    read_split,
    stratified_split,
    used_columns,
    validation_folds,
    with_crop,
)
from harness.data.open import default_experiment, load_data
from harness.models.external import check_network
from harness.models.registry import model_spec
from harness.models.spec import ModelSpec
from harness.study.samplers import check_search
from harness.sweep.known import read_known
from harness.sweep.settings import SweepSettings
from harness.training.devices import devices_of
from harness.training.hyperparameters import accepted_by, default_space

MINIMUM_ALLOWED_FAILURES = 10
PART_NAME = re.compile(r"\.(?:refit-\d+-\d+|confirm|nested-[0-9a-f]+-\d+)$")
CONFIRMED_BY_DEFAULT = 5  # trials, where folds are used


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What a sweep is going to do, with everything that can be checked beforehand already checked."""

    settings: SweepSettings
    spec: StudySpec
    tracks: Tracks
    split: Split
    model: ModelSpec
    stores: Stores
    devices: tuple[str, ...]
    known: KnownTrials | None = None  # trials of others, which the search of a new study is told
    deadline: float | None = None  # of time.monotonic(): after it no trial begins
    joins: bool = False  # whether it joins a study that another sweep has begun

    def begun(self) -> SweepPlan:
        """Return the plan of a sweep that begins now: its `timeout` holds for all of its stages together."""
        if self.settings.timeout is None or self.deadline is not None:
            return self
        return replace(self, deadline=time.monotonic() + 60 * self.settings.timeout)

    @property
    def view(self) -> View:
        """The tracks as the study's networks see them."""
        return View(self.tracks, self.model.representation, self.spec.columns)

    @property
    def refits(self) -> bool:
        """Whether the best setting is trained on train and validation part together when the search is over."""
        wanted = self.settings.refit
        return self.spec.folds > 1 or self.settings.ensemble > 1 if wanted is None else wanted

    @property
    def confirms(self) -> int:
        """How many of the best trials are measured again on fresh folds when the search is over."""
        return confirmed_trials(self.spec, self.settings.confirm)

    @property
    def first_params(self) -> Params:
        """The parameters of the first trial: the report's own, or what of the space is nearest to them.

        With known trials they are those of the best one, which so gets a run and a network here.
        """
        if self.known is not None:
            return self.known.best.params
        return first_params(self.spec.space, accepted_by(self.model))

    @property
    def work_folder(self) -> Path:
        """Where the study's work in progress lies on this machine."""
        return self.stores.work_folder(self.spec.name)

    @property
    def budget(self) -> Budget:
        """When the sweep is over: at so many finished or failed trials, or when so many have gained nothing."""
        trials, valid = self.settings.trials, len(self.split.valid)
        return Budget(trials, max(MINIMUM_ALLOWED_FAILURES, trials), self.settings.patience, valid)


def plan_sweep(settings: SweepSettings) -> SweepPlan:
    """Read the data, make the split and fix the study's spec; nothing is written but the cache of pictures.

    Raises DataError and SettingsError for whatever is wrong with them.
    """
    model = model_spec(settings.model)
    tracks = load_data(settings.data, settings.data_options)
    _check_representation(tracks, model)
    if settings.split is None:
        split = stratified_split(tracks, seed=settings.split_seed)
    else:
        split = read_split(Path(settings.split), tracks)
    _check_together(settings)
    _check_stack(settings, model)
    if not model.objective.is_accuracy:
        _check_own_loss(settings, model)
    spec = _spec(settings, model, tracks, split)
    if spec.pruner == HALVING and settings.patience is not None:
        raise SettingsError(
            f"patience is {settings.patience}, and the pruner is {HALVING}",
            expected=f"--patience with another pruner: of {HALVING} a trial that pauses may yet become the best",
            hint="--pruner median, or fewer --trials",
        )
    if model.source_digest is not None:
        check_network(model, len(spec.columns), len(tracks.genres), tracks.size)
    stores = resolve_stores(settings.tracking_uri, settings.storage)
    return SweepPlan(
        settings=settings,
        spec=spec,
        tracks=with_crop(tracks, training_splits(tracks, split, spec), possible_crops(spec.space, spec.fixed)),
        split=split,
        model=model,
        stores=stores,
        devices=devices_of(settings.device),
        known=read_known(settings, spec, accepted_by(model), stores),
    )


def _check_together(settings: SweepSettings) -> None:
    """Raise SettingsError for settings that are legal one by one, and not together."""
    if settings.confirm and settings.folds == 1:
        raise SettingsError(
            f"confirm is {settings.confirm}, and folds is 1",
            expected="--confirm with --folds: the best trials are measured again on fresh folds",
            hint="--folds 5",
        )
    if settings.ensemble > 1 and settings.refit is False:
        raise SettingsError(
            f"ensemble is {settings.ensemble}, and there is no refit",
            expected="--ensemble without --no-refit: its networks are refits with different seeds",
        )


def _check_stack(settings: SweepSettings, model: ModelSpec) -> None:
    """Raise SettingsError for what no stack can train."""
    if settings.stack is None:
        return
    for is_wrong, found in (
        (settings.stack > model.most_stacked, f"the model is {model.name}"),
        (settings.stack > model.largest_stack(settings.precision), f"the precision is {settings.precision}"),
        (settings.ray is not None, "it is to run on Ray"),
    ):
        if is_wrong:
            raise SettingsError(
                f"stack is {settings.stack}, and {found}",
                expected=f"--stack from 1 to {MAX_STACK} with --model fcnn in fp32, 1 with cnn, on this machine",
                hint="--jobs, for trials in processes of their own",
            )


def _check_own_loss(settings: SweepSettings, model: ModelSpec) -> None:
    """Raise SettingsError for what measures accuracy, which a model with a loss of its own does not have."""
    asked = {
        "--folds": settings.folds > 1,
        "--refit": bool(settings.refit),
        "--ensemble": settings.ensemble > 1,
        "--patience": settings.patience is not None,
        "--from": bool(settings.from_studies),
        "--import": bool(settings.import_trials),
    }
    wrong = [flag for flag, is_asked in asked.items() if is_asked]
    if wrong:
        raise SettingsError(
            f"{model.name} has a loss of its own, and {', '.join(wrong)} is for validation accuracy",
            expected=f"a sweep without it, for {model.objective}",
        )


def _spec(settings: SweepSettings, model: ModelSpec, tracks: Tracks, split: Split) -> StudySpec:
    """Return the settings of the study. Raises SettingsError for what they cannot be."""
    space, fixed = _space(settings, model)
    experiment = check_new_name(
        "experiment", default_experiment(tracks) if settings.experiment is None else settings.experiment
    )
    return StudySpec(
        name=_study_name(f"{experiment}-{model.label}" if settings.study is None else settings.study),
        experiment=experiment,
        model=model.name,
        data_digest=tracks.digest,
        split_name=split.name,
        split_digest=split.digest,
        columns=() if model.representation == "pictures" else used_columns(tracks, settings.without),
        epochs=settings.epochs,
        seed=settings.seed,
        space=space,
        fixed=fixed,
        sampler=settings.sampler,
        pruner=check_search(settings.sampler, settings.pruner, space, settings.trials, default=model.pruner),
        precision=settings.precision,
        source_digest=model.source_digest,
        folds=settings.folds,
        goal=str(model.objective),
    )


def training_splits(tracks: Tracks, split: Split, spec: StudySpec) -> tuple[Split, ...]:
    """Return the splits that a trial trains on: one for each fold, or the study's own.

    A refit trains on the train and the validation part together.
    """
    if spec.is_refit:
        return (split.merged(),)
    return validation_folds(tracks, split, spec.folds, spec.fold_round) if spec.folds > 1 else (split,)


def confirmed_trials(spec: StudySpec, wanted: int | None) -> int:
    """Return how many of a study's best trials are confirmed; `wanted` is the setting, None for the default."""
    if spec.folds == 1 or not spec.is_search:
        return 0
    return CONFIRMED_BY_DEFAULT if wanted is None else wanted


def part_settings(settings: SweepSettings, name: str, *, trials: int) -> SweepSettings:
    """Return the settings of a part of a study, its refit or its confirmation, which has no parts of its own."""
    own = {
        "study": name,
        "trials": trials,
        "keep": None,
        "patience": None,
        "refit": False,
        "confirm": 0,
        "ensemble": 1,
        "from_studies": (),
        "import_trials": (),
    }
    return settings.model_copy(update=own)


def refit_name(study: str, trial: int, epoch: int) -> str:
    """Return the name of the study that refits a trial for so many epochs; PART_NAME recognises it.

    A confirmation can choose the same trial with another epoch: that is another refit.
    """
    return f"{study}.refit-{trial}-{epoch}"


def confirmation_name(study: str) -> str:
    """Return the name of the study that confirms the best trials of a study; PART_NAME recognises it."""
    return f"{study}.confirm"


def _study_name(name: str) -> str:
    if PART_NAME.search(name):
        raise SettingsError(
            f"study {name!r} has the name of a part of a study",
            expected="a name that does not end in .refit-TRIAL-EPOCH, .confirm or .nested-DIGEST-NUMBER",
        )
    return check_new_name("study", name)


def _check_representation(tracks: Tracks, model: ModelSpec) -> None:
    parts = {
        "features": (tracks.features, "features_30_sec.csv, or features.csv"),
        "pictures": (tracks.pictures, "images_original/<genre>/<genre>NNNNN.png, or pictures/<class>/<id>.png"),
    }
    for name, (found, expected) in parts.items():
        if found is None and model.representation in (name, "both"):
            raise DataError(
                f"{tracks.folder} has no {name}, which {model.name} is trained on",
                expected=expected,
                hint="harness data import PATH, or sweep another model",
            )


def _space(settings: SweepSettings, model: ModelSpec) -> tuple[Space, Params]:
    """Return the search space and the fixed hyperparameters: flags over the settings file over the model's own."""
    accepted = accepted_by(model)
    set_flags = dict(parse_set_option(text, accepted) for text in settings.set_options)
    search_flags = dict(parse_search_option(text, accepted) for text in settings.search_options)
    fixed = parse_fixed(settings.set, accepted, "[set] ")
    wanted = parse_space(settings.search, accepted, "[search] ")
    # A flag beats the file: also one that sets what the file searches, and the other way round.
    fixed = {name: value for name, value in fixed.items() if name not in search_flags} | set_flags
    wanted = {name: d for name, d in wanted.items() if name not in set_flags} | search_flags
    kept = {name: d for name, d in default_space(model).items() if name not in fixed}
    return resolve({**kept, **wanted}, fixed, accepted), fixed
