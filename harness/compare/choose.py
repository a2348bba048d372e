"""Plans a comparison: chooses the studies, checks that they can be compared, collects the warnings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path

from harness.compare.contenders import candidates_of
from harness.compare.plan import PROTOCOLS, ComparedStudy, CompareSettings, ComparisonPlan
from harness.compare.warnings import few_repeats, leak_warnings_of, split_warnings, study_warnings
from harness.core.errors import DataError, SettingsError, StudyError
from harness.core.names import derive_seed
from harness.core.records import MAX_MEMBERS, Split
from harness.core.space import possible_crops
from harness.core.workspace import Stores, check_name, resolve_stores
from harness.data import FOLDS, Tracks, fold_splits, with_crop
from harness.data.open import default_experiment, folder_of, load_data, load_recorded_data
from harness.models.registry import recorded_model
from harness.study import Study, StudyOverview, list_studies, reading_storage
from harness.sweep.plan import confirmed_trials
from harness.tracking import Tracker
from harness.training.devices import devices_of

MINIMUM_REPEATS = 2  # a variance needs two


def plan_comparison(settings: CompareSettings) -> ComparisonPlan:
    """Choose the studies, check that they can be compared, and draw the splits. Nothing is written but caches.

    Raises StudyError if studies are missing, are unfinished, or differ in data, tracks or split; DataError if the
    data in the folder have changed; SettingsError for an invalid setting, and if the file of a model has changed;
    UntrustedCode if the user has not agreed to run it.
    """
    _check_settings(settings)
    stores = resolve_stores(settings.tracking_uri, settings.storage)
    names = _names(settings, stores)
    compared, split, tracks = compared_studies(stores, names, settings.data, trust_code=settings.trust_code)
    if not settings.nested:  # which trains what its own searches choose: the studies' networks are not measured
        _check_checkpoints(Tracker(stores.tracking_uri, create=False), compared)
    candidates = candidates_of(compared, tracks, settings)
    splits = draw_splits(tracks, split, settings.repeats, chose=tracks_that_chose(compared, split, settings))
    crops = (
        [crop for study in compared for crop in possible_crops(study.spec.space, study.spec.fixed)]
        if settings.nested
        else [c.config.params.get("crop", "none") for c in candidates if c.config is not None]
    )
    return ComparisonPlan(
        settings=settings,
        compared=compared,
        candidates=candidates,
        tracks=with_crop(tracks, [*_with_merged([split, *splits])], crops),
        split=split,
        splits=splits,
        warnings=(
            *study_warnings(compared, nested=settings.nested),
            *few_repeats(split, settings.repeats),
            *split_warnings(tracks, split),
            *leak_warnings_of(candidates, tracks, split),
        ),
        devices=devices_of(settings.device),
        stores=stores,
    )


def draw_splits(tracks: Tracks, split: Split, repeats: int, *, chose: Collection[str]) -> tuple[Split, ...]:
    """Return the split of each repeat: rounds of FOLDS new ones if the studies' split was drawn, else that split.

    In a round each track judges once, but those of `chose` never: by their accuracy the settings were chosen. They
    are the studies' validation part, or with folds the train and the validation part. A round follows from the
    studies' split and its number.

    Raises SettingsError if the repeats are too few, or no whole rounds; DataError if a genre has too few tracks.
    """
    if not split.drawn:
        if repeats < MINIMUM_REPEATS:
            raise SettingsError(f"repeats is {repeats}", expected=f"a whole number from {MINIMUM_REPEATS}")
        return (split,) * repeats
    if repeats < FOLDS or repeats % FOLDS:
        near = FOLDS * max(1, repeats // FOLDS)
        raise SettingsError(
            f"repeats is {repeats}; on drawn splits a round has {FOLDS}, so that each track is tested on once",
            expected=f"a multiple of {FOLDS}",
            hint=f"--repeats {near} or --repeats {near + FOLDS}",
        )
    rounds = [
        fold_splits(tracks, seed=derive_seed(0, split.digest, "round", number), never_test=chose)
        for number in range(repeats // FOLDS)
    ]
    return tuple(fold for folds in rounds for fold in folds)


def compared_studies(
    stores: Stores, names: Sequence[str], data: str | None, *, trust_code: bool
) -> tuple[tuple[ComparedStudy, ...], Split, Tracks]:
    """Return the studies of these names, their split and their data; `data` is a folder, None for that on record.

    Raises StudyError, DataError, SettingsError and UntrustedCode as `plan_comparison` does.
    """
    with reading_storage(stores.storage) as opened:
        studies = [Study.open(opened, check_name("study", name), stores.work_folder(name)) for name in names]
        compared = tuple(_compared_study(study, trust_code) for study in studies)
    _check_same(compared)
    first = compared[0]
    tracker = Tracker(stores.tracking_uri, create=False)
    split = tracker.studies.split(tracker.studies.require_run(first.spec.name, first.context.identity).run_id)
    return (
        compared,
        split,
        load_recorded_data(first.context, first.spec.data_digest, data),
    )


def tracks_that_chose(
    compared: Sequence[ComparedStudy], split: Split, settings: CompareSettings
) -> tuple[str, ...]:
    """Return the tracks by whose accuracy the settings were chosen; a nested search chooses by none of them."""
    if settings.nested:
        return ()
    return split.merged().train if any(study.spec.folds > 1 for study in compared) else split.valid


def _check_settings(settings: CompareSettings) -> None:
    if settings.protocol not in PROTOCOLS:
        raise SettingsError(f"protocol is {settings.protocol!r}", expected=" or ".join(PROTOCOLS))
    if not 1 <= settings.ensemble <= MAX_MEMBERS:
        raise SettingsError(f"ensemble is {settings.ensemble}", expected=f"a number from 1 to {MAX_MEMBERS}")


def _with_merged(splits: Sequence[Split]) -> Iterator[Split]:
    """Yield each split as it is and with its validation part in the train part: a crop is fitted on either."""
    for split in splits:
        yield from (split, split.merged())


def _names(settings: CompareSettings, stores: Stores) -> tuple[str, ...]:
    """Return the names of the studies to compare: those of the settings, or the newest of each model."""
    names = settings.studies
    if not names:
        with reading_storage(stores.storage) as opened:
            found = list_studies(opened)
        names = _newest(settings.experiment or _experiment(found, settings.data), found)
    if len(set(names)) < max(2, len(names)):
        raise StudyError(
            f"the studies to compare are {', '.join(names) or 'none'}",
            expected="two or more different studies",
        )
    return names


def _experiment(found: Sequence[StudyOverview], data: str | None) -> str:
    """Return the experiment to compare in: that of the data, the only one that has studies, or else `gtzan`."""
    searches = [line for line in found if line.experiment is not None and not line.part_of]
    if data is not None:
        searches = _of_data(searches, data)
    known = {str(line.experiment) for line in searches}
    if len(known) == 1:
        return known.pop()
    return "gtzan" if data is None else default_experiment(load_data(data))


def _of_data(searches: Sequence[StudyOverview], data: str) -> list[StudyOverview]:
    """Return the studies that were made on this folder; or, if there are none, on one with the same data."""
    folder = folder_of(data).resolve()
    made = [(line, line.dataset) for line in searches if line.dataset is not None]
    here = [line for line, dataset in made if Path(dataset.folder).resolve() == folder]
    if here:
        return here

    @cache
    def digest_with(options: frozenset[tuple[str, str]]) -> str | None:
        try:
            return load_data(data, dict(options)).digest
        except DataError:  # with these options, or at all: whoever reads it next says so
            return None

    return [line for line, dataset in made if digest_with(frozenset(dataset.options.items())) == dataset.digest]


def _newest(experiment: str, found: Sequence[StudyOverview]) -> tuple[str, ...]:
    """Return the newest finished study of each model in the experiment, in the order of the models' names."""
    chosen: dict[str, str] = {}
    for line in found:  # the study with the latest change comes first
        if (
            line.experiment == experiment
            and line.is_finished
            and line.model
            and line.objective.is_accuracy
            and not line.part_of
        ):
            chosen.setdefault(line.model, line.name)
    if len(chosen) < 2:
        has = ", ".join(f"{study} ({model})" for model, study in chosen.items()) or "none"
        others = sorted({line.experiment for line in found if line.is_finished and line.experiment} - {experiment})
        raise StudyError(
            f"experiment {experiment!r} has finished studies of {len(chosen)} model(s): {has}"
            + (f"; there are others in {', '.join(others)}" if others else ""),
            expected="finished studies of two models or more",
            hint="harness sweep --model cnn, harness compare --experiment OTHER (or --study A --study B)",
        )
    return tuple(chosen[model] for model in sorted(chosen))


