"""Writes the files of a comparison: pictures, tables, and a self-contained HTML page with all results."""

from __future__ import annotations

import json
from pathlib import Path

from harness.compare.counts import tracks_apart
from harness.compare.figures import PAIRS_SHOWN, pictures_of
from harness.compare.result import Comparison
from harness.compare.verdict import show_p
from harness.core.json_types import finite
from harness.core.pages.canvas import LIGHT
from harness.core.pages.page import Shown, embedded, environment
from harness.core.space import describe
from harness.core.stats import FEW_TRACKS
from harness.core.tables import write_table

PAGE_FILE = "report.html"


def write_files(comparison: Comparison, folder: Path) -> None:
    """Write `report.html`, its pictures, `comparison.json`, and `predictions.csv` and `own_split.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = pictures_of(comparison)
    shown = []
    for picture in pictures:
        picture.save(folder / f"{picture.name}.png", LIGHT)
        shown.append(embedded(picture, folder / f"{picture.name}.png"))
    (folder / PAGE_FILE).write_text(render(comparison, shown), encoding="utf-8")
    text = json.dumps(finite(comparison.as_json()), indent=2, allow_nan=False)
    (folder / "comparison.json").write_text(f"{text}\n", encoding="utf-8")
    _write_predictions(comparison, folder / "predictions.csv")
    _write_own_split(comparison, folder / "own_split.csv")


def render(comparison: Comparison, pictures: list[Shown]) -> str:
    """Return the page as HTML."""
    pairs = comparison.checkpoint_pairs
    return (
        environment("harness.compare")
        .get_template("report.html.jinja")
        .render(
            comparison=comparison,
            pictures=pictures,
            apart=[(a, b, tracks_apart(comparison, a, b)) for a, b in pairs[:PAIRS_SHOWN]],
            pairs_left_out=len(pairs[PAIRS_SHOWN:]),
            describe=describe,
            few_tracks=FEW_TRACKS,
            show_p=show_p,
            points=lambda fraction: f"{100 * fraction:z.1f}",
        )
    )


def _write_predictions(comparison: Comparison, path: Path) -> None:
    """Write one line for each test track, candidate and repeat."""
    rows: list[list[object]] = [["repeat", "name", "study", "track", "genre", "predicted", "correct"]]
    for candidate in comparison.candidates:
        outcomes = zip(comparison.outcomes[candidate.name], comparison.splits, strict=True)
        for number, (outcome, split) in enumerate(outcomes):
            truth = comparison.truth(split.test)
            for track, genre, guess in zip(split.test, truth, outcome.test, strict=True):
                names = (comparison.genres[genre], comparison.genres[guess])
                rows.append([number, candidate.name, candidate.study or "", track, *names, int(genre == guess)])
    write_table(path, rows)


def _write_own_split(comparison: Comparison, path: Path) -> None:
    """Write one line for each test track of the studies' own split: 1 for each candidate that is right, else 0."""
    names = [candidate.name for candidate in comparison.studied if candidate.name in comparison.own]
    rows: list[list[object]] = [["track", "genre", *names]]
    for row, track in enumerate(comparison.split.test):
        flags = [int(comparison.own[name][row]) for name in names]
        rows.append([track, comparison.genres[comparison.labels[track]], *flags])
    write_table(path, rows)
