"""The plan of a comparison: its settings, its studies, and the splits of its repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from harness.compare.traits.game import Game
from harness.core.candidate import Candidate
from harness.core.known import KnownTrials
from harness.core.names import digest_of
from harness.core.records import Split, StudySpec
from harness.core.study_record import StudyContext
from harness.core.trial_rows import TrialCounts, TrialRow
from harness.core.workspace import Stores
from harness.data import Tracks
from harness.models.spec import ModelSpec

# How a repeat trains: on all tracks but the test part, for the chosen number of epochs; or with a validation part
# held out, on which it chooses its epoch.
Protocol = Literal["refit", "holdout"]
PROTOCOLS = get_args(Protocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings:
    """The settings of `harness compare`, one field for each flag; None if the default depends on others.

    `ensemble` is the number of networks of an ensemble, 1 for single networks alone. With `nested` each repeat has
    a search of its own (see `nested.py`).
    """

    studies: tuple[str, ...] = ()
    experiment: str | None = None
    repeats: int = 10
    data: str | None = None
    baselines: bool = True
    protocol: Protocol = "refit"
    untuned: bool = True
    ensemble: int = 1
    nested: bool = False
    jobs: int | None = None
    device: str = "auto"
    ray: str | None = None
    gpus_per_trial: float | None = None
    tracking_uri: str | None = None
    storage: str | None = None
    trust_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedStudy:
    """A study of the comparison: its settings, its model, its best trial, and all its trials.

    `confirms` is how many of its best trials are measured again on fresh folds before the best is chosen.
    """

    spec: StudySpec
    model: ModelSpec
    best: TrialRow
    counts: TrialCounts
    rows: tuple[TrialRow, ...]
    context: StudyContext
    confirms: int
    known: KnownTrials | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPlan:
    """The plan of a comparison. Everything that can be checked before training has been checked.

    `splits` has one split for each repeat; with the protocol `refit` a repeat trains on the train and the
    validation part together. `compared` are the studies of the first candidates, in their order. `game` has the
    trainings of a repeat if the traits of a study are asked for; the candidates are then the learners.
    """

    settings: CompareSettings
    compared: tuple[ComparedStudy, ...]
    candidates: tuple[Candidate, ...]
    tracks: Tracks
    split: Split
    splits: tuple[Split, ...]
    warnings: tuple[str, ...]
    devices: tuple[str, ...]
    stores: Stores
    game: Game | None = None

    @property
    def identity(self) -> str:
        """The comparison's identity. It is the same for the same configurations, split, data and way to draw.

        A comparison finds its earlier repeats by it. The first repeat's split stands for the way to draw, and a
        configuration has the protocol in its last epoch. What the contenders are held against is not in it. With
        ensembles it is another comparison, because they are in the verdict: Holm's levels depend on all its pairs.
        """
        if self.game is not None:
            return self._traits_identity(self.game)
        studied = sorted((c for c in self.candidates if c.is_contender), key=lambda c: (c.members, c.study or ""))
        candidates = [candidate.identity() for candidate in studied]
        drawn = [self.split.digest, self.splits[0].digest, self.compared[0].spec.data_digest]
        # A nested configuration has no last epoch before its search: the protocol does not show in it.
        protocol = [self.settings.protocol] if self.settings.nested else []
        return digest_of([candidates, *drawn, *protocol])[:16]

    def _traits_identity(self, game: Game) -> str:
        """Return the identity of traits: learners may be added to it, because each is judged alone."""
        study = self.compared[0]
        chosen = [study.spec.frozen_settings(), dict(study.best.params), study.best.best_epoch]
        drawn = [self.split.digest, self.splits[0].digest]
        return digest_of(["traits", chosen, *game.identity(), drawn, study.context.identity])[:16]

    @property
    def merges(self) -> bool:
        """Whether a repeat trains on the train and the validation part together."""
        return self.settings.protocol == "refit"

    @property
    def experiment(self) -> str:
        """The MLflow experiment of the comparison."""
        return self.compared[0].spec.experiment

    @property
    def name(self) -> str:
        """The name of the comparison's run."""
        if self.game is not None:
            return f"traits of {self.compared[0].spec.name}"
        return " vs ".join(candidate.name for candidate in self.candidates if candidate.is_single)

    def labels_of(self, ids: Sequence[str]) -> np.ndarray:
        """Return the genres (indices) of tracks."""
        row_of = {track: row for row, track in enumerate(self.tracks.ids)}
        return self.tracks.labels[[row_of[track] for track in ids]]


def params_of(plan: ComparisonPlan) -> dict[str, str]:
    """Return the parameters of the comparison's run in MLflow."""
    studies = [study.spec.name for study in plan.compared]
    drawn = "splits and seeds" if plan.split.drawn else "seeds"
    protocol = plan.settings.protocol
    nested = "yes" if plan.settings.nested else "no"
    split = plan.split.name
    return {"studies": ", ".join(studies), "drawn": drawn, "split": split, "protocol": protocol, "nested": nested}


def describe_plan(plan: ComparisonPlan) -> str:
    """Return what the run is, for its note in MLflow."""
    synthetic = "**Synthetic data.**\n\n" if plan.tracks.synthetic else ""
    studies = ", ".join(f"`{study.spec.name}`" for study in plan.compared)
    if plan.game is not None:
        count = len(list(plan.game.trainings()))
        return (
            f"{synthetic}Traits of {studies}: each repeat trains {count} times, with and without "
            f"{plan.game.kinds}. Open `traits.html` among the artifacts."
        )
    return (
        f"{synthetic}Comparison of the best configurations of {studies}. Open `report.html` among the artifacts."
    )
