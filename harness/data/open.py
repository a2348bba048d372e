"""Data folders opened by name, or as a record names them."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import DataError
from harness.core.study_record import StudyContext
from harness.data import Tracks, demo_data_folder, load_tracks


def load_data(name: str) -> Tracks:
    """Read the data folder of that name; `demo` is the synthetic set, made on first use."""
    return load_tracks(demo_data_folder() if name == "demo" else Path(name))


def recorded_folder(context: StudyContext) -> str:
    """Return where a study's data are by its record; or demo where synthetic ones are gone."""
    folder = context.dataset.folder
    return "demo" if context.synthetic and not Path(folder).exists() else folder


def load_recorded_data(name: str, digest: str) -> Tracks:
    """Read a data folder that a record speaks of.

    Raises DataError where it holds other data than were recorded.
    """
    return check_recorded(load_data(name), digest)


def check_recorded(tracks: Tracks, digest: str) -> Tracks:
    """Return the tracks, which are those that were recorded.

    Raises DataError where they are not.
    """
    if tracks.digest != digest:
        raise DataError(
            f"{tracks.folder} holds other data than the study was made on "
            f"(digest {tracks.digest[:12]}, recorded {digest[:12]})",
            expected="the data folder as it was, the same on every machine",
            hint="harness data check, or --data with the folder that was used",
        )
    return tracks


def default_experiment(tracks: Tracks) -> str:
    """Return the experiment that a data set's runs go into: the synthetic set has one of its own."""
    return "demo" if tracks.synthetic else "gtzan"
