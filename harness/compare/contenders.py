"""The candidates of a comparison: the studies' chosen settings, alone and as ensembles, and what they face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.compare.baselines import BASELINES, USES_NO_COLUMN
from harness.compare.plan import ComparedStudy, CompareSettings
from harness.core.candidate import Candidate
from harness.core.names import digest_of
from harness.core.records import DEFAULT_EPOCHS, TrialConfig
from harness.core.space import Params
from harness.core.trial_rows import TrialRow
from harness.data import Tracks, used_columns
from harness.sweep.plan import confirmed_trials
from harness.training.hyperparameters import DEFAULT_SEARCH, HYPERPARAMETERS
from harness.workers.cpus import usable_cores


def candidates_of(
    compared: Sequence[ComparedStudy], tracks: Tracks, settings: CompareSettings
) -> tuple[Candidate, ...]:
    """Return the candidates: the single network of each study first, in the order of the studies."""
    singles = [_single(*named, settings) for named in zip(compared, _names(compared), strict=True)]
    found = list(singles)
    if settings.ensemble > 1:
        found += [
            replace(single, name=f"{single.name} x{settings.ensemble}", members=settings.ensemble)
            for single in singles
        ]
    if settings.untuned:
        found += _untuned(compared, singles, settings)
    if settings.baselines and tracks.features is not None:
        used = {name for study in compared for name in study.spec.columns} or set(tracks.columns)
        columns = tuple(name for name in used_columns(tracks, ()) if name in used)
        found += _baselines(columns, tracks.not_music, [candidate.name for candidate in found])
    return tuple(found)


def untuned_of(candidates: Sequence[Candidate], single: Candidate) -> Candidate | None:
    """Return the default setting of the single network's model among the candidates, None if it is not there."""
    return next((c for c in candidates if c.untuned and _default_key(c) == _default_key(single)), None)


def _single(study: ComparedStudy, name: str, settings: CompareSettings) -> Candidate:
    spec = study.spec
    if settings.nested:
        config = spec.trial_config(0, {}, _threads(study, settings))
    else:
        config = chosen_config(study, study.best, settings)
    return Candidate(
        name=name,
        study=spec.name,
        model=spec.model,
        representation=study.model.representation,
        columns=spec.columns,
        seed=spec.seed,
        config=config,
        source_digest=study.model.source_digest,
        search=_search_digest(study) if settings.nested else None,
    )


def chosen_config(study: ComparedStudy, best: TrialRow, settings: CompareSettings) -> TrialConfig:
    """Return the configuration of a search's best trial as the repeats train it, but for the seed."""
    config = study.spec.trial_config(0, best.params, _threads(study, settings))
    return replace(config, last_epoch=best.best_epoch) if settings.protocol == "refit" else config


def _threads(study: ComparedStudy, settings: CompareSettings) -> int:
    cores = usable_cores()
    return study.model.threads_of(settings.jobs or cores, cores)


def _search_digest(study: ComparedStudy) -> str:
    """Return a digest of what determines a nested search besides its split and its number.

    The number of trials that are confirmed is in it where it is not the default.
    """
    confirms = [] if study.confirms == confirmed_trials(study.spec, None) else [study.confirms]
    return digest_of([study.spec.frozen_settings(), study.counts.finished, *confirms])


def _untuned(
    compared: Sequence[ComparedStudy], singles: Sequence[Candidate], settings: CompareSettings
) -> list[Candidate]:
    """Return the default setting of each model once; for the models of the package it is the report's own.

    It trains for the report's epochs, or for those of the study if these are fewer.
    """
    defaults: Params = {name: HYPERPARAMETERS[name].default for name in DEFAULT_SEARCH}
    found: dict[object, tuple[ComparedStudy, Candidate]] = {}
    # In the order of the studies' names: a comparison finds its repeats again whatever order they are given in.
    for study, single in sorted(zip(compared, singles, strict=True), key=lambda pair: pair[0].spec.name):
        assert single.config is not None
        epochs = min(DEFAULT_EPOCHS, study.spec.epochs)
        last = epochs if settings.protocol == "refit" else None
        config: TrialConfig = replace(single.config, params=defaults, epochs=epochs, last_epoch=last)
        own = replace(single, config=config, untuned=True, search=None)
        found.setdefault(_default_key(own), (study, own))
    labels = [study.model.label for study, _ in found.values()]
    return [
        replace(own, name=f"{study.model.label if labels.count(study.model.label) == 1 else own.study} untuned")
        for study, own in found.values()
    ]


def _default_key(candidate: Candidate) -> object:
    """Return what distinguishes the default setting of one study from that of another."""
    config = candidate.config
    assert config is not None
    epochs = min(DEFAULT_EPOCHS, config.epochs)
    return candidate.model, candidate.source_digest, candidate.columns, candidate.seed, config.precision, epochs


def _baselines(columns: tuple[str, ...], not_music: Sequence[str], taken: Sequence[str]) -> list[Candidate]:
    """Return the baselines on these columns, and again without those of `not_music`."""
    music = tuple(name for name in columns if name not in not_music)
    dropped = " and ".join(name for name in columns if name in not_music)
    wanted = []
    for name in BASELINES:
        wanted.append((name, name, columns))
        if dropped and music and name not in USES_NO_COLUMN:
            wanted.append((f"{name} no {dropped}", name, music))
    return [
        Candidate(
            name=shown if shown not in taken else f"{shown} (baseline)",
            study=None,
            model=name,
            representation="features",
            columns=chosen,
            seed=0,
            config=None,
        )
        for shown, name, chosen in wanted
    ]


def _names(compared: Sequence[ComparedStudy]) -> list[str]:
    """Return a name for each study: the label of its model, or the study's name if several have that model."""
    labels, studies = [study.model.label for study in compared], [study.spec.name for study in compared]
    names = [label if labels.count(label) == 1 else study for label, study in zip(labels, studies, strict=True)]
    return names if len(set(names)) == len(names) else studies
