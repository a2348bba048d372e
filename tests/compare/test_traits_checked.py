"""The effects of families, held against an independent library: hidimstat's LOCO and conditional importance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hidimstat import CFI, LOCO
from sklearn.metrics import zero_one_loss

from harness.compare.baselines import BASELINES
from harness.compare.traits.families import families_of
from harness.compare.traits.game import FamilyGame
from harness.compare.traits.judging import RepeatAnswers, learner_result
from harness.compare.traits.permuted import FamilyTrainings
from harness.compare.traits.work import Learner, run_trainings
from harness.compare.verdict import ResamplingScheme
from harness.core.events import SubsetTrained
from harness.core.journal import Journal
from harness.core.records import Split
from harness.data import Tracks, View
from tests.support.tables import tracks_of

LEARNER = "logistic regression"
FAMILIES = {"decides": [0, 1], "says the same": [2, 3], "adds little": [4], "nothing": [5, 6]}
TOLERANCE = 0.015  # three standard errors of a difference of two shares of the test tracks that differ


def made(seed: int = 0, count: int = 6000) -> Tracks:
    """Synthetic tracks of three classes. The second family is the first with noise."""
    random_ = np.random.default_rng(seed)
    labels = random_.integers(0, 3, size=count)
    angle = 2 * np.pi * labels / 3
    first = np.stack([np.cos(angle), np.sin(angle)], axis=1) + random_.normal(size=(count, 2)) * 0.6
    second = first + random_.normal(size=(count, 2)) * 0.5
    third = labels[:, None] + random_.normal(size=(count, 1)) * 1.5
    features = np.hstack([first, second, third, random_.normal(size=(count, 2))])
    return tracks_of(features, labels)


@pytest.mark.long
def test_lost_without_and_permuted_given_the_others_are_what_hidimstat_finds(tmp_path: Path) -> None:
    tracks = made()
    file = tmp_path / "families.toml"
    lines = [f"'{name}' = {[f'x{place}' for place in places]}" for name, places in FAMILIES.items()]
    file.write_text("\n".join(["[families]", *lines]))
    game = FamilyGame(families=families_of(tracks.columns, file))
    half = len(tracks.ids) // 2
    split = Split(name="half", train=tracks.ids[:half], valid=(), test=tracks.ids[half:], drawn=False)
    view = View(tracks, "features", tracks.columns)
    journal = Journal(tmp_path / "repeat.jsonl")
    learner = Learner(name=LEARNER, seed=0, config=None, model=None, device="cpu")
    run_trainings(game, learner, lambda: FamilyTrainings(game, 0, view, split), 3, journal, lambda: False)
    guesses = {e.subset: np.array(e.guesses) for e in journal.events if isinstance(e, SubsetTrained)}
    journal.close()
    truth = tracks.labels[half:]
    own = np.arange(half)
    scheme = ResamplingScheme(
        redrawn=False, train=half, valid=0, test=half, pool=half, clusters=(own, own), own_clusters=own
    )
    found = learner_result(LEARNER, game, [RepeatAnswers(guesses=guesses, truth=truth)] * 2, scheme, 3)

    assert tracks.features is not None
    inputs = tracks.features.astype(np.float32)
    (train, test), targets = np.split(inputs, 2), tracks.labels[:half]
    fitted = BASELINES[LEARNER](0).fit(train, targets)
    options = {"method": "predict", "loss": zero_one_loss, "features_groups": FAMILIES}
    without = LOCO(fitted, **options).fit(train, targets).importance(test, truth)
    given = CFI(fitted, **options, random_state=0, feature_types="continuous").fit(train, targets)
    conditional = given.importance(test, truth)
    for place, row in enumerate(found.rows):
        assert row.lost.value == pytest.approx(without[place], abs=TOLERANCE), row.name
        assert found.given[place] == pytest.approx(conditional[place], abs=TOLERANCE), row.name
    assert without[0] > 2 * TOLERANCE  # so that the check can fail
    assert conditional[0] > 2 * TOLERANCE
