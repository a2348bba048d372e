"""The files of a comparison, with names that matplotlib and spreadsheets would read otherwise."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from harness.compare.figures import pictures_of
from harness.compare.page import write_files
from harness.compare.result import Comparison, Outcome
from harness.core.records import Candidate, Split, TrialConfig
from harness.tracking import Ledger
from tests.support.comparisons import scheme_of

GENRES = ("$a^$", "=1+1|cmd")
TRACKS = tuple(f"{genre}.{number:05d}" for genre in GENRES for number in range(6))
SPLIT = Split(
    name="s", drawn=True, train=TRACKS[2:4] + TRACKS[8:], valid=TRACKS[4:6], test=TRACKS[:2] + TRACKS[6:8]
)


def outcome(wrong: int) -> Outcome:
    truth = np.array([0, 0, 1, 1])
    guesses = np.where(np.arange(4) < wrong, 1 - truth, truth)
    curves = {"val_accuracy": [0.5, 0.75], "train_loss": [1.0, 0.5], "val_loss": [1.0, 0.5]}
    return Outcome(
        run_id="r", state="complete", seconds=float("nan"), valid=np.array([0, 0]), test=guesses, curves=curves
    )


@pytest.fixture
def comparison() -> Comparison:
    """Two candidates with odd names on two genres with odd names."""
    config = TrialConfig(model="fcnn", params={"lr": 0.1}, epochs=2, seed=0, threads=1)
    names = ("$x_$", "y")
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
        candidates=tuple(
            Candidate(
                name=name, study=name, model="fcnn", representation="features", columns=(), seed=0, config=config
            )
            for name in names
        ),
        outcomes={
            "$x_$": (outcome(0), outcome(1), outcome(0)),
            "y": (outcome(1), outcome(2), outcome(2)),
        },
        labels={track: GENRES.index(track.rpartition(".")[0]) for track in TRACKS},
        own={"$x_$": np.array([True, True, False, True]), "y": np.array([True, False, False, True])},
        looks=(3,),
        trial_values=dict.fromkeys(names, ((0, 0.5, "COMPLETE"), (1, 0.4, "PRUNED"), (2, 0.7, "COMPLETE"))),
        warnings=(),
        ledger=Ledger(own=(), others=()),
        parameters={},
    )


def test_every_picture_of_a_comparison_takes_every_name(comparison: Comparison) -> None:
    for picture in pictures_of(comparison):
        figure = picture.draw()
        figure.canvas.draw()
    assert len(pictures_of(comparison)) == 6


def test_the_tables_hold_no_formula(comparison: Comparison, tmp_path: Path) -> None:
    write_files(comparison, tmp_path)
    for name in ("predictions.csv", "own_split.csv"):
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            cells = {cell for row in csv.reader(file) for cell in row}
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
        assert {"'=1+1|cmd", "'=1+1|cmd.00000", "$a^$"} <= cells

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"), parse_constant=refuse)
