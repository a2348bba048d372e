"""Files that appear whole or not at all, locks that die with their process, databases made in one step."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

# What the operating system says when it is the disk, the quota or the permissions, and not the program.
REFUSED_WRITES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the folder of `path`; on success it takes the place of `path` in one step.

    On any exception the temporary file is removed and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner may read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes (64 hex digits)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileLock:
    """An exclusive `flock` on a file: the kernel lets go of it when the process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    def acquire(self, *, wait: bool = True, create: bool = True) -> bool:
        """Take the lock and return True; with `wait=False` return False at once where another holds it.

        With `create=False` nothing is written: return False where there is no lock file.
        """
        if create:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                file = self.path.open("ab" if create else "rb")
            except FileNotFoundError:
                if create:
                    raise
                return False
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                file.close()
                return False
            if self._is_current(file):
                self._file = file
                return True
            file.close()  # the worker_id before us removed the file: lock the new one

    def is_taken(self) -> bool:
        """Return whether any process holds the lock; nothing is made or changed."""
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
        """Write into the held lock's file, for others to read, now and after this process's death."""
        assert self._file is not None
        self._file.truncate(0)
        self._file.write(note.encode())
        self._file.flush()

    def note(self) -> str:
        """Return what the last worker_id wrote into the file, empty where there is none."""
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return ""

    def release(self, *, remove: bool = False) -> None:
        """Let go of the lock; with `remove` the file goes first, so that nobody locks what is about to vanish."""
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
    """Make an SQLite file in one step, in WAL mode, unless it exists: `fill` gets the URL to build it under.

    A schema is made by many statements that SQLite does not undo together; killed half-way, the file that
    remains is under a temporary name and nobody opens it. Processes that start at once wait for one another.
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
            # Write-ahead logging lasts in the file: readers no longer block the writer, commits are cheaper.
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()
        new.replace(path)


def read_only_name(path: Path) -> str:
    """Return SQLite's URI of a database that is to be read and in no way written.

    An ordinary reader of a database in WAL mode makes side files and, as the last to close it, moves what is in
    `-wal` into the database. Opened with `mode=ro` it does neither where `-wal` exists; it may still touch `-shm`,
    which is shared memory and holds no data. Where `-wal` does not exist, no process has the database open, and
    `immutable` keeps the side files from being made. Such a connection is to be closed before this process opens
    the database to write: closing a file that SQLite does not know of drops the process's locks on it.
    Source: https://www.sqlite.org/wal.html, Read-Only Databases; https://www.sqlite.org/howtocorrupt.html, 2.2.
    """
    mode = "mode=ro"
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() and _is_in_wal_mode(path):  # in this order: reading the file closes it, too
        mode += "&immutable=1"
    return f"file:{quote(str(path))}?{mode}"


def read_only_url(path: Path) -> str:
    """Return the SQLAlchemy URL of an SQLite database that is to be read and in no way written."""
    # The driver is named, since MLflow would make a folder called `file:` for a URL that begins with `sqlite:///`.
    return f"sqlite+pysqlite:///{read_only_name(path)}&uri=true"


def _is_in_wal_mode(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(20)[18:] == b"\x02\x02"


def sqlite_path(url: str) -> Path | None:
    """Return the file behind an SQLite URL, or None for any other kind of URL."""
    scheme, _, rest = url.partition("://")
    if scheme.partition("+")[0] != "sqlite" or not rest.startswith("/"):
        return None
    return Path(rest[1:].partition("?")[0])
