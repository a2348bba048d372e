"""Import a data set from Kaggle's zip, from an unpacked folder, or with a download from Kaggle."""

from __future__ import annotations

import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from harness.core.errors import DataError
from harness.core.files import regular, with_parents
from harness.data.images import find_pictures
from harness.data.layout import FEATURES_FILE, HIDDEN, MARKER_FILE, PICTURES_FOLDER
from harness.data.tracks import load_tracks

KAGGLE_SLUG = "andradaolteanu/gtzan-dataset-music-genre-classification"
MIB = 1 << 20
MAX_CSV, MAX_PICTURE, MAX_TOTAL = 64 * MIB, 16 * MIB, 4096 * MIB  # bytes
MAX_FILES = 20_000
# What zipfile raises for an archive that is damaged (ValueError: a name is not UTF-8), encrypted (RuntimeError) or
# compressed by an unknown method (NotImplementedError).
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
# What is imported, in the order in which it is moved to the destination.
IMPORTED = (MARKER_FILE, PICTURES_FOLDER, FEATURES_FILE)
EXPECTED_SOURCE = f"Kaggle's zip, or a folder with {FEATURES_FILE} and {PICTURES_FOLDER}/ in it (or in its Data/)"


def import_data(source: Path, destination: Path) -> None:
    """Import a data set from a zip or an unpacked folder to the data folder `destination`.

    Imported are the CSV of 30-second features, the PNG pictures, and the note that marks a synthetic set. The data
    set is checked before it is moved to `destination`; after a failure nothing is left there. Names and sizes in
    `source` are not trusted: a name may not point outside the folder, links are not followed, and the bytes are
    counted while they are read.

    Raises DataError if the source has no data set or a faulty one, and if the destination already has a data set
    or cannot be written.
    """
    for name in reversed(IMPORTED):
        if (destination / name).exists():
            raise DataError(
                f"{destination / name} is there already",
                expected="a destination without a data set",
                hint="move it away first, or --out OTHER",
            )
    if not source.exists():
        raise DataError(
            f"there is no {source}", expected=EXPECTED_SOURCE, hint="harness data fetch, to download the data set"
        )
    with _working_folder(destination) as working:
        if source.is_dir():
            _copy_folder(source, working)
        else:
            _unpack(source, working)
        if not _has_data(working):
            raise DataError(f"{source} holds no data set", expected=EXPECTED_SOURCE)
        try:
            _nest(working / PICTURES_FOLDER)
            load_tracks(working)
        except DataError as error:
            # The working folder is removed below: the message names the source file that the user can correct.
            found = error.found.replace(str(working), str(source))
            raise DataError(
                found, expected=error.expected, hint="correct it, then harness data import again"
            ) from error
        _move_into(destination, working)


def fetch_data(destination: Path) -> None:
    """Download GTZAN from Kaggle with kagglehub (extra `[fetch]`), then import it.

    Raises DataError if kagglehub is not installed or the download fails, and as `import_data` does.
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
            expected="a network connection, and Kaggle credentials if Kaggle asks for them",
            hint=f"download it by hand from kaggle.com/datasets/{KAGGLE_SLUG}, then harness data import ZIP",
        ) from error
    import_data(Path(folder), destination)


@contextmanager
def _working_folder(destination: Path) -> Iterator[Path]:
    """Make a temporary folder inside the destination, so that its content can be moved by a rename.

    At the end the temporary folder is removed, and so are new parent folders if the block raises.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(with_parents(destination / "content"))
            made = tempfile.TemporaryDirectory(prefix=".import.", dir=destination.absolute())
        except OSError as error:
            raise _unwritable(destination, error) from error
        yield Path(stack.enter_context(made))


def _unwritable(destination: Path, error: OSError) -> DataError:
    return DataError(
        f"{destination} cannot be written: {error}", expected="a folder that can be written", hint="--out OTHER"
    )


def _move_into(destination: Path, working: Path) -> None:
    """Move what was imported from the working folder to the destination: all of it, or nothing."""
    moved: list[Path] = []
    try:
        for name in IMPORTED:
            if (working / name).exists():
                (working / name).rename(destination / name)
                moved.append(destination / name)
    except BaseException as error:
        for path in moved:
            path.rename(working / path.name)
        if isinstance(error, OSError):
            raise _unwritable(destination, error) from error
        raise


