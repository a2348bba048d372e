"""Samplers and pruners by name: how each is made and what it needs.

A new one is one entry of `SAMPLERS` or `PRUNERS`. Each function that makes one imports Optuna itself:
whoever only asks for names and needs does without.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import SettingsError
from harness.core.halving import HALVING
from harness.core.known import KnownTrials
from harness.core.names import derive_seed
from harness.core.records import GRID, StudySpec
from harness.core.space import Choice, Space, grid_of, is_conditional, len_of_grid

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

STARTUP_TRIALS = 5  # complete trials before the median pruner judges
WARMUP = 1 / 3  # share of the epochs before which the median pruner would prune slow learners


@dataclass(frozen=True, slots=True)
class Seeds:
    """The seeds of a sampler, one for the whole study and one for a single trial, and the number of that trial.

    A sampler that draws one sequence for the whole study (Sobol points) uses the first.
    """

    study: int
    trial: int
    number: int


def _no_need(space: Space) -> str | None:
    return None


def _lists_only(space: Space) -> str | None:
    ranges = [name for name, distribution in space.items() if not isinstance(distribution, Choice)]
    if ranges:
        return f"lists of values, as --search {ranges[0]}=A,B,C: {', '.join(ranges)} has a range"
    return "no conditions" if is_conditional(space) else None


def _tpe(seeds: Seeds, space: Space) -> BaseSampler:
    from optuna.samplers import TPESampler

    # `group` models parameters together that occur in the same trials; only conditions need it.
    return TPESampler(seed=seeds.trial, multivariate=True, constant_liar=True, group=is_conditional(space))


def _gp(seeds: Seeds, space: Space) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(seed=seeds.trial)


def _random(seeds: Seeds, space: Space) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seeds.trial)


def _cmaes(seeds: Seeds, space: Space) -> BaseSampler:
    from harness.study.own_samplers import CmaEs

    return CmaEs(seed=seeds.study, independent_sampler=_random(seeds, space), warn_independent_sampling=False)


def _grid(seeds: Seeds, space: Space) -> BaseSampler:
    from harness.study.own_samplers import Grid

    return Grid(grid_of(space), seed=seeds.study)


@dataclass(frozen=True, slots=True)
class Sampler:
    """How a sampler is made from seeds and a space, and what it needs.

    `package` is an optional package that it imports. `learns_from_pruned` is False if it ignores pruned trials.
    `unmet` returns the requirement that a space does not meet, None if it meets all. `learns_from_known` is True
    if it learns from trials of other studies.
    """

    make: Callable[[Seeds, Space], BaseSampler]
    package: str | None = None
    learns_from_pruned: bool = True
    unmet: Callable[[Space], str | None] = _no_need
    learns_from_known: bool = False


def _qmc(seeds: Seeds, space: Space) -> BaseSampler:
    from harness.study.own_samplers import Sobol

    return Sobol(
        seeds.number,
        seed=seeds.study,
        scramble=True,
        independent_sampler=_random(seeds, space),
        warn_independent_sampling=False,
    )


SAMPLERS: dict[str, Sampler] = {
    "tpe": Sampler(_tpe, learns_from_known=True),
    "gp": Sampler(_gp, learns_from_pruned=False, learns_from_known=True),
    "random": Sampler(_random),
    "cmaes": Sampler(_cmaes, package="cmaes", learns_from_pruned=False),
    "qmc": Sampler(_qmc),
    GRID: Sampler(_grid, unmet=_lists_only),
}


def _median(epochs: int) -> BasePruner:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=int(WARMUP * epochs))


def _hyperband(epochs: int) -> BasePruner:
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)


def _wilcoxon(epochs: int) -> BasePruner:
    from optuna.pruners import WilcoxonPruner

    return WilcoxonPruner()


def _none(epochs: int) -> BasePruner:
    from optuna.pruners import NopPruner

    return NopPruner()


@dataclass(frozen=True, slots=True)
class Pruner:
    """How a pruner is made for a number of epochs, and the first epoch at which it is called.

    A call reads all trials of the study. If `first_epoch` returns None, the pruner is never called and no epoch is
    reported.
    """

    make: Callable[[int], BasePruner]
    first_epoch: Callable[[int], int | None]


PRUNERS: dict[str, Pruner] = {
    "median": Pruner(_median, lambda epochs: int(WARMUP * epochs)),
    "hyperband": Pruner(_hyperband, lambda epochs: 1),
    "wilcoxon": Pruner(_wilcoxon, lambda epochs: 1),
    HALVING: Pruner(_none, lambda epochs: None),  # the study itself says which trial goes on, see core/halving.py
    "none": Pruner(_none, lambda epochs: None),
}


def make_sampler(spec: StudySpec, number: int, known: KnownTrials | None) -> BaseSampler:
    """Return the sampler of one trial, which learns from `known` trials too.

    Its seed depends on the study's and the number only, so that an interruption changes nothing.
    """
    from harness.study.telling import ShowingSampler

    seeds = Seeds(
        study=derive_seed(spec.seed, "sampler"), trial=derive_seed(spec.seed, "sampler", number), number=number
    )
    with _quiet():
        sampler = SAMPLERS[spec.sampler].make(seeds, spec.space)
    pauses = spec.pruner == HALVING
    return ShowingSampler(sampler, known, spec.space, pauses=pauses) if known is not None or pauses else sampler


def first_epoch(pruner: str, epochs: int, folds: int) -> int | None:
    """Return the first epoch at which a pruner is called, None if it is not called for epochs.

    The Wilcoxon pruner compares equal tests of two trials: with several folds it is called for folds only.
    """
    if pruner == "wilcoxon" and folds > 1:
        return None
    return PRUNERS[pruner].first_epoch(epochs)


def make_pruner(name: str, epochs: int) -> BasePruner:
    """Return the pruner of that name for trials of `epochs` epochs."""
    with _quiet():
        return PRUNERS[name].make(epochs)


@contextmanager
def _quiet() -> Iterator[None]:
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def check_search(sampler: str, pruner: str | None, space: Space, n_trials: int, *, default: str) -> str:
    """Return the pruner to use: `pruner`, for None `default`, or none where the sampler ignores pruned trials.

    Raises SettingsError if a name is unknown, if a package is missing, and if sampler, pruner, space and number of
    trials do not fit together.
    """
    for kind, name, table in (("sampler", sampler, SAMPLERS), ("pruner", pruner, PRUNERS)):
        if name is not None and name not in table:
            raise SettingsError(f"{kind} is {name!r}", expected=", ".join(table))
    chosen = SAMPLERS[sampler]
    if chosen.package is not None and importlib.util.find_spec(chosen.package) is None:
        raise SettingsError(
            f"the sampler {sampler} needs the package {chosen.package}",
            expected=f"the package {chosen.package}",
            hint=f"pip install -e '.[{chosen.package}]'",
        )
    lacks = chosen.unmet(space)
    if lacks is not None:
        raise SettingsError(f"the sampler {sampler} does not fit this search space", expected=lacks)
    if sampler == GRID and n_trials > len_of_grid(space):
        raise SettingsError(
            f"the grid has {len_of_grid(space)} points, and {n_trials} trials were requested",
            hint=f"--trials {len_of_grid(space)}",
        )
    if pruner is None:
        return default if chosen.learns_from_pruned else "none"
    if pruner != "none" and not chosen.learns_from_pruned:
        raise SettingsError(
            f"the {sampler} sampler cannot learn from pruned trials",
            expected=f"--pruner none with --sampler {sampler}",
        )
    return pruner
