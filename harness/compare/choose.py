"""What a comparison is to compare: studies chosen, checked against one another, and what is odd about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from harness.compare.leaks import leak_warnings
from harness.compare.references import REFERENCES
from harness.data import Tracks, stratified_split, used_columns
from harness.errors import SettingsError, StudyError
from harness.models import ModelSpec, model_spec
from harness.plan import check_recorded, default_experiment, devices_of, load_data, recorded_folder
from harness.records import Contender, Split, StudySpec, TrialCounts, TrialRow, derive_seed, digest_of
from harness.settings import check_name, resolve_stores, work_folder_of
from harness.study import Study, StudyOverview, list_studies, open_storage, reaching
from harness.tracking import SPLIT_FILE, Tracker, best_trial_run
from harness.trial import trial_config

EDGE = 0.025  # of the searched interval, on its own scale: a best learning rate so near its end
FAILURE_GAP = 0.1  # between the shares of failed trials of two studies
ENOUGH_SEEDS = 8  # measured: with fewer, a bootstrap over seeds finds differences where there are none
MINIMUM_REPEATS = 2  # a variance needs two


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings:
    """The settings of `harness compare`, one field for each flag; None where the default depends on others."""

    studies: tuple[str, ...] = ()
    experiment: str | None = None
    repeats: int = 10
    data: str | None = None
    references: bool = True
    jobs: int | None = None
    device: str = "auto"
    tracking_uri: str | None = None
    storage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A study that takes part: what it is, its best trial, and how its trials went."""

    spec: StudySpec
    model: ModelSpec
    best: TrialRow
    counts: TrialCounts
    rows: tuple[TrialRow, ...]
    context: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPlan:
    """What a comparison is going to do, with everything that can be checked beforehand already checked.

    `splits` has one split for each repeat. `entrants` are the studies of the first contenders, in their order.
    """

    settings: CompareSettings
    entrants: tuple[Entrant, ...]
    contenders: tuple[Contender, ...]
    tracks: Tracks
    split: Split
    splits: tuple[Split, ...]
    warnings: tuple[str, ...]
    devices: tuple[str, ...]
    tracking_uri: str
    work_root: Path

    @property
    def identity(self) -> str:
        """What tells this comparison from every other: the same studies find their repeats again by it."""
        studied = sorted((c for c in self.contenders if c.study), key=lambda contender: contender.study or "")
        contenders = [contender.identity() for contender in studied]
        return digest_of([contenders, self.split.digest, self.entrants[0].spec.data_digest])[:16]

    @property
    def experiment(self) -> str:
        """The MLflow experiment that the comparison is recorded in."""
        return self.entrants[0].spec.experiment

    @property
    def name(self) -> str:
        """What the comparison's run is called."""
        return " vs ".join(contender.name for contender in self.contenders if contender.study)

    def labels_of(self, ids: Sequence[str]) -> np.ndarray:
        """Return the genres (indices) of tracks."""
        row_of = {track: row for row, track in enumerate(self.tracks.ids)}
        return self.tracks.labels[[row_of[track] for track in ids]]


def plan_comparison(settings: CompareSettings) -> ComparisonPlan:
    """Choose the studies, check that they can be compared, draw the splits; nothing is written.

    Raises StudyError for studies that are missing, unfinished, or differ in data, tracks or split; DataError
    where the data folder holds something else now; SettingsError for settings that cannot be.
    """
    if settings.repeats < MINIMUM_REPEATS:
        raise SettingsError(f"repeats is {settings.repeats}", legal=f"a whole number from {MINIMUM_REPEATS}")
    tracking_uri, storage, work_root = resolve_stores(settings.tracking_uri, settings.storage)
    tracks = None if settings.data is None else load_data(settings.data)
    with reaching(storage):
        opened = open_storage(storage, create=False)
        wanted = settings.experiment or ("gtzan" if tracks is None else default_experiment(tracks))
        names = settings.studies or _newest(wanted, list_studies(opened))
        if len(set(names)) < max(2, len(names)):
            raise StudyError(
                f"a comparison of {', '.join(names) or 'no study'}", legal="two or more different studies"
            )
        studies = [
            Study.open(opened, check_name("study", name), work_folder_of(work_root, storage, name))
            for name in names
        ]
        entrants = tuple(_entrant(study) for study in studies)
    _check_same(entrants)
    tracker = Tracker(tracking_uri, create=False)
    split = _recorded_split(tracker, entrants)
    for entrant in entrants:
        _check_checkpoint(tracker, entrant)
    tracks = check_recorded(
        tracks or load_data(recorded_folder(entrants[0].context)), entrants[0].spec.data_digest
    )
    contenders = _contenders(entrants, tracks, settings.references)
    return ComparisonPlan(
        settings=settings,
        entrants=entrants,
        contenders=contenders,
        tracks=tracks,
        split=split,
        splits=tuple(draw_split(tracks, split, number) for number in range(settings.repeats)),
        warnings=(
            *_warnings(entrants),
            *_few_repeats(split, settings.repeats),
            *split_warnings(tracks, split),
            *_leaks(contenders, tracks, split),
        ),
        devices=devices_of(settings.device),
        tracking_uri=tracking_uri,
        work_root=work_root,
    )


