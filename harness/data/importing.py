"""Bringing a data set into `input/`: from Kaggle's zip, from an unpacked folder, from Kaggle itself."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from harness.data.features import FEATURES_FILE
from harness.data.images import HIDDEN, PICTURES_FOLDER, find_pictures
from harness.data.tracks import load_tracks
from harness.errors import DataError

KAGGLE_SLUG = "andradaolteanu/gtzan-dataset-music-genre-classification"
MIB = 1 << 20
LARGEST_CSV, LARGEST_PICTURE, LARGEST_TOTAL = 64 * MIB, 16 * MIB, 4096 * MIB
MOST_FILES = 20_000
LEGAL = f"Kaggle's zip, or a folder with {FEATURES_FILE} and {PICTURES_FOLDER}/ in it (or in its Data/)"


def import_data(source: Path, destination: Path) -> None:
    """Lay out `destination` as a data folder from a zip or an unpacked folder, checked before it is put in place.

    Only the CSV of 30-second features and the PNG pictures are taken. Nothing that `source` says about names or
    sizes is trusted: names may not climb, sizes are counted while reading. On any failure nothing is left.

    Raises DataError where the source holds no data set or a bad one, or the destination holds one already.
    """
    for name in (FEATURES_FILE, PICTURES_FOLDER):
        if (destination / name).exists():
            raise DataError(
                f"{destination / name} is there already",
                legal="a destination without a data set",
                run="move it away first, or --out OTHER",
            )
    if not source.exists():
        raise DataError(f"there is no {source}", legal=LEGAL, run="harness data fetch, to download the data set")
    with _working_folder(destination) as working:
        if source.is_dir():
            _copy_folder(source, working)
        else:
            _unpack(source, working)
        _nest(working / PICTURES_FOLDER)
        load_tracks(working)
        _put_in_place(working, destination)


def fetch_data(destination: Path) -> None:
    """Download GTZAN from Kaggle with kagglehub (extra `[fetch]`), then import it.

    Raises DataError where kagglehub is not installed or the download fails.
    """
    try:
        import kagglehub
    except ImportError:
        raise DataError(
            "downloading needs the package kagglehub", legal="the extra [fetch]", run="pip install -e '.[fetch]'"
        ) from None
    try:
        folder = kagglehub.dataset_download(KAGGLE_SLUG)
    except Exception as error:
        raise DataError(
            f"the download of {KAGGLE_SLUG} failed: {error}",
            legal="a network, and Kaggle credentials where it asks for them",
            run=f"download it by hand from kaggle.com/datasets/{KAGGLE_SLUG}, then harness data import ZIP",
        ) from error
    import_data(Path(folder), destination)


@contextmanager
def _working_folder(destination: Path) -> Iterator[Path]:
    made = [folder for folder in (destination, *destination.parents) if not folder.exists()]
    destination.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=".import.", dir=destination))
    try:
        yield working
    finally:
        shutil.rmtree(working, ignore_errors=True)
        for folder in made:  # empty only where nothing was put in place
            if any(folder.iterdir()):
                break
            folder.rmdir()


def _put_in_place(working: Path, destination: Path) -> None:
    moved: list[Path] = []
    try:
        for name in (PICTURES_FOLDER, FEATURES_FILE):
            if (working / name).exists():
                (working / name).rename(destination / name)
                moved.append(destination / name)
    except BaseException:
        for path in moved:
            path.rename(working / path.name)
        raise


def _wanted(name: str) -> PurePosixPath | None:
    """Return where an entry belongs in the data folder, or None for what is not taken.

    Raises DataError for a wanted file whose name climbs out of the folder.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if any(HIDDEN.fullmatch(part) for part in parts if part != "..") or "__MACOSX" in parts:
        return None
    if parts[-1:] == (FEATURES_FILE,):
        target = PurePosixPath(FEATURES_FILE)
    elif PICTURES_FOLDER in parts and name.lower().endswith(".png"):
        target = PurePosixPath(*parts[parts.index(PICTURES_FOLDER) :])
    else:
        return None
    if ".." in parts or parts[0] == "/" or ":" in parts[0]:
        raise DataError(f"the archive's entry {name!r} points outside its folder", legal="relative names")
    if len(target.parts) > 3:
        raise DataError(
            f"the entry {name!r} lies too deep", legal=f"{PICTURES_FOLDER}/GENRE/GENRENNNNN.png, or without GENRE/"
        )
    return target


class _Budget:
    """Bounds on what an import may write, counted as it is written."""

    def __init__(self) -> None:
        self._left, self._files = LARGEST_TOTAL, 0

    def copy(self, name: str, source: BinaryIO, target: Path) -> None:
        self._files += 1
        if self._files > MOST_FILES:
            raise DataError(f"more than {MOST_FILES} files to import", legal=f"up to {MOST_FILES} pictures")
        if target.exists():
            raise DataError(f"{name!r}: {target.name} comes twice", legal="each file once")
        bound = min(LARGEST_CSV if target.name == FEATURES_FILE else LARGEST_PICTURE, self._left)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while block := source.read(MIB):
                bound -= len(block)
                self._left -= len(block)
                if bound < 0:
                    raise DataError(
                        f"{name!r} is too large",
                        legal=f"{LARGEST_CSV // MIB} MiB for the CSV, {LARGEST_PICTURE // MIB} MiB a picture, "
                        f"{LARGEST_TOTAL // MIB} MiB in all",
                    )
                file.write(block)


def _unpack(source: Path, working: Path) -> None:
    budget = _Budget()
    try:
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                target = None if entry.is_dir() else _wanted(entry.filename)
                if target is not None:
                    with archive.open(entry) as file:
                        budget.copy(entry.filename, file, working / target)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        # RuntimeError is what zipfile raises for an encrypted entry.
        raise DataError(f"{source} cannot be unpacked: {error}", legal=LEGAL) from error
    _check_found(source, working)


def _copy_folder(source: Path, working: Path) -> None:
    root = next((f for f in (source, source / "Data") if _has_data(f)), None)
    if root is None:
        raise DataError(f"{source} holds no data set", legal=LEGAL)
    budget = _Budget()
    files = [root / FEATURES_FILE, *sorted((root / PICTURES_FOLDER).rglob("*"))]
    for path in files:
        target = _wanted(path.relative_to(root).as_posix())
        if target is None or not path.is_file():
            continue
        if path.is_symlink() or any(
            parent.is_symlink() for parent in path.relative_to(root).parents if parent.name
        ):
            raise DataError(f"{path} is a link", legal="plain files")
        try:
            with path.open("rb") as file:
                budget.copy(str(path), file, working / target)
        except OSError as error:
            raise DataError(f"{path} cannot be copied: {error}", legal=LEGAL) from error
    _check_found(source, working)


def _has_data(folder: Path) -> bool:
    return (folder / FEATURES_FILE).is_file() or (folder / PICTURES_FOLDER).is_dir()


def _check_found(source: Path, working: Path) -> None:
    if not _has_data(working):
        raise DataError(f"{source} holds no data set", legal=LEGAL)


def _nest(folder: Path) -> None:
    """Move flattened pictures into a folder for each genre."""
    if folder.is_dir():
        for track, (genre, file) in find_pictures(folder).items():
            nested = folder / genre / f"{genre}{track.rpartition('.')[2]}.png"
            if file != nested:
                nested.parent.mkdir(exist_ok=True)
                file.rename(nested)
