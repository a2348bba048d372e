"""Plans the traits of a study: its families, its learners, and the repeats of a comparison of it alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.compare.choose import compared_studies, draw_splits, tracks_that_chose
from harness.compare.contenders import chosen_config
from harness.compare.plan import ComparedStudy, CompareSettings, ComparisonPlan
from harness.compare.traits.families import families_of
from harness.compare.traits.game import Game
from harness.compare.traits.result import NETWORK
from harness.compare.traits.work import Learner
from harness.core.candidate import Candidate
from harness.core.errors import SettingsError, StudyError
from harness.core.names import derive_seed
from harness.core.workspace import resolve_stores
from harness.data import View
from harness.data.open import load_data
from harness.training.devices import choose_device, devices_of
from harness.workers.cpus import default_jobs

# The names of `--learner`, and the baselines behind them; the first is the study's own network.
LEARNERS = {
    NETWORK: None,
    "logistic": "logistic regression",
    "forest": "random forest",
    "boosting": "gradient boosting",
}
LONG_MINUTES = 30.0  # a longer forecast needs --yes


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitsSettings:
    """The settings of `harness traits`, one field for each flag; None if the default depends on others."""

    study: str
    families: Path | None = None
    repeats: int = 10
    learners: tuple[str, ...] = (NETWORK,)
    data: str | None = None
    jobs: int | None = None
    device: str = "auto"
    tracking_uri: str | None = None
    storage: str | None = None
    trust_code: bool = False


def plan_traits(settings: TraitsSettings) -> ComparisonPlan:
    """Read the study, its data and the families, and draw the splits. Nothing is written but caches.

    Raises SettingsError, StudyError and DataError for whatever is wrong with them.
    """
    unknown = [name for name in settings.learners if name not in LEARNERS]
    if unknown or not settings.learners or len(set(settings.learners)) != len(settings.learners):
        raise SettingsError(
            f"the learners are {', '.join(settings.learners) or 'none'}",
            expected=f"different ones of {', '.join(LEARNERS)}",
        )
    stores = resolve_stores(settings.tracking_uri, settings.storage)
    tracks = None if settings.data is None else load_data(settings.data)
    names = (settings.study,)
    compared, split, tracks = compared_studies(stores, names, tracks, trust_code=settings.trust_code)
    (study,) = compared
    if study.model.representation != "features":
        raise StudyError(
            f"study {settings.study!r} is of pictures", expected="a study of features: its columns are grouped"
        )
    comparison = CompareSettings(
        studies=(settings.study,), repeats=settings.repeats, jobs=settings.jobs, device=settings.device
    )
    game = Game(families=families_of(study.spec.columns, settings.families))
    return ComparisonPlan(
        settings=comparison,
        compared=compared,
        candidates=tuple(_candidate(name, study, comparison) for name in settings.learners),
        tracks=tracks,
        split=split,
        splits=draw_splits(tracks, split, settings.repeats, chose=tracks_that_chose(compared, split, comparison)),
        warnings=(
            "all of these trainings look at the same test parts: whoever leaves a family out because of this "
            "table and then compares on these data has chosen on the test part",
        ),
        devices=devices_of(settings.device),
        stores=stores,
        game=game,
    )


def _candidate(name: str, study: ComparedStudy, settings: CompareSettings) -> Candidate:
    baseline, spec = LEARNERS[name], study.spec
    return Candidate(
        name=name,
        study=spec.name if baseline is None else None,
        model=spec.model if baseline is None else baseline,
        representation="features",
        columns=spec.columns,
        seed=spec.seed,
        config=chosen_config(study, study.best, settings) if baseline is None else None,
        source_digest=study.model.source_digest if baseline is None else None,
    )


def forecast(plan: ComparisonPlan) -> float:
    """Return how many seconds all trainings take, if none is on record: each learner is timed on one.

    The timed training is that of the first repeat's train part with all families, and its test part is not looked
    at.
    """
    assert plan.game is not None
    trainings, seconds = len(list(plan.game.trainings())), 0.0
    split = plan.splits[0].merged()
    view = View(plan.tracks, "features", (*plan.game.families.columns, *plan.game.families.apart))
    part = view.training(split).train
    inputs, targets = part.inputs.numpy()[:, : len(plan.game.families.columns)], part.targets.numpy()
    for candidate in plan.candidates:
        study = next((s for s in plan.compared if s.spec.name == candidate.study), None)
        device = str(choose_device(plan.devices[0])) if study is not None else "cpu"
        learner = Learner(
            name=candidate.model,
            seed=0,
            config=candidate.config,
            model=None if study is None else study.model,
            device=device,
        )
        times = []
        for seed in range(2):  # the first use of a library takes longer
            began = time.perf_counter()
            learner.train(
                inputs, targets, len(plan.tracks.genres), derive_seed(0, "forecast", seed), lambda: False
            )
            times.append(time.perf_counter() - began)
        jobs = plan.settings.jobs or default_jobs(1, 0, ())
        units = -(
            -plan.settings.repeats // min(jobs, plan.settings.repeats)
        )  # of one repeat each, one after another
        seconds += float(np.min(times)) * trainings * units
    return seconds
