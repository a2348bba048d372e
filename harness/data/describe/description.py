"""A description: what is known of a data set without its test part, and its JSON form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.json_types import JsonObject
from harness.core.records import Split
from harness.data.describe.chosen import Chosen, choose_track
from harness.data.describe.columns import QUANTILES, Columns, columns_of
from harness.data.describe.identical import UNLISTED, Identical, identical_tracks
from harness.data.describe.points import FAR, Points, points_of
from harness.data.leaks import leak_warnings
from harness.data.options import Words
from harness.data.tracks import Tracks

TEMPO = "tempo"
SHOWN_GROUPS = 3  # in a warning
MOST_GENRES = 30  # that pictures show


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Description:
    """What is known of a data set.

    `train` and `valid` are the tracks of two parts of the split; no value and no picture of another track is in
    here. `genres` maps each genre to its number of tracks in the whole set. `columns` and `points` are None for a
    set without features. `unlisted` is the number of tracks that are in no list of the split.
    """

    folder: str
    digest: str
    synthetic: bool
    genres: dict[str, int]
    has_pictures: bool
    excluded: tuple[str, ...]
    split: Split
    unlisted: int
    train: Tracks
    valid: Tracks
    columns: Columns | None
    points: Points | None
    identical: tuple[Identical, ...]
    chosen: Chosen
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the data folder."""
        return Path(self.folder).name or self.folder

    @property
    def tracks(self) -> int:
        """The number of usable tracks."""
        return sum(self.genres.values())

    @property
    def drawn(self) -> tuple[int, ...]:
        """The genres that pictures show, as indices: of those with train tracks the MOST_GENRES largest."""
        counts = self.counts(self.train)
        order = sorted((genre for genre in counts if counts[genre]), key=lambda genre: -counts[genre])
        return tuple(sorted(self.train.genres.index(genre) for genre in order[:MOST_GENRES]))

    @property
    def sentences(self) -> list[str]:
        """What stands out, in a sentence each."""
        train, valid, test = (len(part) for part in (self.split.train, self.split.valid, self.split.test))
        words = self.train.words
        unlisted = f", and so are {self.unlisted} that are in no list" if self.unlisted else ""
        described = f"Described are {train} train and {valid} validation {words.items}."
        found = [f"{described} The {test} test {words.items} are left out{unlisted}."]
        if self.columns is not None and self.columns.most_different:
            shown = ", ".join(f"{name} ({value:.2f})" for name, value in self.columns.most_different[:3])
            found.append(
                f"The {words.classes} differ most in {shown}: eta squared of the ranks, 0 not at all, 1 wholly."
            )
        if self.points is not None and self.points.plane is not None:
            plane = self.points.plane
            two = 100 * sum(component.explained for component in plane.components[:2])
            found.append(
                f"Two principal components explain {two:.1f} % of the variance of the scaled features; "
                f"{plane.needed} of {len(plane.components)} are needed for 90 %."
            )
        if self.points is not None:
            far = len(self.points.far)
            found.append(
                f"{far} of {train + valid} {words.items} lie far out: a column more than {FAR:g} standard "
                "deviations from the train mean."
            )
        inside = sum(len(group.tracks) for group in self.identical)
        alike = f"{len(self.identical)} groups of identical {words.items}, {inside} {words.items} in all."
        found.append(alike if self.identical else f"No two {words.items} are identical.")
        return found

    def counts(self, part: Tracks) -> dict[str, int]:
        """Return the number of tracks of each genre in the train or the validation part."""
        found = Counter(part.genres[label] for label in part.labels)
        return {genre: found[genre] for genre in self.genres}

    def as_json(self) -> JsonObject:
        """Return what `harness data describe --json` prints."""
        split = self.split
        sizes = {"train": len(split.train), "validation": len(split.valid), "test": len(split.test)}
        return {
            "folder": self.folder,
            "digest": self.digest,
            "synthetic": self.synthetic,
            "tracks": self.tracks,
            "genres": [
                {"genre": genre, "tracks": count, "train": train, "validation": valid}
                for (genre, count), train, valid in zip(
                    self.genres.items(),
                    self.counts(self.train).values(),
                    self.counts(self.valid).values(),
                    strict=True,
                )
            ],
            "pictures": self.has_pictures,
            "excluded": list(self.excluded),
            "split": {"name": split.name, **sizes, "unlisted": self.unlisted},
            "warnings": list(self.warnings),
            "identical": [asdict(group) for group in self.identical],
            "features": None if self.columns is None else _columns_json(self.columns, list(self.genres)),
            "points": None if self.points is None else _points_json(self.points),
            "track": {
                **asdict(self.chosen),
                "sound": None if self.chosen.sound is None else str(self.chosen.sound),
            },
        }


