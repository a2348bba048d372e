"""Runs the planned traits of a study: trains the repeats, judges them, records the result."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.compare.plan import ComparisonPlan, describe_plan
from harness.compare.result import drawn_as
from harness.compare.run import carry_out, scheme_of
from harness.compare.scheduling import Listener, Watch
from harness.compare.traits.families import metric_name
from harness.compare.traits.game import Game
from harness.compare.traits.judging import RepeatAnswers, learner_result
from harness.compare.traits.occlusion import OcclusionMap, occlusion_maps
from harness.compare.traits.page import write_traits
from harness.compare.traits.plan import LEARNERS
from harness.compare.traits.regions import RegionGame
from harness.compare.traits.result import LearnerResult, Traits
from harness.compare.verdict import ResamplingScheme
from harness.compare.warnings import look_warnings
from harness.core.errors import HarnessError
from harness.tracking import ComparisonLog, Tracker, read_ledger


def run_traits(
    plan: ComparisonPlan, listener: Listener = lambda *_: None, watch: Watch = lambda *_: None
) -> Traits:
    """Train what is not in MLflow yet, and return what all of it says.

    `watch` is told from time to time how many trainings are done.
    Raises what `run_comparison` raises: after an interruption the same command continues.
    """
    assert plan.game is not None
    game = plan.game
    return carry_out(plan, lambda tracker, log: _conclude(plan, game, tracker, log), listener, watch)


def _conclude(plan: ComparisonPlan, game: Game, tracker: Tracker, log: ComparisonLog) -> Traits:
    spec = plan.compared[0].spec
    scheme = scheme_of(plan)
    finished = log.finished()
    # Learners of earlier commands are on record in the same run: its table and its pictures have them all.
    numbers = range(len(plan.splits))
    names = [name for name in LEARNERS if all((name, number) in finished for number in numbers)]
    learners = tuple(
        _learner(plan, game, name, log, [finished[name, number].run_id for number in numbers], scheme)
        for name in names
    )
    reasons = [
        f"repeat {number} of {name}: {run.reason}"
        for (name, number), run in sorted(finished.items())
        if run.reason and name in names and number in numbers
    ]
    maps, missing = _maps(plan, game, tracker)
    looks = look_warnings(log.looks_with(plan.settings.repeats))
    found = Traits(
        study=spec.name,
        run_id=log.parent,
        experiment=plan.experiment,
        data=plan.tracks.folder.name,
        synthetic=plan.tracks.synthetic,
        genres=plan.tracks.genres,
        split=plan.split.name,
        repeats=plan.settings.repeats,
        drawn_as=drawn_as(len(plan.splits), redrawn=scheme.redrawn),
        trainings=len(list(game.trainings())),
        game=game,
        learners=learners,
        warnings=(*plan.warnings, *looks, *reasons, *missing),
        maps=maps,
        words=plan.tracks.words,
        ledger=read_ledger(tracker, spec.data_digest, spec.split_digest).as_text(),
    )
    with tempfile.TemporaryDirectory() as name:
        write_traits(found, Path(name))
        log.conclude(
            Path(name),
            _figures(found),
            note=f"{describe_plan(plan)}\n\n" + "".join(f"- {line}\n" for line in found.sentences),
            verdict="; ".join(found.sentences),
            warnings="\n".join((*found.warnings, *found.failed_controls)),
            repeats=plan.settings.repeats,
        )
    return found


def _maps(plan: ComparisonPlan, game: Game, tracker: Tracker) -> tuple[tuple[OcclusionMap, ...], list[str]]:
    """Return the occlusion maps for pictures; or why there are none, which is no reason to give up the rest."""
    if not isinstance(game, RegionGame):
        return (), []
    try:
        return occlusion_maps(plan, tracker), []
    except HarnessError as error:
        return (), [f"no occlusion maps: {error.found}"]


def _learner(
    plan: ComparisonPlan,
    game: Game,
    name: str,
    log: ComparisonLog,
    runs: Sequence[str],
    scheme: ResamplingScheme,
) -> LearnerResult:
    answers = []
    for run_id, split in zip(runs, plan.splits, strict=True):
        guesses = {key: np.array(values, dtype=np.int64) for key, values in log.subsets(run_id).items()}
        answers.append(RepeatAnswers(guesses=guesses, truth=plan.labels_of(split.test)))
    return learner_result(name, game, answers, scheme, len(plan.tracks.genres))


def _figures(found: Traits) -> dict[str, float]:
    first = found.learners[0]
    metrics = {"accuracy_all": first.whole.value, "accuracy_nothing": first.none}
    for row in first.rows:
        name = metric_name(row.name)
        metrics[f"lost_without_{name}"] = row.lost.value
        if row.share is not None:
            metrics[f"share_{name}"] = row.share.value
        if row.alone is not None:
            metrics[f"alone_{name}"] = row.alone.value
    return metrics
