"""Atomic writing of files, file locks, atomic creation of SQLite databases."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

# Errors of the operating system for a full or read-only disk, a quota, or missing permissions.
REFUSED_WRITES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

MAX_NOTE = 10_000  # characters of a lock's note that are read; a worker's id has a hundred
LOOK_SECONDS = 0.01  # before a lock that is taken is tried again


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path`; it atomically replaces `path` when the block ends.

    On an exception the temporary file is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _make_beside(path, Path.touch)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """Yield a new folder to write into; its files replace those of the same names in `folder` when the block ends.

    A new `folder` appears whole; into one that is there each file is moved whole, one after another. On an
    exception in the block `folder` stays as it was.
    """
    is_there = folder.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    working = new_folder(folder / "new" if is_there else folder)  # inside: it may be the only place to write to
    try:
        yield working
        for path in working.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())
        if not is_there:
            working.rename(folder)
            return
        for path in sorted(working.iterdir()):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(working, ignore_errors=True)


@contextmanager
def with_parents(path: Path) -> Iterator[None]:
    """Make the parents of a path for the block; those that it made go again if the block raises."""
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for parent in missing:  # the innermost first
            with suppress(OSError):  # somebody has put something into it
                parent.rmdir()
        raise


def new_folder(path: Path) -> Path:
    """Make a temporary folder beside `path`, to be filled and then renamed to it."""
    return _make_beside(path, Path.mkdir)


def _make_beside(path: Path, make: Callable[..., None]) -> Path:
    """Make a file or a folder of a new name beside `path`.

    It has the permissions that the umask leaves; those that `tempfile` makes are the owner's alone.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            make(temporary, exist_ok=False)
        except FileExistsError:
            continue
        return temporary


def regular(path: Path) -> Path:
    """Return the path, of a file that is to be read.

    Raises OSError if it is a pipe, a socket or a device: to read one may take for ever.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder is refused when it is opened
        raise OSError(errno.ENODEV, "not a regular file", str(path))
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes (64 hex digits)."""
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileLock:
    """An exclusive `flock` on a file. The kernel releases it when the process ends, for whatever reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._file is not None

    def acquire(self, *, wait: bool = True, patience: float = 0.0, create: bool = True) -> bool:
        """Acquire the lock and return True; with `wait=False` return False if it is locked already.

        `patience`: with `wait=False`, the seconds for which it is tried again. A process that only asks `is_taken`
        locks the file for a moment.
        With `create=False` nothing is written: return False if there is no lock file.
        """
        while True:
            if create:  # each time: the previous owner may have removed the folder
                self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = self.path.open("ab" if create else "rb")
            except FileNotFoundError:
                if not create:
                    return False
                if self.path.is_symlink():  # to nowhere: it would be tried for ever
                    raise
                continue
            if not self._flock(file, wait=wait, patience=patience):
                file.close()
                return False
            if self._is_current(file):
                self._file = file
                return True
            file.close()  # the previous owner removed the file: lock the new one

    @staticmethod
    def _flock(file: IO[bytes], *, wait: bool, patience: float) -> bool:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(LOOK_SECONDS)
            else:
                return True

    def is_taken(self) -> bool:
        """Return True if any process has the lock. Nothing is made or changed."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return False
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _is_current(self, file: IO[bytes]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def annotate(self, note: str) -> None:
        """Write a note into the lock's file. Other processes can read it, also after this one has died."""
        assert self._file is not None
        self._file.truncate(0)
        self._file.write(note.encode())
        self._file.flush()

    def note(self) -> str:
        """Return the note of the last owner, empty if there is none. What is not UTF-8 in it becomes U+FFFD."""
        try:
            with regular(self.path).open(encoding="utf-8", errors="replace") as file:
                return file.read(MAX_NOTE)
        except FileNotFoundError:
            return ""

    def release(self, *, remove: bool = False) -> None:
        """Release the lock. `remove` deletes the file before that, so that no process locks a deleted file."""
        if self._file is None:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        self._file.close()
        self._file = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def make_database(path: Path, fill: Callable[[str], None]) -> None:
    """Make an SQLite file atomically, in WAL mode, unless it exists. `fill` gets a URL and makes the schema there.

    A schema takes many statements that SQLite does not undo together. The file has a temporary name until it is
    complete, so that nobody opens what a killed process left. Processes that start together wait for one another.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return
        new = path.with_name(f".{path.name}.new")
        for leftover in path.parent.glob(f"{new.name}*"):
            leftover.unlink()
        fill(f"sqlite:///{new}")
        connection = sqlite3.connect(new)
        try:
            # The mode is stored in the file. Readers do not block the writer, and commits are cheaper.
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()
        new.replace(path)


def read_only_name(path: Path) -> str:
    """Return SQLite's URI for reading a database without writing anything.

    An ordinary reader of a database in WAL mode makes side files and, if it is the last to close it, moves the
    content of `-wal` into the database. With `mode=ro` a reader does neither if `-wal` exists; it may still change
    `-shm`, which is shared memory and has no data. If `-wal` does not exist, no process has the database open, and
    `immutable` prevents SQLite from making side files. Close such a connection before this process opens the
    database for writing: closing a file that SQLite does not track drops the process's locks on it.
    Source: https://www.sqlite.org/wal.html, Read-Only Databases; https://www.sqlite.org/howtocorrupt.html, 2.2.
    """
    mode = "mode=ro"
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() and _is_in_wal_mode(path):  # in this order, because reading the file also closes it
        mode += "&immutable=1"
    return f"file:{quote(str(path))}?{mode}"


def read_only_url(path: Path) -> str:
    """Return the SQLAlchemy URL for reading an SQLite database without writing anything."""
    # With the driver in the URL, because MLflow makes a folder `file:` for a URL that begins with `sqlite:///`.
    return f"sqlite+pysqlite:///{read_only_name(path)}&uri=true"


def _is_in_wal_mode(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(20)[18:] == b"\x02\x02"


def tables_of(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the tables of an SQLite database."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite URL, or None for any other URL."""
    scheme, _, rest = url.partition("://")
    if scheme.partition("+")[0] != "sqlite" or not rest.startswith("/"):
        return None
    return Path(rest[1:].partition("?")[0])
