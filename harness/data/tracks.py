"""Read and check a data folder: its usable tracks, the excluded tracks with reasons, and its digest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.core.errors import DataError
from harness.core.files import sha256_of
from harness.core.records import Split
from harness.core.space import Value
from harness.data.cache import Pictures, cache_crop, cache_folder, cached_bounds, cached_pictures
from harness.data.features import FEATURE_COLUMNS, FeatureTable, read_features
from harness.data.images import find_pictures, pictures_digest
from harness.data.layout import FEATURES_FILE, MARKER_FILE, PICTURES_FOLDER

MINIMUM_GENRES, MINIMUM_TRACKS = 2, 5
ENOUGH = f"at least {MINIMUM_GENRES} genres, at least {MINIMUM_TRACKS} tracks in each: a split needs them"
GET_DATA = "harness data fetch, harness data import PATH, or --data demo for a synthetic set"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracks:
    """The usable tracks of a data set, in the order of their ids.

    `labels` is int64 [n], the index of each track's genre in `genres`; `features` is float64 [n, columns] with the
    values of the CSV. `features` or `pictures` may be None; if the data set has both, so has each track.
    `excluded` maps the ids of unusable tracks to the reasons. `duplicates` are groups of ids with identical
    features or, without a CSV, identical picture files. `digest` is the SHA-256 of the content of the whole data
    set: ids, genres, features and pictures.
    """

    folder: Path
    ids: tuple[str, ...]
    genres: tuple[str, ...]
    labels: np.ndarray
    columns: tuple[str, ...]
    features: np.ndarray | None
    pictures: Pictures | None
    excluded: Mapping[str, str]
    duplicates: tuple[tuple[str, ...], ...]
    digest: str
    synthetic: bool

    @property
    def lacking(self) -> str | None:
        """A sentence that says why the tracks are too few for a split, or None if they are enough."""
        found = _shortage(self.genres[label] for label in self.labels)
        return None if found is None else f"{self.folder} has {found}; a sweep needs {ENOUGH}"

    @property
    def clusters(self) -> np.ndarray:
        """A number for each track, int64 [n]; identical tracks have the same one, because they count as one."""
        number_of = {track: row for row, track in enumerate(self.ids)}
        for group in self.duplicates:
            number_of |= dict.fromkeys(group, number_of[group[0]])
        return np.array([number_of[track] for track in self.ids], dtype=np.int64)

    def excluded_lines(self) -> list[str]:
        """Return `id: reason` for each unusable track."""
        return [f"{track}: {reason}" for track, reason in self.excluded.items()]

    def indices(self, ids: Iterable[str]) -> np.ndarray:
        """Return the indices of these tracks, int64 [len(ids)]; raises KeyError for an unknown id."""
        index = {track: number for number, track in enumerate(self.ids)}
        return np.array([index[track] for track in ids], dtype=np.int64)

    def select(self, ids: Iterable[str]) -> Tracks:
        """Return these tracks only, in the same order; the result contains no data of other tracks.

        `genres` and `digest` remain those of the whole data set.
        """
        wanted = set(ids)
        kept = self.indices(track for track in self.ids if track in wanted)
        groups = (tuple(track for track in group if track in wanted) for group in self.duplicates)
        return replace(
            self,
            ids=tuple(self.ids[index] for index in kept),
            labels=self.labels[kept],
            features=None if self.features is None else self.features[kept],
            pictures=None if self.pictures is None else self.pictures.select(kept),
            excluded={},
            duplicates=tuple(group for group in groups if len(group) > 1),
        )


def load_tracks(folder: Path, *, enough: bool = True) -> Tracks:
    """Read and check a data folder; the first call also decodes its pictures into the picture cache.

    `enough`: refuse a data set that is too small for a split. Nothing but the picture cache is written.

    Raises DataError for every fault of the folder or its files.
    """
    folder = folder.absolute()
    table, found = _checked_representations(folder)
    genre_of = _join(folder, table, found)
    ids = tuple(sorted(genre_of))
    genres = tuple(sorted(set(genre_of.values())))
    lacking = _shortage(genre_of.values())
    if enough and lacking is not None:
        raise DataError(f"{folder} has {lacking}", expected=ENOUGH, hint="add tracks of that genre, or remove it")
    row_of = {} if table is None else {track: row for row, track in enumerate(table.ids)}
    features = None if table is None else table.values[[row_of[track] for track in ids]]
    files = None if found is None else [found[track][1] for track in ids]
    of_pictures = None if files is None else pictures_digest(ids, files)
    pictures = None
    if files is not None and of_pictures is not None:
        pictures = Pictures(cached_pictures(files, of_pictures), np.arange(len(files)))
    return Tracks(
        folder=folder,
        ids=ids,
        genres=genres,
        labels=np.array([genres.index(genre_of[track]) for track in ids], dtype=np.int64),
        columns=() if features is None else FEATURE_COLUMNS,
        features=features,
        pictures=pictures,
        excluded=_excluded(table, found),
        duplicates=_duplicates(ids, _contents(features, files)),
        digest=_digest(genre_of, features, of_pictures),
        synthetic=(folder / MARKER_FILE).exists(),
    )


def with_crop(tracks: Tracks, splits: Iterable[Split], crops: Collection[Value]) -> Tracks:
    """Return the tracks prepared for these values of the hyperparameter `crop`; see `prepare_crop`."""
    return prepare_crop(tracks, splits) if "frame" in crops else tracks


def prepare_crop(tracks: Tracks, splits: Iterable[Split]) -> Tracks:
    """Return the tracks prepared for the crop `frame` on these splits; the first call fills the picture cache.

    The cache gets the bounds of each picture's content and, for the box of each split's train part, a file of the
    cropped pictures with 93 kB a picture. `tracks` are a whole data set with pictures.

    Raises DataError as `load_tracks` does.
    """
    assert tracks.pictures is not None
    found = find_pictures(tracks.folder / PICTURES_FOLDER)
    files = [found[track][1] for track in tracks.ids]
    pictures = replace(tracks.pictures, bounds=cached_bounds(tracks.pictures.path, files))
    for box in {pictures.box(tracks.indices(split.train)) for split in splits}:
        cache_crop(pictures.path, files, box)
    return replace(tracks, pictures=pictures)


def _checked_representations(folder: Path) -> tuple[FeatureTable | None, dict[str, tuple[str, Path]] | None]:
    """Return the feature table and the picture files of a folder; None for what the folder does not have."""
    csv_file, picture_folder = folder / FEATURES_FILE, folder / PICTURES_FOLDER
    if not folder.is_dir():
        raise DataError(f"there is no data folder {folder}", expected=_layout(), hint=GET_DATA)
    if not csv_file.exists() and not picture_folder.exists():
        raise DataError(f"{folder} holds no data set", expected=_layout(), hint=GET_DATA)
    table = read_features(csv_file) if csv_file.exists() else None
    found = find_pictures(picture_folder) if picture_folder.exists() else None
    if found is not None and not found:
        raise DataError(f"{picture_folder} holds no pictures", expected=_layout(), hint=GET_DATA)
    if found is not None and cache_folder().resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"the picture cache {cache_folder()} lies inside the data folder {folder}",
            expected="a folder elsewhere: data folders are only read",
            hint="the same command with HARNESS_CACHE=FOLDER in the environment",
        )
    return table, found


def _digest(genre_of: Mapping[str, str], features: np.ndarray | None, of_pictures: str | None) -> str:
    """Return the SHA-256 over ids, genres, features [n, columns] and the digest of the pictures, sorted by id."""
    digest = hashlib.sha256()
    for track in sorted(genre_of):
        digest.update(f"{track} {genre_of[track]}\n".encode())
    if features is not None:
        digest.update("\n".join(FEATURE_COLUMNS).encode())
        digest.update(features.astype("<f8").tobytes())
    if of_pictures is not None:
        digest.update(of_pictures.encode())
    return digest.hexdigest()


def _contents(features: np.ndarray | None, files: Sequence[Path] | None) -> list[bytes]:
    """Return bytes for each track that are equal if two tracks are the same recording."""
    if features is not None:
        return [row.tobytes() for row in features]
    return [sha256_of(file).encode() for file in files or ()]


def _layout() -> str:
    return f"a folder with {FEATURES_FILE}, {PICTURES_FOLDER}/GENRE/GENRENNNNN.png, or both"


def _join(folder: Path, table: FeatureTable | None, found: dict[str, tuple[str, Path]] | None) -> dict[str, str]:
    """Return the genre of each track that has every representation of the data set."""
    of_table = None if table is None else dict(zip(table.ids, table.genres, strict=True))
    of_pictures = None if found is None else {track: genre for track, (genre, _) in found.items()}
    if of_table is None or of_pictures is None:
        return of_table or of_pictures or {}
    both = {track: genre for track, genre in of_table.items() if track in of_pictures}
    if not both:
        raise DataError(
            f"{folder}: no track has both features and a picture "
            f"(features: {next(iter(of_table))} ..., pictures: {next(iter(of_pictures))} ...)",
            expected="the same ids in both, as blues.00000.wav and blues00000.png",
        )
    return both


def _excluded(table: FeatureTable | None, found: dict[str, tuple[str, Path]] | None) -> dict[str, str]:
    if table is None or found is None:
        return {}
    reasons = {track: "features but no picture" for track in table.ids if track not in found}
    have_features = set(table.ids)
    reasons |= {track: "picture but no features" for track in found if track not in have_features}
    return dict(sorted(reasons.items()))


def _shortage(genres: Iterable[str]) -> str | None:
    """Return what is too few for a split, given the genre of each track, or None if they are enough."""
    counts = Counter(genres)
    if len(counts) < MINIMUM_GENRES:
        return f"one genre only, {next(iter(counts))!r}"
    few = [f"{count} of {genre!r}" for genre, count in sorted(counts.items()) if count < MINIMUM_TRACKS]
    return f"too few usable tracks: {', '.join(few)}" if few else None


def _duplicates(ids: tuple[str, ...], contents: list[bytes]) -> tuple[tuple[str, ...], ...]:
    groups: dict[bytes, list[str]] = {}
    for track, content in zip(ids, contents, strict=True):
        groups.setdefault(content, []).append(track)
    return tuple(sorted(tuple(group) for group in groups.values() if len(group) > 1))