def describe_data(tracks: Tracks, split: Split, *, track: str | None = None) -> Description:
    """Describe a data set by the train part of a split; `track` is the one to show.

    Correlations, values by genre, the scaler and the components are the train part's. The validation part is
    projected, looked through for tracks that lie far out, and compared with the train part. Of the test part
    nothing is used but what makes the split: its ids, its genres, and which tracks are identical.

    Raises SettingsError if there is no such track in the train or validation part, DataError as `load_tracks`.
    """
    chosen = choose_track(tracks, split, track)
    train, valid = tracks.select(split.train), tracks.select(split.valid)
    listed = {*split.train, *split.valid, *split.test}
    columns, points = None, None
    warnings = leak_warnings(train, split, tracks.columns)
    if tracks.features is not None:
        columns, points = columns_of(train), points_of(train, valid)
        if columns.missing:
            count, names = sum(columns.missing.values()), ", ".join(columns.missing)
            warnings.append(f"{count} values of the train part are missing, in {names}")
        if columns.constant:
            warnings.append(f"constant in the train part: {', '.join(columns.constant)}")
    identical = identical_tracks(tracks, split)
    warnings += _identical_warnings(identical, tracks.words)
    counts = Counter(tracks.labels.tolist())
    return Description(
        folder=str(tracks.folder),
        digest=tracks.digest,
        synthetic=tracks.synthetic,
        genres={genre: counts[index] for index, genre in enumerate(tracks.genres)},
        has_pictures=tracks.pictures is not None,
        excluded=(*tracks.excluded_lines(), *split.excluded),
        split=split,
        unlisted=len(set(tracks.ids) - listed),
        train=train,
        valid=valid,
        columns=columns,
        points=points,
        identical=identical,
        chosen=chosen,
        warnings=tuple(warnings),
    )


def _identical_warnings(identical: Sequence[Identical], words: Words) -> list[str]:
    found = []
    for what, groups in (
        (f"have different {words.classes}", [group for group in identical if len(group.genres) > 1]),
        ("lie in different parts of the split", [g for g in identical if len(set(g.parts) - {UNLISTED}) > 1]),
    ):
        if groups:
            shown = "; ".join(", ".join(group.tracks) for group in groups[:SHOWN_GROUPS])
            more = "; ..." if len(groups) > SHOWN_GROUPS else ""
            found.append(f"{len(groups)} group(s) of identical {words.items} {what}: {shown}{more}")
    return found


def _columns_json(columns: Columns, genres: list[str]) -> JsonObject:
    return {
        "columns": list(columns.names),
        "families": {family: list(names) for family, names in columns.families.items()},
        "constant": list(columns.constant),
        "missing": dict(columns.missing),
        "drawn": [columns.names[place] for place in columns.drawn],
        "pearson": columns.pearson.tolist(),
        "spearman": columns.spearman.tolist(),
        "differs": dict(columns.most_different),
        "quantiles": list(QUANTILES),
        "by_genre": {
            name: {genre: columns.quantiles[row, place].tolist() for row, genre in enumerate(genres)}
            for place, name in enumerate(columns.names)
        },
    }


def _points_json(points: Points) -> JsonObject:
    plane = points.plane
    return {
        "components": None
        if plane is None
        else [{"explained": each.explained, "weights": dict(each.weights)} for each in plane.components],
        "far_from": FAR,
        "far": [asdict(track) for track in points.far],
        "closest": [asdict(pair) for pair in points.close],
    }
