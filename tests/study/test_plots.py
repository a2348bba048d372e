"""The pictures and the table of a study, with names that matplotlib and spreadsheets would read otherwise."""

import csv
from datetime import datetime
from pathlib import Path

import pytest

from harness.core.pages.canvas import plain
from harness.core.space import Choice, Params, Range, Space
from harness.core.trial_rows import TrialRow
from harness.study.plots import write_study_report

ODD = "$a^$"
SPACE: Space = {"lr": Range(1e-4, 1e-1, log=True), ODD: Choice((ODD, "=1+1", "$"))}
FIXED: Params = {"dropout": 0.3}


def row(number: int, value: str) -> TrialRow:
    begun = datetime(2026, 1, 1)
    return TrialRow(
        number=number,
        state="COMPLETE",
        params={"lr": 10.0 ** -(number + 1), ODD: value},
        val_accuracy=0.1 * number,
        val_loss=1.0,
        best_epoch=1,
        started=begun,
        ended=begun,
        reason="-x",
    )


@pytest.mark.parametrize("name", ["$a^$", "$", "$$", r"\$a$", "rock & roll"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    from matplotlib.text import Text

    assert Text()._preprocess_math(plain(name)) == (name, False)  # type: ignore[attr-defined]


def test_every_picture_of_a_study_takes_every_name(tmp_path: Path) -> None:
    rows = [row(0, ODD), row(1, "=1+1"), row(2, "$")]
    write_study_report(tmp_path, ODD, rows, {}, {0: "run"}, SPACE, FIXED)
    few = (tmp_path / "param_importances.png").read_bytes()
    write_study_report(tmp_path, ODD, rows, {"lr": 0.4, ODD: 0.6}, {0: "run"}, SPACE, FIXED)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "optimization_history.png",
        "param_importances.png",
        "slice.png",
    ]
    assert (tmp_path / "param_importances.png").read_bytes() != few
    with (tmp_path / "trials.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line[ODD] for line in lines] == [ODD, "'=1+1", "$"]
    assert [line["dropout"] for line in lines] == ["0.3"] * 3
    assert (lines[0]["reason"], lines[0]["run_id"], lines[0]["lr"]) == ("'-x", "run", "0.1")