def _compared_study(study: Study, trust_code: bool) -> ComparedStudy:
    best, spec = study.best(), study.spec
    if not spec.objective.is_accuracy:
        raise StudyError(
            f"study {study.name!r} looked for {spec.goal}: its model has a loss of its own",
            expected="studies of classifiers, which are compared by their accuracy",
            hint="sweep a classifier on what the network gives, as docs/own_loss.md shows",
        )
    if best is None:
        raise StudyError(
            f"study {study.name!r} has no complete trial",
            expected="a study with at least one",
            hint=f"harness sweep --study {study.name}, with the settings of the study",
        )
    model = recorded_model(spec.model, spec.source_digest, f"study {spec.name!r}", trust_code=trust_code)
    targets = study.targets
    return ComparedStudy(
        spec=spec,
        model=model,
        best=best,
        counts=study.counts(),
        rows=tuple(study.rows()),
        context=study.context,
        confirms=confirmed_trials(spec, None if targets is None else targets.confirm),
        known=study.known,
    )


def _check_checkpoints(tracker: Tracker, compared: Sequence[ComparedStudy]) -> None:
    """Raise CheckpointError, before any training, if the network of a study is not stored."""
    for study in compared:
        tracker.studies.require_checkpoint(tracker.parts.network_run(study.spec.name, study.context.identity))


def _check_same(compared: Sequence[ComparedStudy]) -> None:
    """Raise StudyError if the studies differ in data or split: their results cannot be compared."""
    first = compared[0].spec
    for other in (study.spec for study in compared[1:]):
        for what, mine, theirs in (
            ("data (and so in tracks)", first.data_digest, other.data_digest),
            ("split", first.split_digest, other.split_digest),
        ):
            if mine != theirs:
                shown = f"{first.split_name}, {mine[:12]}, and {other.split_name}, {theirs[:12]}"
                raise StudyError(
                    f"studies {first.name!r} and {other.name!r} differ in {what}: {shown}",
                    expected="studies of the same data, tracks and split",
                    hint="harness sweep for one of them with the other's --data and --split (or --split-seed), "
                    "or --study with others",
                )
