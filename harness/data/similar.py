"""The nearest tracks of a data set by their features, and how often neighbours have the same genre.

Tracks are compared as the cited Kaggle notebook does it: cosine similarity of the scaled features, without the
columns that describe the file. The scaler is fitted on the train part of a split alone. Neighbours are judged on
validation tracks that ask train tracks, so that the test part stays closed (docs/similar.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from harness.core.errors import DataError
from harness.core.json_types import JsonObject
from harness.core.records import Split
from harness.core.search_stats import CONFIDENCE
from harness.core.stats import Estimate, tracks_by_fits
from harness.data.filling import median_filler
from harness.data.inputs import FAR, FEATURE_SUFFIXES, TABLE_SUFFIXES, feature_rows
from harness.data.layout import FEATURES_FILE
from harness.data.rows import Rows
from harness.data.tracks import Tracks

SUGGESTED = 3  # names of tracks in the error on an unknown one
# Standard deviations: rows that differ by less in every column have the same values but for rounding.
SAME = 1e-3
# The cosine from which a track is most likely a repeat. Of GTZAN's 12 pairs above it that are not identical the
# fault-filtered lists, which drop repeats, keep both tracks of none; of the next 19 pairs they keep those of 12.
LIKELY = 0.99
Duplicate = Literal["identical", "likely"]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A near track; `similarity` is the cosine, from -1 to 1.

    `duplicate` is "identical" if it has the same features but for rounding, and "likely" if it is so near that it
    most likely repeats the same recording.
    """

    track: str
    genre: str
    similarity: float
    duplicate: Duplicate | None


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked for, with its nearest tracks, the nearest first.

    `row` is the number of the row in a table, from 1, else None; `name` is the track, or the row's name.
    `far` names the columns that lie over FAR standard deviations from the mean of the train part.
    """

    name: str | None
    row: int | None
    far: tuple[str, ...]
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How often neighbours have the genre of the track that asks, on validation tracks that ask train tracks.

    `share` is the mean share of same-genre tracks among the `top` nearest, `chance` the one among all candidates.
    `gain` is the difference with its interval over the tracks that ask (identical ones are one cluster).
    """

    queries: int
    candidates: int
    top: int
    share: float
    chance: float
    gain: Estimate