def draw_split(tracks: Tracks, split: Split, number: int) -> Split:
    """Return the split of a repeat: drawn anew where the studies' split was drawn, else that split itself.

    Tracks of the studies' validation part, which chose the settings, never judge them.
    """
    if not split.is_drawn:
        return split
    return stratified_split(tracks, seed=derive_seed(0, split.digest, "repeat", number), never_test=split.valid)


def _newest(experiment: str, found: Sequence[StudyOverview]) -> tuple[str, ...]:
    """Return the newest finished study of each model in the experiment, in the order of the models' names."""
    chosen: dict[str, str] = {}
    for line in found:  # the last touched comes first
        if line.experiment == experiment and line.is_finished:
            chosen.setdefault(line.model, line.name)
    if len(chosen) < 2:
        has = ", ".join(f"{study} ({model})" for model, study in chosen.items()) or "none"
        others = sorted({line.experiment for line in found if line.is_finished and line.experiment} - {experiment})
        raise StudyError(
            f"experiment {experiment!r} has finished studies of {len(chosen)} model(s): {has}"
            + (f"; there are others in {', '.join(others)}" if others else ""),
            legal="finished studies of two models or more",
            run="harness sweep --model cnn, harness compare --experiment OTHER (or --study A --study B)",
        )
    return tuple(chosen[model] for model in sorted(chosen))


def _entrant(study: Study) -> Entrant:
    best, spec = study.best(), study.study_spec()
    if best is None:
        raise StudyError(
            f"study {study.name!r} has no complete trial",
            legal="a study with at least one",
            run=f"harness sweep --study {study.name}, with what it was made with",
        )
    model = model_spec(spec.model)
    if model.source_digest != spec.source_digest:
        raise StudyError(
            f"{spec.model.rpartition(':')[0]} is not the code that study {spec.name!r} was made with "
            f"(SHA-256 {str(model.source_digest)[:12]}, recorded {str(spec.source_digest)[:12]})",
            legal="the file as it was: it is in context.json of the study's run, under model_source",
            run="harness sweep --study NEW with the file as it is now",
        )
    return Entrant(
        spec=spec,
        model=model,
        best=best,
        counts=study.counts(),
        rows=tuple(study.rows()),
        context=study.context,
    )


def _check_checkpoint(tracker: Tracker, entrant: Entrant) -> None:
    """Refuse before any training what would be missed after it."""
    run = best_trial_run(tracker, entrant.spec.name)
    if run.tags.get("checkpoint") == "removed":
        raise StudyError(
            f"the best checkpoint of study {entrant.spec.name!r} (run {run.run_id}) was removed by --keep",
            legal="a study whose best checkpoint is there",
        )


def _check_same(entrants: Sequence[Entrant]) -> None:
    """Refuse studies whose figures cannot be held against one another."""
    first = entrants[0].spec
    for other in (entrant.spec for entrant in entrants[1:]):
        for what, mine, theirs in (
            ("data (and so in tracks)", first.data_digest, other.data_digest),
            ("split", first.split_digest, other.split_digest),
        ):
            if mine != theirs:
                shown = f"{first.split_name}, {mine[:12]}, and {other.split_name}, {theirs[:12]}"
                raise StudyError(
                    f"studies {first.name!r} and {other.name!r} differ in {what}: {shown}",
                    legal="studies of the same data, tracks and split",
                    run="harness sweep for one of them with the other's --data and --split (or --split-seed), "
                    "or --study with others",
                )


def _recorded_split(tracker: Tracker, entrants: Sequence[Entrant]) -> Split:
    name = entrants[0].spec.name
    run = tracker.study_run(name)
    if run is None:
        raise StudyError(
            f"MLflow has no run of study {name!r}",
            legal="the --tracking-uri that harness sweep was given",
            run="the same command with it",
        )
    return Split.of(tracker.read_json(run.run_id, SPLIT_FILE))


