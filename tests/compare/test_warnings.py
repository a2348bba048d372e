"""What a comparison warns of: unlike studies, columns that give the genre away, identical tracks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.compare.warnings import split_warnings, study_warnings
from harness.core.known import KnownTrial, KnownTrials
from harness.data import Tracks, load_tracks, stratified_split
from harness.data.leaks import leak_warnings
from tests.support.comparisons import plan
from tests.support.sweeps import sweep


@pytest.mark.long
def test_unlike_studies_are_warned_of(studies: Path) -> None:
    sweep(study="longer", epochs=5, trials=3)
    warnings = plan(studies=("one", "longer")).warnings
    assert any("budgets differ: one has 2 trials, longer 3" in warning for warning in warnings)
    compared = plan(studies=("one", "two")).compared
    assert not any("budgets differ" in warning for warning in study_warnings(compared))
    told = KnownTrials(sources=("study old",), trials=(KnownTrial(params={"lr": 0.01}, val_accuracy=0.5),))
    (warning,) = study_warnings([replace(compared[0], known=told)])
    assert (
        warning == "budgets differ: the search of one was told 1 known trials of study old, beside its own trials"
    )
    assert study_warnings([replace(compared[0], known=told)], nested=True) == []
    assert any("epochs differ: one trains 4, longer 5" in warning for warning in warnings)
    edge = {"lr": {"low": 1e-3, "high": 1e-1}, "batch_size": [32]}
    sweep(study="edge", search=edge, trials=1)  # its one trial is the report's setting, at the lower end
    assert any("edge of its range" in warning for warning in plan(studies=("one", "edge")).warnings)


def test_a_column_that_tells_the_genre_is_named(demo_tracks: Tracks) -> None:
    split = stratified_split(demo_tracks, seed=0)
    assert demo_tracks.features is not None
    spoilt = demo_tracks.features.copy()
    spoilt[:, demo_tracks.columns.index("tempo")] = demo_tracks.labels
    (warning,) = leak_warnings(replace(demo_tracks, features=spoilt), split, ("tempo", "rms_mean"))
    assert "'tempo' alone predicts the genre at 100 %" in warning
    assert leak_warnings(demo_tracks, split, ("rms_mean",)) == []


def test_length_is_named_on_the_real_data(gtzan: Path) -> None:
    tracks = load_tracks(gtzan)
    (warning,) = leak_warnings(tracks, stratified_split(tracks, seed=0), tracks.columns)
    assert "'length' alone predicts the genre at 2" in warning


def test_identical_tracks_on_two_sides_are_warned_of(demo_tracks: Tracks) -> None:
    split = stratified_split(demo_tracks, seed=5)
    torn = replace(demo_tracks, duplicates=((split.train[0], split.test[0]), (split.train[1], split.train[2])))
    (warning,) = split_warnings(torn, split)
    assert warning.startswith("1 group(s) of identical tracks lie in different parts of the split: ")
    assert split_warnings(demo_tracks, split) == []
