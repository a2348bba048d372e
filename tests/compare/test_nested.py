"""Nested comparisons: each repeat trains what its own search chose, and that search saw no test track."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from harness.compare.contenders import candidates_of
from harness.compare.nested import plan_search
from harness.core.errors import CheckpointError
from harness.core.names import digest_of
from harness.sweep.confirm import plan_confirmation
from harness.sweep.driver import open_study
from harness.sweep.placing import worker_tasks
from tests.support.commands import Harness, last_json
from tests.support.comparisons import plan, repeats
from tests.support.stores import Stores
from tests.support.sweeps import no_pictures, sweep

QUICK = {"nested": True, "repeats": 5, "baselines": False, "untuned": False}


def nested_studies() -> list[str]:
    found = optuna.get_all_study_names(Stores.here().storage)
    return sorted(name for name in found if ".nested-" in name)


@pytest.mark.usefixtures("studies")
def test_the_searches_see_no_test_track() -> None:
    whole = plan(**QUICK)
    assert sorted({track for split in whole.splits for track in split.test}) == sorted(whole.tracks.ids)
    for study in whole.compared:
        for number, split in enumerate(whole.splits):
            own = plan_search(whole, study, number)
            assert own.split == split
            assert (own.spec.nested_in, own.spec.part_of) == (study.spec.name, study.spec.name)
            assert (own.spec.space, own.spec.fixed, own.spec.epochs) == (
                study.spec.space,
                study.spec.fixed,
                study.spec.epochs,
            )
            assert own.settings.trials == study.counts.finished
    own = plan_search(whole, whole.compared[0], 0)
    task = worker_tasks(own, open_study(own))[0]("worker")
    assert set(task.material.view.tracks.ids).isdisjoint(own.split.test)


@pytest.fixture
def folded(studies: Path) -> Path:
    """The two studies, and one with folds, whose trials keep no network."""
    sweep(study="folded", trials=1, epochs=1, folds=2, confirm=2)
    return studies


@pytest.mark.usefixtures("folded")
def test_the_networks_of_the_studies_are_not_needed() -> None:
    pair = ("one", "folded")
    with pytest.raises(CheckpointError, match="its folds only measure it"):
        plan(studies=pair)
    assert [study.spec.name for study in plan(**QUICK, studies=pair).compared] == list(pair)


@pytest.mark.usefixtures("folded")
def test_a_search_confirms_as_many_trials_as_its_study() -> None:
    whole = plan(**QUICK, studies=("one", "folded"))
    assert [study.confirms for study in whole.compared] == [0, 2]
    assert [plan_search(whole, study, 0).confirms for study in whole.compared] == [0, 2]
    digests = []
    for confirms in (2, 5, 0):
        compared = [replace(study, confirms=min(confirms, 5 * (study.spec.folds - 1))) for study in whole.compared]
        digests.append([c.search for c in candidates_of(compared, whole.tracks, whole.settings)])
    assert [digest[0] for digest in digests] == [digests[0][0]] * 3
    assert len({digest[1] for digest in digests}) == 3  # another choice, another comparison
    settled = whole.compared[1].spec.frozen_settings()
    assert digests[1][1] == digest_of([settled, 1])  # as it was before the number was on record


@pytest.mark.usefixtures("folded")
def test_a_study_with_the_longest_name_has_searches_and_their_confirmations() -> None:
    whole = plan(**QUICK, studies=("one", "folded"))
    one, folded = whole.compared
    compared = one, replace(folded, spec=replace(folded.spec, name="x" * 100))
    whole = replace(whole, compared=compared, candidates=candidates_of(compared, whole.tracks, whole.settings))
    own = plan_search(whole, compared[1], 4)
    for part in (own, plan_confirmation(own, 1)):
        assert open_study(part).name == part.spec.name
        assert part.spec.name.startswith(f"{'x' * 100}.nested-")


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_each_repeat_trains_what_its_own_search_chose(inside: Harness, tmp_path: Path) -> None:
    sweep(study="one", trials=3)
    sweep(study="two", trials=3, epochs=3, set_options=("dropout=0.3",))
    command = ("compare", "--study", "one", "--study", "two", "--nested", "--repeats", "5", "--no-baselines")
    with no_pictures():
        found = last_json(inside(*command, "--json", "--out", str(tmp_path / "out")))
    assert found["nested"] is True
    assert len(nested_studies()) == 10
    assert " as tuned models" in found["verdict"]
    stores, runs = Stores.here(), repeats(found["run_id"])
    for study in ("one", "two"):
        names = [name for name in nested_studies() if name.startswith(f"{study}.")]
        own = [run for run in runs if run.data.tags["candidate"] == study]
        assert [int(run.data.tags["repeat"]) for run in own] == list(range(5))
        chosen = set()
        for name, run in zip(names, own, strict=True):
            trials = [trial for trial in stores.trials(name) if trial.state.name == "COMPLETE"]
            best = max(trials, key=lambda t: (t.value, -t.user_attrs["result"]["best"]["val_loss"]))
            assert {key: run.data.params[key] for key in best.params} == {
                k: str(v) for k, v in best.params.items()
            }
            assert len(stores.history(run, "train_loss")) == best.user_attrs["result"]["best"]["epoch"]
            chosen.add(tuple(best.params.values()))
            (parent,) = stores.runs(name, "study")
            assert parent.data.tags["split_digest"] == run.data.tags["split_digest"]
            assert parent.data.tags.get("test_openings", "0") == "0"
        assert study == "two" or len(chosen) > 1  # other tracks, another choice
    text = (tmp_path / "out" / "methods.tex").read_text()
    assert "In each of the 5 repeats the hyperparameters of each model were chosen anew" in text
    assert "the verdict speaks of the tuned models" in (tmp_path / "out" / "report.html").read_text()

    with no_pictures():
        again = last_json(inside(*command, "--json"))  # nothing is searched or trained again
    assert again["pairs"] == found["pairs"]
    assert (len(nested_studies()), len(repeats(found["run_id"]))) == (10, len(runs))
    shown = inside("status").stdout
    assert "nested" not in shown
    inside("doctor")
    inside("delete", "one", "--yes")
    assert [name for name in nested_studies() if name.startswith("one.")] == []


@pytest.mark.long
@pytest.mark.usefixtures("studies")
def test_the_comparison_of_tuned_models_is_another_one() -> None:
    assert plan(**QUICK).identity != plan(**{**QUICK, "nested": False}).identity
    assert plan(**QUICK).identity != plan(**{**QUICK, "protocol": "holdout"}).identity
    assert plan(**QUICK).identity == plan(**{**QUICK, "baselines": True}).identity
