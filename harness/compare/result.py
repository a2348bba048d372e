"""The result of a comparison: rows, pairs and the verdict, also as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from sklearn.metrics import f1_score

from harness.compare.contenders import untuned_of
from harness.compare.plan import Protocol
from harness.compare.verdict import Pair, ResamplingScheme, Scores, estimate_accuracy, judge, verdict_of
from harness.core.candidate import Candidate
from harness.core.json_types import JsonObject
from harness.core.records import Representation, Split
from harness.core.space import Params
from harness.core.stats import Booleans
from harness.core.trial_rows import TrialRow
from harness.data import FOLDS, MUSIC, Words
from harness.tracking import Ledger


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """The outcome of one repeat of a candidate: predicted genres (indices) in the order of the split's ids.

    `curves` has the losses and the accuracy of each epoch (empty for a baseline). `reason` says why it diverged,
    or how many members of an ensemble did.
    """

    state: str
    seconds: float
    valid: np.ndarray
    test: np.ndarray
    curves: dict[str, list[float]]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Accuracy over repeats: mean over all their answers, standard deviation, 95 % interval of the mean."""

    mean: float
    std: float
    low: float
    high: float

    def as_json(self) -> JsonObject:
        """Return it as a JSON-able mapping."""
        return {"mean": self.mean, "std": self.std, "interval": [self.low, self.high]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table. `parameters` is the number of weights, `seconds` the mean training time of a repeat.

    `val` is the mean validation accuracy with its standard deviation, None if the repeats trained on the
    validation part too. It has no interval: the epochs, and before them the settings, were chosen on validation.
    `members` is the number of networks of an ensemble. `is_judged` is True for what the verdict speaks of.
    """

    name: str
    study: str | None
    representation: Representation
    parameters: int | None
    params: Params
    val: tuple[float, float] | None
    test: Accuracy
    macro_f1: float
    seconds: float
    diverged: int
    members: int
    is_judged: bool

    def as_json(self) -> JsonObject:
        """Return it as a JSON-able mapping."""
        return {
            "name": self.name,
            "study": self.study,
            "representation": self.representation,
            "parameters": self.parameters,
            "params": self.params,
            "val": None if self.val is None else dict(zip(("mean", "std"), self.val, strict=True)),
            "test": self.test.as_json(),
            "macro_f1": self.macro_f1,
            "seconds": round(self.seconds, 3),
            "diverged": self.diverged,
            "members": self.members,
        }


def drawn_as(repeats: int, *, redrawn: bool) -> str:
    """Return how the repeats were drawn, in a few words."""
    if not redrawn:
        return "all on this split, the seed varies"
    rounds = repeats // FOLDS
    return f"{rounds} {'round' if rounds == 1 else 'rounds'} of {FOLDS} folds drawn anew"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """All results of a comparison. Tables, pictures and pages are made from it.

    `looks` says with how many repeats the result has been seen, this time included. `pairs` are those of the
    verdict: single networks with one another, ensembles with one another. `gains` are the pairs of a study's
    single network and the default setting of its model.
    """

    name: str
    run_id: str
    experiment: str
    data: str
    synthetic: bool
    genres: tuple[str, ...]
    split: Split
    splits: tuple[Split, ...]
    scheme: ResamplingScheme
    candidates: tuple[Candidate, ...]
    outcomes: dict[str, tuple[Outcome, ...]]
    labels: dict[str, int]
    own: dict[str, Booleans]
    looks: tuple[int, ...]
    trials: dict[str, tuple[TrialRow, ...]]  # those that have an accuracy, by the candidate's name
    warnings: tuple[str, ...]
    ledger: Ledger
    parameters: dict[str, int]
    protocol: Protocol
    words: Words = MUSIC
    rows: tuple[Row, ...] = field(init=False)
    pairs: tuple[Pair, ...] = field(init=False)
    gains: tuple[Pair, ...] = field(init=False)

    def __post_init__(self) -> None:
        scores = {candidate.name: self._scores(candidate) for candidate in self.candidates}
        rows = tuple(self._row(candidate, scores[candidate.name]) for candidate in self.candidates)
        object.__setattr__(self, "rows", rows)
        ensembles = [c for c in self.candidates if c.is_contender and c.members > 1]
        like = [[scores[candidate.name] for candidate in group] for group in (self.studied, ensembles)]
        object.__setattr__(self, "pairs", judge(like, self.scheme))
        tuned = [
            [replace(scores[single.name], own=None), scores[default.name]]
            for single in self.studied
            if (default := untuned_of(self.candidates, single)) is not None
        ]
        object.__setattr__(self, "gains", judge(tuned, self.scheme))

    @property
    def verdict(self) -> str:
        """The verdict on all pairs as one sentence."""
        return verdict_of(self.pairs)

    @property
    def drawn_as(self) -> str:
        """How the repeats were drawn, in a few words."""
        return drawn_as(len(self.splits), redrawn=self.scheme.redrawn)

    @property
    def studied(self) -> tuple[Candidate, ...]:
        """The single networks of the studies' chosen settings."""
        return tuple(candidate for candidate in self.candidates if candidate.is_single)

    @property
    def checkpoint_pairs(self) -> list[tuple[str, str]]:
        """The pairs of studies whose checkpoints were held against each other; none in a nested comparison."""
        return list(combinations([candidate.name for candidate in self.studied if candidate.name in self.own], 2))

    @property
    def gained(self) -> tuple[str, ...]:
        """What tuning gained each study, a sentence for each."""
        return tuple(pair.gain_sentence(corrected=len(self.gains) > 1) for pair in self.gains)

    def truth(self, ids: Sequence[str]) -> np.ndarray:
        """Return the genres (indices) of tracks."""
        return np.array([self.labels[track] for track in ids])

    def study_of(self, name: str) -> str:
        """Return the study of the candidate with that name."""
        return next(c.study for c in self.candidates if c.name == name and c.study is not None)

    def _scores(self, candidate: Candidate, part: str = "test") -> Scores:
        correct = tuple(
            getattr(outcome, part) == self.truth(getattr(split, part))
            for outcome, split in zip(self.outcomes[candidate.name], self.splits, strict=True)
        )
        return Scores(name=candidate.name, correct=correct, own=self.own.get(candidate.name))

    def _row(self, candidate: Candidate, scores: Scores) -> Row:
        outcomes = self.outcomes[candidate.name]
        f1 = [
            f1_score(self.truth(split.test), outcome.test, average="macro", zero_division=0.0)
            for outcome, split in zip(outcomes, self.splits, strict=True)
        ]
        config = candidate.config
        return Row(
            name=candidate.name,
            study=candidate.study,
            representation=candidate.representation,
            parameters=self.parameters.get(candidate.name),
            params={} if config is None else dict(config.params),
            val=None if self.protocol == "refit" else _mean_and_std(self._scores(candidate, "valid").accuracies),
            test=self._accuracy(scores),
            macro_f1=float(np.mean(f1)),
            seconds=float(np.mean([outcome.seconds for outcome in outcomes])),
            diverged=sum(outcome.state == "diverged" for outcome in outcomes),
            members=candidate.members,
            is_judged=candidate.is_contender,
        )

    def _accuracy(self, scores: Scores) -> Accuracy:
        estimate = estimate_accuracy(scores, self.scheme)
        _, std = _mean_and_std(scores.accuracies)
        return Accuracy(mean=estimate.value, std=std, low=estimate.low, high=estimate.high)

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints; accuracies and differences are fractions."""
        return {
            "models": [row.as_json() for row in self.rows if row.is_judged],
            "untuned": [row.as_json() for row in self.rows if row.study is not None and not row.is_judged],
            "baselines": [row.as_json() for row in self.rows if row.study is None],
            "pairs": [self._pair_json(pair) for pair in self.pairs],
            "verdict": self.verdict,
            "gains": [self._gain_json(pair) for pair in self.gains],
            "protocol": self.protocol,
            "nested": self.scheme.nested,
            "warnings": list(self.warnings),
            "looks": list(self.looks),
            "run_id": self.run_id,
            "split": {"name": self.split.name, "redrawn": self.scheme.redrawn},
            "synthetic": self.synthetic,
            "test_openings": self.ledger.as_json(),
        }

    def _gain_json(self, pair: Pair) -> JsonObject:
        return {"study": self.study_of(pair.a), "names": [pair.a, pair.b], **_estimate_json(pair)}

    def _pair_json(self, pair: Pair) -> JsonObject:
        own = pair.checkpoints
        return {
            "a": self.study_of(pair.a),
            "b": self.study_of(pair.b),
            "names": [pair.a, pair.b],
            **_estimate_json(pair),
            "winner": None if pair.winner is None else self.study_of(pair.winner),
            "checkpoints": None
            if own is None
            else {"difference": own.value, "low": own.low, "high": own.high, "mcnemar_p": pair.mcnemar_p},
        }


def _estimate_json(pair: Pair) -> JsonObject:
    return {
        "difference": pair.difference,
        "low": pair.low,
        "high": pair.high,
        "confidence": pair.confidence,
        "p": pair.p,
        "rule": "exact sign test" if pair.exact else "tracks x fits",
        "wins": pair.wins,
        "losses": pair.losses,
        "repeats": pair.repeats,
    }


def _mean_and_std(accuracies: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(accuracies)), float(np.std(accuracies, ddof=1))