def _target(name: str) -> PurePosixPath | None:
    """Return the path in the data folder for an entry of the source, or None if the entry is not imported.

    Raises DataError for an entry to import whose name points outside the folder or cannot be printed.
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
            f"the entry {name!r} is in too deep a folder",
            expected=f"{PICTURES_FOLDER}/GENRE/GENRENNNNN.png, or without GENRE/",
        )
    return target


class _BoundedCopy:
    """Copies files, and counts files and bytes: the sizes in the header of a zip may be wrong."""

    def __init__(self) -> None:
        self._left, self._files = MAX_TOTAL, 0

    def copy(self, name: str, source: BinaryIO, target: Path) -> None:
        """Write the bytes of `source`, called `name` in messages; raises DataError above a limit."""
        self._files += 1
        if self._files > MAX_FILES:
            raise DataError(f"more than {MAX_FILES} files to import", expected=f"up to {MAX_FILES} pictures")
        if target.exists():
            raise DataError(f"{name!r}: {target.name} comes twice", expected="each file once")
        limit = min(MAX_CSV if target.name == FEATURES_FILE else MAX_PICTURE, self._left)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while block := source.read(MIB):
                limit -= len(block)
                self._left -= len(block)
                if limit < 0:
                    raise DataError(
                        f"{name!r} is too large",
                        expected=f"up to {MAX_CSV // MIB} MiB for the CSV, {MAX_PICTURE // MIB} MiB a picture, "
                        f"{MAX_TOTAL // MIB} MiB in all",
                    )
                file.write(block)


def _unpack(source: Path, working: Path) -> None:
    files = _BoundedCopy()
    try:
        with zipfile.ZipFile(regular(source)) as archive:
            for entry in archive.infolist():
                target = None if entry.is_dir() else _target(entry.filename)
                if target is not None:
                    with archive.open(entry) as file:
                        files.copy(entry.filename, file, working / target)  # type: ignore[arg-type]
    except UNZIP_ERRORS as error:
        raise DataError(f"{source} cannot be unpacked: {error}", expected=EXPECTED_SOURCE) from error


def _copy_folder(source: Path, working: Path) -> None:
    root = next((folder for folder in (source, source / "Data") if _has_data(folder)), None)
    if root is None:
        raise DataError(f"{source} holds no data set", expected=EXPECTED_SOURCE)
    files = _BoundedCopy()
    try:
        for path in _listing(root):
            if path.is_symlink():
                raise DataError(f"{path} is a link", expected="plain files and folders")
            target = _target(path.relative_to(root).as_posix())
            if target is not None and path.is_file():
                with path.open("rb") as file:
                    files.copy(str(path), file, working / target)
    except OSError as error:
        raise DataError(f"{source} cannot be copied: {error}", expected=EXPECTED_SOURCE) from error


def _listing(root: Path) -> Iterator[Path]:
    """Yield the paths of an unpacked folder that may be imported; links are yielded, but not followed."""

    def fail(error: OSError) -> None:
        raise error  # by default os.walk skips a folder that it cannot read

    yield from (root / name for name in IMPORTED if os.path.lexists(root / name))
    if not (root / PICTURES_FOLDER).is_symlink() and (root / PICTURES_FOLDER).is_dir():
        for folder, folders, files in os.walk(root / PICTURES_FOLDER, onerror=fail):
            yield from (Path(folder) / name for name in sorted((*folders, *files)))


def _has_data(folder: Path) -> bool:
    return (folder / FEATURES_FILE).is_file() or (folder / PICTURES_FOLDER).is_dir()


def _nest(folder: Path) -> None:
    """Move flattened pictures into one folder for each genre."""
    if folder.is_dir():
        for track, (genre, file) in find_pictures(folder).items():
            nested = folder / genre / f"{genre}{track.rpartition('.')[2]}.png"
            if file != nested:
                nested.parent.mkdir(exist_ok=True)
                file.rename(nested)
