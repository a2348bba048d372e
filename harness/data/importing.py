"""Bringing a data set into `input/`: from Kaggle's zip, from an unpacked folder, from Kaggle itself."""

from __future__ import annotations

import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from harness.core.errors import DataError
from harness.data.features import FEATURES_FILE
from harness.data.images import HIDDEN, PICTURES_FOLDER, find_pictures
from harness.data.tracks import MARKER_FILE, load_tracks

KAGGLE_SLUG = "andradaolteanu/gtzan-dataset-music-genre-classification"
MIB = 1 << 20
LARGEST_CSV, LARGEST_PICTURE, LARGEST_TOTAL = 64 * MIB, 16 * MIB, 4096 * MIB
MOST_FILES = 20_000
# What zipfile raises for archives that are damaged (ValueError: a name that is not UTF-8), encrypted
# (RuntimeError) or compressed in ways that it does not know.
UNZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
LAID_OUT = (MARKER_FILE, PICTURES_FOLDER, FEATURES_FILE)  # in the order in which they are put in place
LEGAL = f"Kaggle's zip, or a folder with {FEATURES_FILE} and {PICTURES_FOLDER}/ in it (or in its Data/)"


def import_data(source: Path, destination: Path) -> None:
    """Lay out `destination` as a data folder from a zip or an unpacked folder, checked before it is put in place.

    Only the CSV of 30-second features and the PNG pictures are taken, and the note that marks a synthetic set,
    which must not lose its name on the way. Nothing that `source` says about names or sizes is trusted: names
    may not climb, links are not followed, sizes are counted while reading. On any failure nothing is left.

    Raises DataError where the source holds no data set or a bad one, or the destination holds one already or
    cannot be written.
    """
    for name in reversed(LAID_OUT):
        if (destination / name).exists():
            raise DataError(
                f"{destination / name} is there already",
                expected="a destination without a data set",
                hint="move it away first, or --out OTHER",
            )
    if not source.exists():
        raise DataError(
            f"there is no {source}", expected=LEGAL, hint="harness data fetch, to download the data set"
        )
    with _working_folder(destination) as working:
        if source.is_dir():
            _copy_folder(source, working)
        else:
            _unpack(source, working)
        if not _has_data(working):
            raise DataError(f"{source} holds no data set", expected=LEGAL)
        try:
            _nest(working / PICTURES_FOLDER)
            load_tracks(working)
        except DataError as error:
            # The working folder is about to vanish: name what the user can mend.
            found = error.found.replace(str(working), str(source))
            raise DataError(
                found, expected=error.expected, hint="harness data import again, once it is mended"
            ) from error
        _put_in_place(working, destination)


def fetch_data(destination: Path) -> None:
    """Download GTZAN from Kaggle with kagglehub (extra `[fetch]`), then import it.

    Raises DataError where kagglehub is not installed or the download fails.
    """
    try:
        import kagglehub
    except ImportError:
        raise DataError(
            "downloading needs the package kagglehub",
            expected="the extra [fetch]",
            hint="pip install -e '.[fetch]'",
        ) from None
    try:
        folder = kagglehub.dataset_download(KAGGLE_SLUG)
    except Exception as error:
        raise DataError(
            f"the download of {KAGGLE_SLUG} failed: {error}",
            expected="a network, and Kaggle credentials where it asks for them",
            hint=f"download it by hand from kaggle.com/datasets/{KAGGLE_SLUG}, then harness data import ZIP",
        ) from error
    import_data(Path(folder), destination)


@contextmanager
def _working_folder(destination: Path) -> Iterator[Path]:
    """Give a folder to work in, inside the destination, so that what is ready is put in place by renaming."""
    missing = [folder for folder in (destination, *destination.parents) if not folder.exists()]
    working: Path | None = None
    try:
        try:
            destination.mkdir(parents=True, exist_ok=True)
            working = Path(tempfile.mkdtemp(prefix=".import.", dir=destination.absolute()))
        except OSError as error:
            raise _unwritable(destination, error) from error
        yield working
    finally:
        if working is not None:
            shutil.rmtree(working, ignore_errors=True)
        for folder in missing:
            if not folder.exists():
                continue
            if any(folder.iterdir()):  # something was put in place
                break
            folder.rmdir()


def _unwritable(destination: Path, error: OSError) -> DataError:
    return DataError(
        f"{destination} cannot be written: {error}", expected="a folder that can be written", hint="--out OTHER"
    )


