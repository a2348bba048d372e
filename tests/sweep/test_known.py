"""Known trials: what a search is told of other studies and of tables, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import SettingsError, StudyError
from harness.core.known import KnownTrial, KnownTrials
from harness.core.space import Choice, Condition, Params, Range
from harness.core.trial_rows import TrialRow
from harness.core.workspace import resolve_stores
from harness.models.registry import MODELS
from harness.study.plots import write_trials_csv
from harness.study.samplers import make_pruner, make_sampler
from harness.study.suggesting import suggest
from harness.sweep.driver import open_study
from harness.sweep.known import fit, read_known
from harness.sweep.plan import plan_sweep
from harness.sweep.settings import SweepSettings
from harness.training.hyperparameters import accepted_by
from tests.support.commands import Harness
from tests.support.stores import Stores, artifacts
from tests.support.studies import SPEC, complete, take
from tests.support.sweeps import FAST, changed, sweep

ACCEPTED = accepted_by(MODELS["fcnn"])
SPACE = replace(
    SPEC,
    space={
        "lr": Range(1e-4, 1e-2, log=True),
        "optimizer": Choice(("adam", "sgd")),
        "momentum": Range(0.0, 0.9, when=Condition("optimizer", ("sgd",))),
    },
    fixed={"batch_size": 64},
)


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_a_search_is_told_the_trials_of_another_study() -> None:
    first = sweep(trials=3, epochs=2)
    assert first.best is not None
    told = sweep(study="told", epochs=2, seed=7, from_studies=("demo-fcnn",), search_options=("dropout=0:0.5",))
    stores = Stores.here()
    assert told.counts.finished == 2  # its own alone
    assert told.known is not None
    accuracies = {trial.value for trial in stores.trials("demo-fcnn")}
    assert {trial.val_accuracy for trial in told.known.trials} == accuracies
    # The best known setting is trained here, with the default of what only this search has.
    assert stores.trials("told")[0].params == {**first.best.params, "dropout": ACCEPTED["dropout"].default}
    (run,) = stores.runs("told", "study")
    assert run.data.tags["known_trials"] == "3 known trials of study demo-fcnn"
    assert json.loads((artifacts(run) / "known_trials.json").read_text()) == json.loads(
        json.dumps(told.as_json()["known"])
    )
    assert len(stores.runs("told", "trial")) == 2
    again = sweep(study="told", epochs=2, seed=7, trials=3, search_options=("dropout=0:0.5",))
    assert again.known == told.known
    assert (again.counts.finished, len(stores.runs("told", "trial"))) == (3, 3)


@pytest.mark.usefixtures("place")
def test_a_study_that_goes_on_needs_its_sources_no_more(tmp_path: Path) -> None:
    table = tmp_path / "known.csv"
    table.write_text("lr,batch_size,val_accuracy\n0.001,32,0.4\n")
    with pytest.raises(StudyError, match="there is no study 'demo-fcnn'"):
        plan_sweep(changed(FAST, study="told", from_studies=("demo-fcnn",)))
    source = open_study(plan_sweep(FAST))
    complete(take(source), 0.5)
    told = changed(FAST, study="told", from_studies=("demo-fcnn",), import_trials=(str(table),))
    first = open_study(plan_sweep(told)).known
    assert first is not None
    assert sorted(trial.val_accuracy for trial in first.trials) == [0.4, 0.5]
    table.unlink()
    optuna.delete_study(study_name="demo-fcnn", storage=Stores.here().storage)
    again = plan_sweep(changed(told, trials=7))
    assert again.known == first
    assert open_study(again).known == first
    with pytest.raises(StudyError, match="there is no study 'demo-fcnn'"):
        plan_sweep(changed(told, import_trials=()))  # other sources
    with pytest.raises(StudyError, match="there is no study 'demo-fcnn'"):
        plan_sweep(changed(told, study="new"))


@pytest.mark.usefixtures("place")
def test_the_same_on_a_database_server_that_has_no_study_yet(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    table = tmp_path / "known.csv"
    table.write_text("lr,batch_size,val_accuracy\n0.001,32,0.4\n")
    told = changed(FAST, storage=new_database(), import_trials=(str(table),))
    study = open_study(plan_sweep(told))
    study._storage.engine.dispose()
    assert study.known is not None
    table.unlink()
    assert plan_sweep(told).known == study.known


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_a_search_is_told_the_trials_of_a_table(inside: Harness) -> None:
    sweep(trials=3, epochs=2, pictures=True)
    (run,) = Stores.here().runs("demo-fcnn", "study")
    table = artifacts(run) / "trials.csv"
    told = sweep(study="told", trials=1, epochs=2, import_trials=(str(table),))
    same = sweep(study="same", trials=1, epochs=2, from_studies=("demo-fcnn",))
    assert told.known is not None
    assert same.known is not None
    assert told.known.sources == ("table trials.csv",)
    key = [(trial.val_accuracy, sorted(trial.params.items())) for trial in told.known.trials]
    assert sorted(key) == sorted((t.val_accuracy, sorted(t.params.items())) for t in same.known.trials)
    shown = inside(
        "sweep",
        "--model",
        "fcnn",
        "--data",
        "demo",
        "--study",
        "told",
        "--trials",
        "1",
        "--epochs",
        "2",
        "--pruner",
        "none",
    )
    assert "known: the search was told 3 known trials of table trials.csv, beside its own trials" in shown.stdout


def test_a_table_says_what_was_fixed(tmp_path: Path) -> None:
    begun = datetime(2026, 1, 1)
    row = TrialRow(
        number=0,
        state="COMPLETE",
        params={"lr": 0.01, "batch_size": 32},
        val_accuracy=0.5,
        val_loss=1.0,
        best_epoch=1,
        started=begun,
        ended=begun,
        reason=None,
    )
    table = tmp_path / "trials.csv"
    write_trials_csv(table, [row], {}, SPEC.space, {"dropout": 0.3, "optimizer": "adamw"})
    settings = SweepSettings(model="fcnn", import_trials=(str(table),))
    stores = resolve_stores(None, f"sqlite:///{tmp_path}/optuna.db")  # which is not there yet
    same = replace(SPEC, fixed={"dropout": 0.3, "optimizer": "adamw"})
    known = read_known(settings, same, ACCEPTED, stores)
    assert known is not None
    assert known.trials == (KnownTrial(params=row.params, val_accuracy=0.5),)
    searched = replace(same, space={**SPEC.space, "dropout": Range(0, 0.5)}, fixed={"optimizer": "adamw"})
    known = read_known(settings, searched, ACCEPTED, stores)
    assert known is not None
    assert known.best.params == {**row.params, "dropout": 0.3}
    others: list[Params] = [{}, {"dropout": 0.3}, {"dropout": 0.2, "optimizer": "adamw"}]
    for other in others:
        with pytest.raises(SettingsError, match="none of the 1 known trials"):
            read_known(settings, replace(SPEC, fixed=other), ACCEPTED, stores)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_learns_from_known_trials_as_from_its_own(sampler: str) -> None:
    """Optuna's own sampler, after the same trials as those of its study, draws the same values."""
    spec = replace(SPEC, sampler=sampler, space={"lr": Range(1e-4, 1e-2, log=True), "dropout": Range(0, 0.5)})
    known = KnownTrials(
        sources=("x",),
        trials=tuple(
            KnownTrial(params={"lr": 10 ** (-4 + index / 10), "dropout": index / 40}, val_accuracy=index / 20)
            for index in range(20)
        ),
    )
    told = optuna.create_study(direction="maximize", sampler=make_sampler(spec, 20, known))
    own = optuna.create_study(direction="maximize", sampler=make_sampler(spec, 20, None))
    for trial in known.trials:
        drawn = optuna.trial.FixedTrial(dict(trial.params))
        suggest(drawn, spec.space)
        own.add_trial(
            optuna.trial.create_trial(
                params=drawn.params, distributions=drawn.distributions, value=trial.val_accuracy
            )
        )
    unaware = optuna.create_study(direction="maximize", sampler=make_sampler(spec, 20, None))
    drawn_by = [suggest(study.ask(), spec.space) for study in (told, own, unaware)]
    assert drawn_by[0] == drawn_by[1] != drawn_by[2]
    assert len(told.trials) == 1
    pruned = optuna.create_study(
        direction="maximize",
        sampler=make_sampler(spec, 20, known),
        pruner=make_pruner("hyperband", SPEC.epochs),  # which shows a sampler a study of its own kind
    )
    assert suggest(pruned.ask(), spec.space) == drawn_by[0]