@dataclass(frozen=True, slots=True)
class Similar:
    """The answer to `harness similar`."""

    asked: str
    tracks: Tracks
    split: Split
    columns: tuple[str, ...]
    queries: tuple[Query, ...]
    judgement: Judgement

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints."""
        judged = self.judgement
        return {
            "query": self.asked,
            "data": str(self.tracks.folder),
            "synthetic": self.tracks.synthetic,
            "columns": list(self.columns),
            "queries": [asdict(query) for query in self.queries],
            "judgement": {
                "split": {"name": self.split.name, "drawn": self.split.drawn},
                **{name: getattr(judged, name) for name in ("queries", "candidates", "top", "share", "chance")},
                "gain": {**asdict(judged.gain), "confidence": CONFIDENCE},
            },
        }


class Scaled:
    """The music's columns of a data set, scaled by the mean and the deviation of the split's train part."""

    def __init__(self, tracks: Tracks, split: Split) -> None:
        self.columns = tuple(name for name in tracks.columns if name not in tracks.not_music)
        self._scaler = make_pipeline(median_filler(), StandardScaler()).fit(
            self._values(tracks.select(split.train))
        )

    def _values(self, tracks: Tracks) -> np.ndarray:
        assert tracks.features is not None
        values: np.ndarray = tracks.features[:, [tracks.columns.index(name) for name in self.columns]]
        return values

    def of(self, tracks: Tracks) -> np.ndarray:
        """Return the scaled features of tracks: float64 [n, columns], in standard deviations."""
        return self.of_rows(self._values(tracks))

    def of_rows(self, values: np.ndarray) -> np.ndarray:
        """Return rows of raw values scaled: float64 [n, columns]."""
        scaled: np.ndarray = self._scaler.transform(values)
        return scaled


def similar(tracks: Tracks, split: Split, asked: str, *, top: int = 5) -> Similar:
    """Find the `top` tracks nearest to a track, or to each row of a file, and judge such neighbours on the split.

    `asked` is the name of a track or a file of the FEATURE_SUFFIXES. All tracks of the data set are candidates but
    the track that asks. The split decides what the scaler is fitted on and what is judged, nothing else.

    Raises DataError if the data set has no features, if it has no such track and there is no such file, or if the
    file cannot be read.
    """
    if tracks.features is None:
        raise DataError(
            f"{tracks.folder} has no features, by which tracks are compared",
            expected=FEATURES_FILE,
            hint="harness data extract AUDIO_DIR --out DIR, or --data with a folder that has features",
        )
    scaled, track = Scaled(tracks, split), _track_named(tracks, asked)
    if track is None:
        queries = tuple(_of_file(tracks, scaled, Path(asked), top))
    else:
        queries = (_of_track(tracks, scaled, track, top),)
    judgement = judge(tracks, split, scaled, top)
    return Similar(asked, tracks, split, scaled.columns, queries, judgement)


def judge(tracks: Tracks, split: Split, scaled: Scaled, top: int) -> Judgement:
    """Judge the neighbours of the validation tracks among the train tracks.

    A track that is identical with the one that asks, or of its group, is no candidate: a recording that finds
    itself shows nothing.

    Raises DataError if a validation track is identical with all train tracks.
    """
    known = tracks.select((*split.train, *split.valid))  # nothing of the test part is in what follows
    asking, candidates = known.indices(split.valid), known.indices(split.train)
    units = normalize(scaled.of(known))
    similarities = units[asking] @ units[candidates].T
    eligible = known.units[asking][:, None] != known.units[candidates]
    if not eligible.any(axis=1).all():
        raise DataError(
            f"{tracks.folder}: a validation track is identical with all train tracks", expected="different tracks"
        )
    top = min(top, int(eligible.sum(axis=1).min()))
    nearest = np.argsort(np.where(eligible, -similarities, np.inf), axis=1, kind="stable")[:, :top]
    same = known.labels[asking][:, None] == known.labels[candidates]
    shares = np.take_along_axis(same, nearest, axis=1).mean(axis=1)
    chances = (same & eligible).sum(axis=1) / eligible.sum(axis=1)
    return Judgement(
        queries=len(asking),
        candidates=len(candidates),
        top=top,
        share=float(shares.mean()),
        chance=float(chances.mean()),
        gain=tracks_by_fits([shares - chances], [known.units[asking]], 0.0),
    )


def _track_named(tracks: Tracks, asked: str) -> str | None:
    """Return the track that is asked for, or None for a file.

    Raises DataError if it is neither.
    """
    name = asked.removesuffix(".wav")  # as the CSV names it
    if asked in tracks.ids:
        return asked
    if _exists(Path(asked)):
        return None
    if name in tracks.ids:
        return name
    if name in tracks.excluded:
        raise DataError(
            f"{tracks.folder} has {name}, but it cannot be used: {tracks.excluded[name]}",
            expected="a track that has all that the data set has",
        )
    begun = [track for track in tracks.ids if name and track.startswith(name)]
    near = begun[:SUGGESTED] or get_close_matches(name, tracks.ids, n=SUGGESTED)
    raise DataError(
        f"{tracks.folder} has no track {asked!r}, and there is no such file",
        expected=f"the name of a track, such as {tracks.ids[0]}, or a file: {', '.join(FEATURE_SUFFIXES)}",
        hint=" or ".join(near) if near else "harness data check DIR, to see what the folder has",
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long for a name, or in a folder that may not be read
        return False


def _file_rows(tracks: Tracks, path: Path, columns: tuple[str, ...]) -> Rows:
    if path.is_dir() or path.suffix.lower() not in FEATURE_SUFFIXES:
        kind = "a folder" if path.is_dir() else f"a file of type {path.suffix!r}"
        raise DataError(
            f"{path} is {kind}, and {tracks.folder} has no track of that name",
            expected=f"the name of a track, or a file: {', '.join(FEATURE_SUFFIXES)}",
        )
    return feature_rows(path, columns, impute=tracks.impute, id_column=tracks.words.id_column)


def _of_track(tracks: Tracks, scaled: Scaled, track: str, top: int) -> Query:
    every = scaled.of(tracks)
    (number,) = tracks.indices([track])
    others = np.flatnonzero(np.arange(len(tracks.ids)) != number)
    return Query(track, None, (), _nearest(tracks, every, normalize(every), every[number], others, top))


def _of_file(tracks: Tracks, scaled: Scaled, path: Path, top: int) -> Iterator[Query]:
    rows, every = _file_rows(tracks, path, scaled.columns), scaled.of(tracks)
    units, everyone = normalize(every), np.arange(len(tracks.ids))
    is_table = path.suffix.lower() in TABLE_SUFFIXES
    for row, (name, point) in enumerate(zip(rows.tracks, scaled.of_rows(rows.values), strict=True), start=1):
        far = tuple(column for column, value in zip(scaled.columns, point, strict=True) if abs(value) > FAR)
        neighbours = _nearest(tracks, every, units, point, everyone, top)
        yield Query(name, row if is_table else None, far, neighbours)


def _duplicate(one: np.ndarray, other: np.ndarray, similarity: float) -> Duplicate | None:
    if np.abs(one - other).max() < SAME:
        return "identical"
    return "likely" if similarity >= LIKELY else None


def _nearest(
    tracks: Tracks, every: np.ndarray, units: np.ndarray, point: np.ndarray, among: np.ndarray, top: int
) -> tuple[Neighbour, ...]:
    """Return the nearest of the tracks with these numbers; `units` are the scaled rows `every` at length 1.

    Tracks that are equally near come in the order of their names.
    """
    similarities = units[among] @ normalize(point[None])[0]
    order = np.argsort(-similarities, kind="stable")[:top]
    return tuple(
        Neighbour(
            track=tracks.ids[number],
            genre=tracks.genres[tracks.labels[number]],
            similarity=float(similarity),
            duplicate=_duplicate(every[number], point, float(similarity)),
        )
        for number, similarity in zip(among[order], similarities[order], strict=True)
    )
