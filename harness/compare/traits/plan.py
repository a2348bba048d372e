"""Plans the traits of a study: its families or regions, its learners, and the repeats of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.compare.choose import compared_studies, draw_splits, tracks_that_chose
from harness.compare.contenders import chosen_config
from harness.compare.plan import ComparedStudy, CompareSettings, ComparisonPlan
from harness.compare.traits.families import families_of
from harness.compare.traits.game import NOISE_COLUMNS, FamilyGame, Game
from harness.compare.traits.regions import RegionGame, regions_of_mel_pictures, regions_of_pictures
from harness.compare.traits.result import NETWORK
from harness.compare.warnings import ENOUGH_SEEDS, few_repeats, split_warnings
from harness.core.candidate import Candidate
from harness.core.errors import SettingsError, StudyError
from harness.core.workspace import resolve_stores
from harness.data import FOLDS, with_bounds, with_crop
from harness.models.external import check_network
from harness.training.devices import devices_of

# The names of `--learner`, and the baselines behind them; the first is the study's own network.
LEARNERS = {
    NETWORK: None,
    "logistic": "logistic regression",
    "forest": "random forest",
    "boosting": "gradient boosting",
}
LONG_MINUTES = 30.0  # a longer forecast needs --yes
REPEATS = 10  # by default, of features
LOOKS = (
    "all of these trainings look at the same test parts: whoever leaves a family or a region out because of this "
    "table and then compares on these data has chosen on the test part"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitsSettings:
    """The settings of `harness traits`, one field for each flag; None if the default depends on others."""

    study: str
    families: Path | None = None
    repeats: int | None = None
    learners: tuple[str, ...] = (NETWORK,)
    data: str | None = None
    jobs: int | None = None
    device: str = "auto"
    ray: str | None = None
    gpus_per_trial: float | None = None
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
            f"--learner {', '.join(unknown or settings.learners) or 'none'}",
            expected=f"different ones of {', '.join(LEARNERS)}",
        )
    stores = resolve_stores(settings.tracking_uri, settings.storage)
    names = (settings.study,)
    compared, split, tracks = compared_studies(stores, names, settings.data, trust_code=settings.trust_code)
    (study,) = compared
    game = _game(settings, study, is_music=tracks.is_music)
    if isinstance(game, FamilyGame):
        _check_widths(study, game)
    repeats = settings.repeats
    if repeats is None:
        # A CNN takes minutes where an FCNN takes a third of a second: one round, or as many seeds as are advised.
        of_pictures = FOLDS if split.drawn else ENOUGH_SEEDS
        repeats = REPEATS if isinstance(game, FamilyGame) else of_pictures
    comparison = CompareSettings(
        studies=(settings.study,),
        repeats=repeats,
        jobs=settings.jobs,
        device=settings.device,
        ray=settings.ray,
        gpus_per_trial=settings.gpus_per_trial,
        trust_code=settings.trust_code,
    )
    splits = draw_splits(tracks, split, repeats, chose=tracks_that_chose(compared, split, comparison))
    if isinstance(game, RegionGame):
        crop = study.best.params.get("crop", study.spec.fixed.get("crop", "none"))
        tracks = with_bounds(with_crop(tracks, [split, *[each.merged() for each in (split, *splits)]], [crop]))
    return ComparisonPlan(
        settings=comparison,
        compared=compared,
        candidates=tuple(_candidate(name, study, comparison) for name in settings.learners),
        tracks=tracks,
        split=split,
        splits=splits,
        warnings=(*few_repeats(split, repeats), *split_warnings(tracks, split), LOOKS),
        devices=devices_of(settings.device),
        stores=stores,
        game=game,
    )


def _game(settings: TraitsSettings, study: ComparedStudy, *, is_music: bool) -> Game:
    """Return the families of a study's columns, or the regions of its pictures.

    Raises StudyError for a network of both inputs, SettingsError for what pictures do not have.
    """
    representation = study.model.representation
    if representation == "features":
        return FamilyGame(families=families_of(study.spec.columns, settings.families))
    if representation == "both":
        raise StudyError(
            f"study {settings.study!r} is of both inputs, and its traits would be of either",
            expected="a study of features or of pictures",
            hint="harness compare, to see whether both together are better than each",
        )
    if settings.families is not None or settings.learners != (NETWORK,):
        raise SettingsError(
            f"study {settings.study!r} is of pictures: no families of columns, and no learner but its network",
            expected="harness traits --study STUDY, without --families and --learner",
        )
    return RegionGame(regions_of_mel_pictures() if is_music else regions_of_pictures(), is_music)


def _check_widths(study: ComparedStudy, game: FamilyGame) -> None:
    """Raise SettingsError if a model from a file cannot be built for a number of columns that will be trained."""
    if study.model.source is None:
        return
    families, whole = game.families, len(game.families.columns)
    sizes = [len(family.columns) for family in families.families]
    apart = [1] if families.apart else []
    for width in sorted({whole, whole + NOISE_COLUMNS, whole + sizes[0], *sizes, *apart}):
        check_network(study.model, width, study.context.dataset.genres)


def _candidate(name: str, study: ComparedStudy, settings: CompareSettings) -> Candidate:
    baseline, spec = LEARNERS[name], study.spec
    return Candidate(
        name=name,
        study=spec.name if baseline is None else None,
        model=spec.model if baseline is None else baseline,
        representation=study.model.representation,
        columns=spec.columns,
        seed=spec.seed,
        config=chosen_config(study, study.best, settings) if baseline is None else None,
        source_digest=study.model.source_digest if baseline is None else None,
    )