def _put_in_place(working: Path, destination: Path) -> None:
    moved: list[Path] = []
    try:
        for name in LAID_OUT:
            if (working / name).exists():
                (working / name).rename(destination / name)
                moved.append(destination / name)
    except BaseException as error:
        for path in moved:
            path.rename(working / path.name)
        if isinstance(error, OSError):
            raise _unwritable(destination, error) from error
        raise


def _wanted(name: str) -> PurePosixPath | None:
    """Return where an entry belongs in the data folder, or None for what is not taken.

    Raises DataError for a wanted file whose name climbs out of the folder, or could not be shown in a message.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if any(HIDDEN.fullmatch(part) for part in parts if part != "..") or "__MACOSX" in parts:
        return None
    if parts[-1:] == (FEATURES_FILE,):
        target = PurePosixPath(FEATURES_FILE)
    elif PICTURES_FOLDER in parts and name.lower().endswith(".png"):
        target = PurePosixPath(*parts[parts.index(PICTURES_FOLDER) :])
    elif parts[-1:] == (MARKER_FILE,) and len(parts) <= 2:
        target = PurePosixPath(MARKER_FILE)
    else:
        return None
    if not name.isprintable():
        raise DataError(f"the entry {name!r} has characters that cannot be printed", expected="plain names")
    if ".." in parts or parts[0] == "/" or ":" in parts[0]:
        raise DataError(f"the entry {name!r} points outside its folder", expected="relative names")
    if len(target.parts) > 3:
        raise DataError(
            f"the entry {name!r} lies too deep",
            expected=f"{PICTURES_FOLDER}/GENRE/GENRENNNNN.png, or without GENRE/",
        )
    return target


class _Budget:
    """Bounds on what an import may write, counted as it is written."""

    def __init__(self) -> None:
        self._left, self._files = LARGEST_TOTAL, 0

    def copy(self, name: str, source: BinaryIO, target: Path) -> None:
        self._files += 1
        if self._files > MOST_FILES:
            raise DataError(f"more than {MOST_FILES} files to import", expected=f"up to {MOST_FILES} pictures")
        if target.exists():
            raise DataError(f"{name!r}: {target.name} comes twice", expected="each file once")
        bound = min(LARGEST_CSV if target.name == FEATURES_FILE else LARGEST_PICTURE, self._left)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while block := source.read(MIB):
                bound -= len(block)
                self._left -= len(block)
                if bound < 0:
                    raise DataError(
                        f"{name!r} is too large",
                        expected=f"{LARGEST_CSV // MIB} MiB for the CSV, {LARGEST_PICTURE // MIB} MiB a picture, "
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
    except UNZIP_ERRORS as error:
        raise DataError(f"{source} cannot be unpacked: {error}", expected=LEGAL) from error


def _copy_folder(source: Path, working: Path) -> None:
    root = next((folder for folder in (source, source / "Data") if _has_data(folder)), None)
    if root is None:
        raise DataError(f"{source} holds no data set", expected=LEGAL)
    budget = _Budget()
    try:
        for path in _listing(root):
            if path.is_symlink():
                raise DataError(f"{path} is a link", expected="plain files and folders")
            target = _wanted(path.relative_to(root).as_posix())
            if target is not None and path.is_file():
                with path.open("rb") as file:
                    budget.copy(str(path), file, working / target)
    except OSError as error:
        raise DataError(f"{source} cannot be copied: {error}", expected=LEGAL) from error


def _listing(root: Path) -> Iterator[Path]:
    """Yield what may be wanted of an unpacked folder, the links among it included, but nothing behind them."""

    def fail(error: OSError) -> None:
        raise error  # os.walk would go on without the folder that it cannot read

    yield from (root / name for name in LAID_OUT if os.path.lexists(root / name))
    if not (root / PICTURES_FOLDER).is_symlink() and (root / PICTURES_FOLDER).is_dir():
        for folder, folders, files in os.walk(root / PICTURES_FOLDER, onerror=fail):
            yield from (Path(folder) / name for name in sorted((*folders, *files)))


def _has_data(folder: Path) -> bool:
    return (folder / FEATURES_FILE).is_file() or (folder / PICTURES_FOLDER).is_dir()


def _nest(folder: Path) -> None:
    """Move flattened pictures into a folder for each genre."""
    if folder.is_dir():
        for track, (genre, file) in find_pictures(folder).items():
            nested = folder / genre / f"{genre}{track.rpartition('.')[2]}.png"
            if file != nested:
                nested.parent.mkdir(exist_ok=True)
                file.rename(nested)
