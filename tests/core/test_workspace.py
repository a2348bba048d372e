"""The locations of the stores and the legal names in them."""

import os
import socket
from pathlib import Path

import pytest

from harness.core.errors import SettingsError
from harness.core.workspace import check_name, check_new_name, lasting_name, recorded_name, resolve_stores
from harness.study import open_storage
from harness.tracking import Tracker
from tests.support.sweeps import make_workspace


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", "-a", "a'b", "x" * 141])
def test_names_that_are_refused(name: str) -> None:
    for check in (check_name, check_new_name):
        with pytest.raises(SettingsError, match="usable name"):
            check("study", name)


def test_a_part_may_have_a_longer_name_than_a_user_may_give() -> None:
    longest = "x" * 100
    assert check_new_name("study", longest) == longest
    with pytest.raises(SettingsError, match=r"(?s)usable name.*up to 100 letters"):
        check_new_name("study", f"{longest}x")
    part = f"{longest}.nested-01234567-99.confirm"
    assert check_name("study", part) == part


def test_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stores = resolve_stores(None, None)
    assert stores.tracking_uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert stores.storage == f"sqlite:///{tmp_path}/mlruns/optuna.db"
    assert stores.work_root == tmp_path / "mlruns" / "work"
    assert stores.work_folder("s") == tmp_path / "mlruns" / "work" / "s"
    beside = resolve_stores("http://127.0.0.1:5000", "sqlite:///other/search.db")
    assert beside.storage == f"sqlite:///{tmp_path}/other/search.db"
    assert beside.work_root == tmp_path / "other" / "search.db.work"
    assert resolve_stores(None, "sqlite:///other/optuna.db").work_root == tmp_path / "other" / "work"
    server = resolve_stores("http://mlflow:5000", "postgresql://me:secret@db/optuna")
    assert server.storage == "postgresql+psycopg://me:secret@db/optuna"
    assert server.work_root == tmp_path / "mlruns" / "db_optuna.work"
    for url, name in (
        ("postgresql://me:p[w@h:5432/optuna", "h_5432_optuna.work"),
        ("postgresql://me:pa/ss@h/optuna?sslmode=require", "h_optuna.work"),
        ("postgresql://", "server.work"),
    ):
        assert resolve_stores(None, url).work_root.name == name
    assert server.work_folder("s") == server.work_root / "s" / socket.gethostname()
    with pytest.raises(SettingsError, match="same database"):
        resolve_stores("postgresql+psycopg://db/one", "postgres://db/one")
    with pytest.raises(SettingsError, match="same database"):
        resolve_stores("sqlite:///one.db", "sqlite:///one.db")
    with pytest.raises(SettingsError, match="same database"):
        resolve_stores("sqlite:///mlruns/optuna.db", None)
    for no_url in ("mlruns", "sqlite.db"):
        with pytest.raises(SettingsError, match="not a URL"):
            resolve_stores(no_url, None)
    with pytest.raises(SettingsError, match="not the URL of a storage"):
        resolve_stores(None, "mysql://me:secret@db/optuna")
    for memory in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(SettingsError, match="gone when the command ends"):
            resolve_stores(memory, None)
        with pytest.raises(SettingsError, match="gone when the command ends"):
            resolve_stores(None, memory)


@pytest.mark.parametrize("name", ["a?b", "50%20", "{x}", "a'b\"c"])
def test_a_folder_that_no_url_can_name_is_refused_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(SettingsError, match="a store cannot lie at") as error:
        resolve_stores(None, None)
    assert str(folder) in error.value.found
    with pytest.raises(SettingsError, match="a store cannot lie at"):
        resolve_stores("http://127.0.0.1:5000", "sqlite:///mine/optuna.db")
    assert list(folder.iterdir()) == []
    # With stores elsewhere the folder may have any name.
    stores = resolve_stores("http://127.0.0.1:5000", f"sqlite:///{tmp_path}/optuna.db")
    assert stores.work_root == tmp_path / "work"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a'b", "a#b", "a b", "Ⅳ"])
def test_other_odd_folders_hold_both_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_stores: Path, name: str
) -> None:
    make_workspace(tmp_path / name, empty_stores)
    monkeypatch.chdir(tmp_path / name)
    stores = resolve_stores(None, None)
    open_storage(stores.storage, create=False).engine.dispose()
    Tracker(stores.tracking_uri, create=False).close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a" * 1_000_000, b"", b"0" * 31 + b"\n"])
def test_a_file_without_a_name_gets_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ".machine"
    path.write_bytes(content)
    assert recorded_name(path) == ""
    name = lasting_name(path)
    assert path.read_text() == name == lasting_name(path) == recorded_name(path)
    assert len(name) == 32


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / os.fsdecode(b"a\xffb")
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(SettingsError, match="not UTF-8"):
        resolve_stores(None, None)
    assert list(folder.iterdir()) == []
