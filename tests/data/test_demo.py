import hashlib
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness.core.errors import DataError
from harness.data import Tracks, View, demo_data_folder, make_demo, stratified_split


def content(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.mark.long
def test_the_demo_set_is_always_the_same(demo_data: Path, tmp_path: Path) -> None:
    make_demo(tmp_path / "again")
    assert content(tmp_path / "again") == content(demo_data)


def test_the_demo_set_is_marked_as_synthetic(demo_data: Path) -> None:
    assert "synthetic" in (demo_data / "SYNTHETIC.md").read_text().lower()


def test_features_are_neither_hopeless_nor_easy(demo_tracks: Tracks) -> None:
    scores, raw = [], []
    for seed in range(4):
        data = View(demo_tracks, "features", demo_tracks.columns).training(
            stratified_split(demo_tracks, seed=seed)
        )
        x, y = data.train.tensor.numpy(), data.train.targets.numpy()
        valid = data.valid.tensor.numpy(), data.valid.targets.numpy()
        scores.append(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y).score(*valid))
        raw.append(KNeighborsClassifier().fit(x, y).score(*valid))
    assert 0.55 < np.mean(scores) < 0.85
    assert np.mean(raw) < np.mean(scores) - 0.1


def test_pictures_and_features_follow_from_the_same_style(demo_tracks: Tracks) -> None:
    data = View(demo_tracks, "pictures").training(stratified_split(demo_tracks, seed=0))
    # The brightness by height, the coarsest property of a picture.
    rows = [part.tensor.float().mean(dim=(2, 3)).numpy()[:, ::8] for part in (data.train, data.valid)]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    score = model.fit(rows[0], data.train.targets.numpy()).score(rows[1], data.valid.targets.numpy())
    assert 0.2 < score < 0.9


def make_in(folder: str) -> None:
    os.chdir(folder)
    demo_data_folder()


@pytest.mark.long
def test_two_processes_make_the_demo_set_at_once(demo_data: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make_in, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert content(tmp_path / "input" / "demo") == content(demo_data)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.data.demo._draw", fail)
    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a note")
    with pytest.raises(DataError, match="file/demo"):
        make_demo(tmp_path / "file" / "demo")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "note").write_text("a note")
    with pytest.raises(DataError, match="taken"):
        make_demo(tmp_path / "taken", tracks_per_genre=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]
