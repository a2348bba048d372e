"""Files that are watched while they are open."""

from pathlib import Path

from harness.core.watched import WatchedFile


def test_a_file_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("one")
    watched = WatchedFile(path)
    assert watched.is_in_place()
    path.write_text("written to")
    assert watched.is_in_place()


def test_a_file_that_is_replaced_or_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("one")
    watched = WatchedFile(path)
    (tmp_path / "copy").write_text("one")
    (tmp_path / "copy").replace(path)
    assert not watched.is_in_place()
    path.unlink()
    assert not watched.is_in_place()


def test_a_file_that_is_moved_away_and_back(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("one")
    watched = WatchedFile(path)
    path.rename(tmp_path / "elsewhere")
    assert not watched.is_in_place()
    (tmp_path / "elsewhere").rename(path)
    assert watched.is_in_place()
