import fcntl
import multiprocessing
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from harness.core.files import (
    FileLock,
    make_database,
    new_folder,
    regular,
    replacing,
    replacing_files,
    sha256_of,
    sqlite_path,
)


def test_replacing_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_puts_the_whole_file_in_place(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "file") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "new" / "file").read_text() == "whole"
    assert len(list((tmp_path / "new").iterdir())) == 1


def hold_lock(path: Path, ready: str) -> None:
    lock = FileLock(path)
    lock.acquire()
    Path(ready).touch()
    time.sleep(60)


def test_a_lock_excludes_and_dies_with_its_process(tmp_path: Path) -> None:
    path, ready = tmp_path / "lock", tmp_path / "ready"
    process = multiprocessing.get_context("spawn").Process(target=hold_lock, args=(path, str(ready)))
    process.start()
    while not ready.exists():
        assert process.is_alive()
    lock = FileLock(path)
    assert not lock.acquire(wait=False)
    process.kill()
    process.join()
    assert lock.acquire(wait=False)
    lock.release(remove=True)
    assert not path.exists()


def test_a_look_at_a_lock_does_not_refuse_who_has_patience(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    lock = FileLock(path)
    with path.open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as `is_taken` does for a moment
        assert not lock.acquire(wait=False, patience=0.05)
        threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        assert lock.acquire(wait=False, patience=30)
    lock.release()


def test_a_removed_lock_file_is_no_lock(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()
    first.release(remove=True)
    assert second.acquire(wait=False)
    assert not FileLock(tmp_path / "lock").acquire(wait=False)
    second.release()


def test_a_database_half_made_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    def fill(url: str) -> None:
        file = sqlite_path(url)
        assert file is not None
        with sqlite3.connect(file) as connection:
            connection.execute("create table one (id integer)")
        connection.close()

    def fail(url: str) -> None:
        fill(url)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_database(path, fail)
    assert not path.exists()
    make_database(path, fill)
    connection = sqlite3.connect(path)
    assert connection.execute("select name from sqlite_master").fetchall() == [("one",)]
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    connection.close()
    make_database(path, fail)  # it exists: nothing is made


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///runs/a.db", Path("runs/a.db")),
        ("sqlite:////abs/a.db", Path("/abs/a.db")),
        ("sqlite+pysqlite:////abs/a.db?timeout=3", Path("/abs/a.db")),
        ("postgresql+psycopg://host/db", None),
        ("http://127.0.0.1:5000", None),
    ],
)
def test_sqlite_path(url: str, path: Path | None) -> None:
    assert sqlite_path(url) == path


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o002, 0o664)])
def test_new_files_have_the_permissions_that_the_umask_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        with monkeypatch.context() as patch:
            # Another thread may make a file while the umask is another.
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
            with replacing(tmp_path / "file") as temporary:
                temporary.write_text("x", encoding="utf-8")
            new_folder(tmp_path / "folder").rename(tmp_path / "folder")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert (tmp_path / "folder").stat().st_mode & 0o777 == mode | (0o111 & ~mask)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(OSError, match="not a regular file"):
            sha256_of(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        regular(tmp_path / "none")
    assert regular(tmp_path) == tmp_path


def test_the_note_of_a_lock_may_be_anything(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.note() == ""
    lock.path.write_bytes(b"\xff\xfe")
    assert lock.note() == "\ufffd\ufffd"
    lock.path.write_bytes(b"a" * 1_000_000)
    assert len(lock.note()) < 20_000


@pytest.mark.parametrize("is_there", [False, True])
def test_files_of_a_folder_are_replaced_together(tmp_path: Path, is_there: bool) -> None:
    folder = tmp_path / "out"
    if is_there:
        folder.mkdir()
        (folder / "report").write_text("old")
        (folder / "mine").write_text("stays")
    before = {path.name: path.read_text() for path in folder.glob("*")}

    def fill(report: str, *, fails: bool) -> None:
        with replacing_files(folder) as new:
            (new / "report").write_text(report)
            if fails:
                raise KeyboardInterrupt
            (new / "table").write_text(report)

    with pytest.raises(KeyboardInterrupt):
        fill("half", fails=True)
    assert {path.name: path.read_text() for path in folder.glob("*")} == before
    fill("new", fails=False)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before | {"report": "new", "table": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