@given(lr=st.floats(1e-6, 1), optimizer=st.sampled_from(["adam", "sgd", "adamw"]), momentum=st.floats(0, 0.99))
def test_a_setting_fits_if_the_study_could_have_drawn_it(lr: float, optimizer: str, momentum: float) -> None:
    given_: Params = {"lr": lr, "batch_size": 64, "optimizer": optimizer, "momentum": momentum}
    found = fit(given_, SPACE, ACCEPTED)
    could = 1e-4 <= lr <= 1e-2 and optimizer != "adamw" and (optimizer == "adam" or momentum <= 0.9)
    assert (found is not None) == could
    if found is not None:
        used = ("lr", "optimizer", "momentum") if optimizer == "sgd" else ("lr", "optimizer")
        assert found == {name: given_[name] for name in used}
    assert fit({**given_, "batch_size": 32}, SPACE, ACCEPTED) is None
    assert fit({**given_, "dropout": 0.17}, SPACE, ACCEPTED) is None  # not the default, and not searched


@pytest.mark.usefixtures("place")
def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    sweep(trials=1, epochs=2)
    with pytest.raises(StudyError, match="they differ in epochs"):
        sweep(study="told", epochs=3, from_studies=("demo-fcnn",))
    with pytest.raises(StudyError, match="there is no study 'none'"):
        sweep(study="told", epochs=2, from_studies=("none",))
    with pytest.raises(SettingsError, match="has its own trials already"):
        sweep(epochs=2, from_studies=("demo-fcnn",))
    with pytest.raises(SettingsError, match="the sampler random learns nothing"):
        sweep(study="told", epochs=2, sampler="random", from_studies=("demo-fcnn",))
    with pytest.raises(SettingsError, match="none of the 1 known trials of study demo-fcnn fits"):
        sweep(study="told", epochs=2, from_studies=("demo-fcnn",), search_options=("lr=1e-5:1e-4",))
    table = tmp_path / "known.csv"
    table.write_text("lr,batch_size,val_accuracy\n0.001,32,0.5\n")
    with pytest.raises(StudyError, match=r"made with known trials of none, this sweep names table known\.csv"):
        sweep(trials=2, epochs=2, import_trials=(str(table),))
    assert [run.data.tags["study"] for run in Stores.here().runs("told", "study")] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the column val_accuracy"),
        ("lr,batch_size\n0.1,32\n", "lacks the column val_accuracy"),
        ("lr,lr,val_accuracy\n0.1,0.1,0.5\n", "or has one twice"),
        ("lr,val_accuracy\nquick,0.5\n", "row 1: lr is 'quick'"),
        ("lr,val_accuracy\n0.01,1.5\n", "row 1: val_accuracy is '1.5'"),
        ("lr,val_accuracy\n0.01,nan\n", "row 1: val_accuracy is 'nan'"),
        ("lr,val_accuracy\n0.01\n", "row 1: val_accuracy is None"),
        ('lr,val_accuracy\n"0.01\n', "cannot be read"),
        ("lr,val_accuracy\n" + "0.01,0.5\n" * 10_001, "more than 10000 rows"),
        ("lr,state,val_accuracy\n0.01,PRUNED,0.5\n", "none of the 0 known trials"),
        ("lr,batch_size,val_accuracy\n0.01,33,0.5\n", "none of the 1 known trials"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "known.csv"
    settings = SweepSettings(model="fcnn", import_trials=(str(table),))
    for content, expected in ((text.encode(), message), (b"\xff\xfe\x00", "cannot be read")):
        table.write_bytes(content)
        with pytest.raises(SettingsError, match=expected):
            read_known(settings, SPEC, ACCEPTED, resolve_stores(None, f"sqlite:///{tmp_path}/optuna.db"))
