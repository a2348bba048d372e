"""How much of the traits is left to train, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.compare.plan import ComparisonPlan
from harness.compare.repeats import repeat_path, trainings_in
from harness.compare.run import log_of
from harness.compare.scheduling import threads_and_jobs
from harness.compare.training import candidate_view
from harness.compare.traits.game import FamilyGame, Game
from harness.compare.traits.work import Inputs, Learner
from harness.core.journal import comparison_folder
from harness.core.names import derive_seed
from harness.core.threads import intra_op_threads
from harness.data import View
from harness.data.filling import median_filler
from harness.tracking import Tracker
from harness.training.devices import choose_device

ENOUGH_SECONDS = 6.0  # of training, to tell how long the rest takes


@dataclass(frozen=True, slots=True)
class Forecast:
    """How many trainings are left of those of all repeats, and how many seconds they take."""

    left: int
    all: int
    seconds: float


def forecast(plan: ComparisonPlan) -> Forecast:
    """Return what is left to train, and how long that takes: each learner with something left is timed on one.

    The timed training is that of the first repeat's train part with the whole input, on as many threads as the
    repeats have; its test part is not looked at.
    """
    assert plan.game is not None
    left = trainings_left(plan, plan.game)
    count = len(list(plan.game.trainings())) * plan.settings.repeats * len(plan.candidates)
    if not left:
        return Forecast(0, count, 0.0)
    seconds = 0.0
    inputs, targets = _first_train_part(plan)
    for candidate in plan.candidates:
        lengths = [number for (name, _), number in left.items() if name == candidate.name]
        if not lengths:
            continue
        study = next((s for s in plan.compared if s.spec.name == candidate.study), None)
        device = str(choose_device(plan.devices[0])) if study is not None else "cpu"
        learner = Learner(
            name=candidate.model,
            seed=derive_seed(0, "forecast"),
            config=candidate.config,
            model=None if study is None else study.model,
            device=device,
        )
        threads, jobs = threads_and_jobs(plan, candidate)
        with intra_op_threads(threads):
            # The first use of a library takes longer; a long training is timed in part.
            enough = [ENOUGH_SECONDS / 3, ENOUGH_SECONDS]
            times = [learner.seconds(inputs, targets, len(plan.tracks.genres), each) for each in enough]
        ends = [0] * jobs  # a repeat is trained by one worker
        for length in sorted(lengths, reverse=True):
            ends[ends.index(min(ends))] += length
        seconds += min(times) * max(ends)
    return Forecast(sum(left.values()), count, seconds)


def trainings_left(plan: ComparisonPlan, game: Game) -> dict[tuple[str, int], int]:
    """Return how many trainings are left of each learner's repeats that are not in MLflow."""
    finished = log_of(plan, Tracker(plan.stores.tracking_uri)).finished()
    folder = comparison_folder(plan.stores.work_root, plan.identity)
    keys = set(game.trainings())
    return {
        (candidate.name, number): len(keys) - trainings_in(repeat_path(folder, candidate, number), keys)
        for candidate in plan.candidates
        for number in range(plan.settings.repeats)
        if (candidate.name, number) not in finished
    }


def _first_train_part(plan: ComparisonPlan) -> tuple[Inputs, NDArray[np.int64]]:
    split, (first, *_) = plan.splits[0].merged(), plan.candidates
    if isinstance(plan.game, FamilyGame):
        part = View(plan.tracks, "features", plan.game.families.columns).training(split).train
        return median_filler().fit_transform(part.tensor.numpy()), part.targets.numpy()  # as a repeat fills them
    part = candidate_view(plan.tracks, first, first.config).training(split).train
    return part.tensor.numpy(), part.targets.numpy()
