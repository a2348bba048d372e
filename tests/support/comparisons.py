"""Comparisons in the tests: their plans and the runs that they record."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.entities import Run

from harness.compare import CompareSettings, ComparisonPlan, plan_comparison
from harness.compare.repeats import do_repeats, read_repeat, repeat_path
from harness.compare.result import Comparison, Outcome
from harness.compare.training import RepeatTask
from harness.compare.verdict import ResamplingScheme
from harness.core.candidate import Candidate
from harness.core.events import Event, RepeatEnded
from harness.core.records import Split, TrialConfig
from harness.core.trial_rows import TrialRow
from harness.data import FEATURE_COLUMNS, Tracks, View
from harness.models.registry import MODELS
from harness.tracking import Ledger
from harness.training.loop import evaluate, fit, start_training
from tests.support.stores import Stores

TRAINED = ["logistic regression", "RBF SVM", "random forest", "gradient boosting"]
BASELINES = ["majority", *[name for each in TRAINED for name in (each, f"{each} no length")]]
GENRES = ("$a^$", "=1+1|cmd")
TRACKS = tuple(f"{genre}.{number:05d}" for genre in GENRES for number in range(6))
SPLIT = Split(
    name="s", drawn=True, train=TRACKS[2:4] + TRACKS[8:], valid=TRACKS[4:6], test=TRACKS[:2] + TRACKS[6:8]
)


def repeats(run_id: str) -> list[Run]:
    """The runs of a comparison's repeats, candidate by candidate, in their order."""
    client = Stores.here().client()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids, f"tags.kind = 'repeat' and tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(found, key=lambda run: (run.data.tags["candidate"], int(run.data.tags["repeat"])))


def plan(**changes: Any) -> ComparisonPlan:
    """The plan of a comparison of the two studies that these tests share, or of what `changes` say."""
    return plan_comparison(CompareSettings(**{"studies": ("one", "two"), **changes}))


def task_of(found: ComparisonPlan, candidate: Candidate, tracks: Tracks, folder: Path) -> RepeatTask:
    return RepeatTask(
        candidates=(candidate,),
        splits=found.splits,
        todo=((0, 0),),
        tracks=tracks,
        folder=folder,
        device="cpu",
        threads=1,
        merges=found.merges,
    )


def run_repeat(
    found: ComparisonPlan, candidate: Candidate, tracks: Tracks, folder: Path
) -> tuple[list[Event], RepeatEnded]:
    """Run the first repeat of a candidate in this process; return its journal's events and its end."""
    do_repeats(task_of(found, candidate, tracks, folder), threading.Event())
    repeat = read_repeat(repeat_path(folder, candidate, 0))
    assert repeat is not None
    return repeat


def by_hand(tracks: Tracks, split: Split, config: TrialConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Train a network of the loop alone; return its probabilities for the test tracks, and their genres."""
    torch.set_num_threads(1)
    view = View(tracks, "features", FEATURE_COLUMNS)
    data = view.training(split)
    state = start_training(config, MODELS["fcnn"], data, torch.device("cpu"))
    for _ in fit(state, data):
        pass
    assert state.best_weights is not None
    state.classifier.load_state_dict(state.best_weights)
    part = view.open_test(split)
    return torch.softmax(evaluate(state.classifier, part), 1), part.targets


def scheme_of(repeats: int, tracks: int, *, redrawn: bool) -> ResamplingScheme:
    """A scheme with so many tracks in each test part: folds of a fifth, in rounds, or one test part for all."""
    folds = [np.arange(tracks) + tracks * (number % 5 if redrawn else 0) for number in range(repeats)]
    return ResamplingScheme(
        redrawn=redrawn,
        train=3.2 * tracks,
        valid=0.8 * tracks,
        test=tracks,
        pool=5 * tracks,
        clusters=tuple(folds),
        own_clusters=np.arange(tracks),
    )


def outcome(wrong: int) -> Outcome:
    truth = np.array([0, 0, 1, 1])
    guesses = np.where(np.arange(4) < wrong, 1 - truth, truth)
    curves = {"val_accuracy": [0.5, 0.75], "train_loss": [1.0, 0.5]}
    return Outcome(state="complete", seconds=float("nan"), valid=np.array([0, 0]), test=guesses, curves=curves)


def made_up(*names: str) -> Comparison:
    """A comparison of up to three candidates in three repeats, on two genres with odd names, the best first."""
    config = TrialConfig(model="fcnn", params={"lr": 0.1}, epochs=2, seed=0, threads=1)
    one = Candidate(
        name="", study=None, model="fcnn", representation="features", columns=(), seed=0, config=config
    )
    candidates = tuple(replace(one, name=name, study=name) for name in names)
    wrong = ((0, 1, 0), (1, 2, 2), (2, 2, 2))[: len(names)]
    right = [np.array([True, True, False, True]), *[np.array([True, False, False, True])] * (len(names) - 1)]
    return Comparison(
        name="c",
        run_id="r",
        experiment="e",
        data="d",
        synthetic=True,
        genres=GENRES,
        split=SPLIT,
        splits=(SPLIT, SPLIT, SPLIT),
        scheme=scheme_of(3, 4, redrawn=True),
        candidates=candidates,
        outcomes={
            name: tuple(outcome(number) for number in numbers) for name, numbers in zip(names, wrong, strict=True)
        },
        labels={track: GENRES.index(track.rpartition(".")[0]) for track in TRACKS},
        own=dict(zip(names, right, strict=True)),
        looks=(3,),
        trials=dict.fromkeys(
            names, (trial(0, 0.5, "COMPLETE"), trial(1, 0.4, "PRUNED"), trial(2, 0.7, "COMPLETE"))
        ),
        warnings=(),
        ledger=Ledger(own=(), others=()),
        parameters={},
        protocol="holdout",
    )


def trial(number: int, accuracy: float, state: str) -> TrialRow:
    begun = datetime(2026, 1, 1)
    return TrialRow(
        number=number,
        state=state,
        params={},
        val_accuracy=accuracy,
        val_loss=1.0,
        best_epoch=1,
        started=begun,
        ended=begun + timedelta(seconds=number + 1),
        reason=None,
    )
