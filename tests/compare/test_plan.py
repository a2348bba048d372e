"""What is compared with what, on which splits, and what is refused before anything is trained."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.compare.repeats import repeat_path
from harness.core.errors import CheckpointError, DataError, HarnessError, SettingsError, StudyError
from tests.support import EXPERIMENTS
from tests.support.commands import Harness
from tests.support.comparisons import BASELINES, plan
from tests.support.stores import Stores
from tests.support.sweeps import sweep


@pytest.mark.long
def test_redrawn_splits_keep_out_what_chose_the_settings(studies: Path) -> None:
    found = plan(repeats=5)
    assert len({split.digest for split in found.splits}) == 5
    for split in found.splits:
        assert not set(split.test) & set(found.split.valid)
        assert not set(split.train) & set(split.test)
    longer = plan(repeats=10)
    assert longer.splits[:5] == found.splits
    assert len({split.digest for split in longer.splits}) == 10
    assert longer.identity == found.identity
    for folds in (longer.splits[:5], longer.splits[5:]):  # in each round each track judges once
        tested = [track for split in folds for track in split.test]
        assert sorted(tested) == sorted(set(found.tracks.ids) - set(found.split.valid))


def test_by_default_the_newest_finished_study_of_each_model(studies: Path) -> None:
    for study in ("older", "newer"):
        sweep(study=study, experiment="alone", trials=1)
    with pytest.raises(StudyError, match=r"finished studies of 1 model.*newer \(fcnn\)"):
        plan(studies=(), experiment="alone")
    with pytest.raises(StudyError, match="experiment 'gtzan' has finished studies of 0"):
        plan(studies=())


def refused(kind: type[HarnessError], match: str, **changes: Any) -> None:
    before = Stores.here().client().search_runs(["0", "1"], "tags.kind = 'comparison'")
    with pytest.raises(kind, match=match):
        plan(**changes)
    assert len(Stores.here().client().search_runs(["0", "1"], "tags.kind = 'comparison'")) == len(before)


@pytest.mark.long
def test_studies_of_other_splits_or_data_are_refused(studies: Path, demo_copy: Path) -> None:
    sweep(study="other-split", split_seed=1)
    refused(StudyError, r"differ in split.*(?s:.)*--split-seed", studies=("one", "other-split"))
    csv_file = demo_copy / "features_30_sec.csv"
    csv_file.write_text("\n".join(csv_file.read_text().splitlines()[:-1]) + "\n")
    sweep(study="other-data", data=str(demo_copy), experiment="demo")
    refused(StudyError, "differ in data", studies=("one", "other-data"))
    refused(DataError, "holds other data", data=str(demo_copy))


def test_what_is_refused(studies: Path) -> None:
    refused(StudyError, "two or more different studies", studies=("one",))
    refused(StudyError, "two or more different studies", studies=("one", "one"))
    refused(StudyError, "there is no study 'nothing'", studies=("one", "nothing"))
    for repeats in (0, 1, 4, 12):
        refused(SettingsError, f"repeats is {repeats}; on drawn splits a round has 5", repeats=repeats)
    refused(SettingsError, r"(?s)repeats is 12.*--repeats 10 or --repeats 15", repeats=12)


@pytest.mark.long
def test_names_that_would_clash(studies: Path) -> None:
    sweep(study="cnn", trials=1)  # named as another study's model is
    sweep(study="majority", trials=1, seed=1)
    sweep(study="pictures", model="cnn", trials=1, epochs=1)
    found = plan(studies=("one", "cnn", "pictures"), untuned=False)
    assert [candidate.name for candidate in found.candidates] == ["one", "cnn", "pictures", *BASELINES]
    found = plan(studies=("one", "majority"), untuned=False)
    named = ["one", "majority", "majority (baseline)", *BASELINES[1:]]
    assert [candidate.name for candidate in found.candidates] == named


@pytest.mark.long
def test_what_the_contenders_are_held_against(studies: Path) -> None:
    whole = plan(ensemble=5, baselines=False)
    names = ["one", "two", "one x5", "two x5", "one untuned", "two untuned"]
    assert [candidate.name for candidate in whole.candidates] == names
    assert plan().identity == plan(untuned=False).identity  # so that their repeats are found again
    assert whole.identity != plan().identity  # another verdict, with levels of its own
    turned = {c.name: c.identity() for c in plan(studies=("two", "one")).candidates}
    assert turned == {c.name: c.identity() for c in plan().candidates}  # whatever the order of the studies
    assert whole.name == "one vs two"
    untuned = whole.candidates[4].config
    assert untuned is not None
    assert (untuned.params, untuned.epochs, untuned.last_epoch) == ({"lr": 0.001, "batch_size": 32}, 4, 4)
    refused(SettingsError, "protocol is 'none'", protocol="none")
    refused(SettingsError, "ensemble is 51", ensemble=51)


@pytest.mark.long
def test_studies_of_one_seed_share_their_untuned_network(studies: Path) -> None:
    sweep(study="again", trials=1)
    found = plan(studies=("one", "again"), baselines=False)
    assert [candidate.name for candidate in found.candidates] == ["one", "again", "fcnn untuned"]


def test_the_order_of_studies_makes_no_other_comparison(studies: Path) -> None:
    one, other = plan(studies=("one", "two")), plan(studies=("two", "one"))
    assert one.identity == other.identity
    folder = Path("work")
    for a, b in zip(one.candidates[:2], reversed(other.candidates[:2]), strict=True):
        assert repeat_path(folder, a, 0) == repeat_path(folder, b, 0)
        assert a.config is not None
        fewer_cores = replace(a, config=replace(a.config, threads=a.config.threads + 1))
        assert repeat_path(folder, fewer_cores, 0) == repeat_path(folder, a, 0)


@pytest.mark.long
def test_what_would_be_missed_after_all_training_is_refused_before(
    studies: Path, tmp_path: Path, inside: Harness
) -> None:
    file = tmp_path / "net.py"
    code = (EXPERIMENTS / "residual_mlp.py").read_text()
    file.write_text(code)
    sweep(study="of-a-file", model=f"{file}:ResidualMLP", trials=1, epochs=1)
    plan(studies=("one", "of-a-file"))
    file.write_text(code + "\n# changed\n")
    refused(SettingsError, "is not the code that study 'of-a-file' was made with", studies=("one", "of-a-file"))
    inside("delete", "of-a-file", "--yes")
    sweep(study="bare", trials=1)
    client = Stores.here().client()
    run = next(run for run in Stores.here().runs("bare", "trial"))
    client.set_tag(run.info.run_id, "checkpoint", "removed")
    refused(CheckpointError, "was removed by --keep", studies=("one", "bare"))


@pytest.mark.long
@pytest.mark.usefixtures("workspace")
def test_data_are_read_as_their_studies_read_them(tmp_path: Path) -> None:
    random_ = np.random.default_rng(0)
    rows = [f"r{n:02d},{'ab'[n % 2]},{random_.normal():.4f},{random_.normal():.4f}" for n in range(60)]
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "features.csv").write_text("\n".join(["file,species,x,y", *rows, ""]))
    given: dict[str, Any] = {"data": str(tmp_path / "birds"), "id_column": "file", "label_column": "species"}
    for model in ("fcnn", f"{EXPERIMENTS}/residual_mlp.py:ResidualMLP"):
        sweep(model=model, trials=1, epochs=2, **given)
    found = plan(studies=(), data=given["data"])
    assert {study.spec.name for study in found.compared} == {"birds-ResidualMLP", "birds-fcnn"}
    moved = (tmp_path / "birds").rename(tmp_path / "elsewhere")
    assert plan(studies=(), data=str(moved)).identity == found.identity


@pytest.mark.long
def test_where_studies_and_data_are_looked_for(studies: Path, inside: Harness, demo_data: Path) -> None:
    nothing = inside("compare", "--experiment", "nowhere", code=1).stderr
    assert re.search("there are others in .*demo", nothing)
    # A folder of synthetic data by its path means the experiment of the synthetic set.
    sweep(study="newest", trials=1)
    sweep(study="newest-pictures", model="cnn", trials=1, epochs=1)
    found = plan(studies=(), data=str(demo_data))
    assert {"newest", "newest-pictures"} <= {study.spec.name for study in found.compared}
    Path("file").touch()
    assert "--out file is a file" in inside("compare", "--out", "file", code=2).stderr