def _contenders(entrants: Sequence[Entrant], tracks: Tracks, references: bool) -> tuple[Contender, ...]:
    names = _names(entrants)
    contenders = []
    for entrant, name in zip(entrants, names, strict=True):
        spec, best = entrant.spec, entrant.best
        assert best.lr is not None
        assert best.batch_size is not None
        contenders.append(
            Contender(
                name=name,
                study=spec.name,
                model=spec.model,
                representation=entrant.model.representation,
                columns=spec.columns,
                seed=spec.seed,
                config=trial_config(spec, entrant.model, 0, best.lr, best.batch_size),
                source_digest=entrant.model.source_digest,
            )
        )
    if references and tracks.features is not None:
        used = {name for entrant in entrants for name in entrant.spec.columns} or set(tracks.columns)
        columns = tuple(name for name in used_columns(tracks, ()) if name in used)
        contenders += [
            Contender(
                name=name if name not in names else f"{name} (reference)",
                study=None,
                model=name,
                representation="features",
                columns=columns,
                seed=0,
                config=None,
            )
            for name in REFERENCES
        ]
    return tuple(contenders)


def _names(entrants: Sequence[Entrant]) -> list[str]:
    """Return what the studies are called: their models, or themselves where that would not tell them apart."""
    labels, studies = [entrant.model.label for entrant in entrants], [entrant.spec.name for entrant in entrants]
    names = [label if labels.count(label) == 1 else study for label, study in zip(labels, studies, strict=True)]
    return names if len(set(names)) == len(names) else studies


def _warnings(entrants: Sequence[Entrant]) -> list[str]:
    """Say what makes the studies unlike one another, or unlike what a search should be."""
    found = []
    for a, b in combinations(entrants, 2):
        one, two = a.spec.name, b.spec.name
        if a.counts.finished != b.counts.finished:
            found.append(f"budgets differ: {one} has {a.counts.finished} trials, {two} {b.counts.finished}")
        if a.spec.epochs != b.spec.epochs:
            found.append(f"epochs differ: {one} trains {a.spec.epochs}, {two} {b.spec.epochs}")
        if a.spec.precision != b.spec.precision:
            found.append(f"precision differs: {one} {a.spec.precision}, {two} {b.spec.precision}")
        shares = [e.counts.failed / max(1, e.counts.finished + e.counts.failed) for e in (a, b)]
        if abs(shares[0] - shares[1]) > FAILURE_GAP:
            found.append(
                f"failure rates differ: {100 * shares[0]:.0f} % of the trials of {one} failed, "
                f"{100 * shares[1]:.0f} % of {two}"
            )
    for entrant in entrants:
        lr, wanted = entrant.spec.search.lr, entrant.best.lr or 0.0
        low, high, value = (math.log(x) if lr.log else x for x in (lr.low, lr.high, wanted))
        if high > low and not low + EDGE * (high - low) < value < high - EDGE * (high - low):
            found.append(
                f"the best learning rate of {entrant.spec.name}, {wanted:.2g}, lies at the edge of its range "
                f"({lr.low:g} to {lr.high:g}): a better one may lie beyond"
            )
    return found


def _few_repeats(split: Split, repeats: int) -> list[str]:
    if split.is_drawn or repeats >= ENOUGH_SEEDS:
        return []
    return [
        f"{repeats} repeats on one split: so few seeds give too narrow an interval; "
        f"{ENOUGH_SEEDS} or more are advised"
    ]


def split_warnings(tracks: Tracks, split: Split) -> list[str]:
    """Name identical tracks that a split given by lists has on two sides."""
    side_of = {t: part for part in ("train", "valid", "test") for t in getattr(split, part)}
    torn = [g for g in tracks.duplicates if len({side_of[t] for t in g if t in side_of}) > 1]
    if not torn:
        return []
    shown = "; ".join(", ".join(group) for group in torn[:3]) + ("; ..." if len(torn) > 3 else "")
    return [f"{len(torn)} group(s) of identical tracks lie on two sides of the split: {shown}"]


def _leaks(contenders: Sequence[Contender], tracks: Tracks, split: Split) -> list[str]:
    used = {name for contender in contenders if contender.study for name in contender.columns}
    return leak_warnings(tracks, split, tuple(name for name in tracks.columns if name in used))
