"""The tracks as points: principal components, tracks that lie far out, pairs that lie close together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from harness.data.describe.columns import varying
from harness.data.tracks import Tracks

PARTS = ("train", "validation")
FAR = 5.0  # standard deviations from the mean of the train part
LEAST_TRACKS = 3  # in the train part: with fewer there is no plane
LOADED = 5  # columns that are named for a component
CLOSEST = 10  # pairs that are named


@dataclass(frozen=True, slots=True)
class Component:
    """One principal component: its share of the variance, and the columns with the largest weights in it."""

    explained: float
    weights: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """The principal components of the train part, and where tracks lie on the first two.

    `train` and `valid` are float64 [n, 2], in the order of the tracks.
    """

    components: tuple[Component, ...]
    train: np.ndarray
    valid: np.ndarray

    @property
    def needed(self) -> int:
        """How many components explain 90 % of the variance."""
        explained = np.cumsum([component.explained for component in self.components])
        return min(len(explained), int(np.searchsorted(explained, 0.9 - 1e-9)) + 1)


@dataclass(frozen=True, slots=True)
class FarTrack:
    """A track that lies far out in `columns` columns, and the one in which it does most.

    `deviations` is the distance of `value` from the mean of the train part, in its standard deviations.
    """

    track: str
    part: str
    columns: int
    column: str
    value: float
    mean: float
    deviations: float


@dataclass(frozen=True, slots=True)
class Close:
    """Two tracks that are not identical, and their distance in units of the usual one to the nearest track."""

    a: str
    b: str
    distance: float


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What the scaled features say of the tracks; the scaler and the components are fitted on the train part.

    `plane` is None if the train part has too few tracks. `far` has the farthest track first, `close` the closest
    pair.
    """

    plane: Plane | None
    far: tuple[FarTrack, ...]
    close: tuple[Close, ...]


def points_of(train: Tracks, valid: Tracks) -> Points:
    """Return what the scaled features say of these tracks, which have features, without those of `not_music`."""
    assert train.features is not None
    assert valid.features is not None
    varied = zip(train.columns, varying(train.features), strict=True)
    columns = tuple(name for name, is_varied in varied if is_varied and name not in train.not_music)
    if not columns:
        return Points(None, (), ())
    places = [train.columns.index(name) for name in columns]
    values = [features[:, places] for features in (train.features, valid.features)]
    scaler = StandardScaler().fit(values[0])
    # 0 is the mean of the train part, which stands for a missing value.
    scaled = [np.nan_to_num(scaler.transform(part), nan=0.0) if len(part) else part for part in values]
    far = [
        FarTrack(
            track=tracks.ids[row],
            part=part,
            columns=int((np.abs(rows[row]) > FAR).sum()),
            column=columns[most],
            value=float(raw[row, most]),
            mean=float(scaler.mean_[most]),
            deviations=float(rows[row, most]),
        )
        for tracks, part, raw, rows in zip((train, valid), PARTS, values, scaled, strict=True)
        for row, most in enumerate(np.abs(rows).argmax(axis=1))
        if abs(rows[row, most]) > FAR
    ]
    return Points(
        plane=_plane(columns, scaled[0], scaled[1]),
        far=tuple(sorted(far, key=lambda track: -abs(track.deviations))),
        close=_closest(train.ids + valid.ids, np.concatenate(scaled)),
    )


def _plane(columns: tuple[str, ...], train: np.ndarray, valid: np.ndarray) -> Plane | None:
    if len(train) < LEAST_TRACKS or len(columns) < 2:
        return None
    fitted = PCA(svd_solver="full").fit(train)
    components = []
    for share, weights in zip(fitted.explained_variance_ratio_, fitted.components_, strict=True):
        largest = np.argsort(-np.abs(weights), kind="stable")[:LOADED]
        components.append(Component(float(share), tuple((columns[i], float(weights[i])) for i in largest)))
    return Plane(
        tuple(components),
        fitted.transform(train)[:, :2],
        fitted.transform(valid)[:, :2] if len(valid) else np.empty((0, 2)),
    )


def _closest(ids: tuple[str, ...], scaled: np.ndarray) -> tuple[Close, ...]:
    """Return the closest pairs of different points. Of identical tracks the first stands for all."""
    points, first = np.unique(scaled, axis=0, return_index=True)
    if len(points) < LEAST_TRACKS:
        return ()
    distances, neighbours = NearestNeighbors(n_neighbors=2).fit(points).kneighbors()
    usual = float(np.median(distances[:, 0]))
    if usual == 0:
        return ()
    pairs = {
        tuple(sorted((ids[first[row]], ids[first[other]]))): float(distance) / usual
        for row, (near, lengths) in enumerate(zip(neighbours, distances, strict=True))
        for other, distance in zip(near, lengths, strict=True)
    }
    nearest = sorted(pairs.items(), key=lambda pair: (pair[1], pair[0]))[:CLOSEST]
    return tuple(Close(a, b, distance) for (a, b), distance in nearest)
