"""The confirmation of a study: what is measured again, what is chosen, and who uses the choice."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace
from statistics import fmean

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Run

from harness.core.errors import SettingsError, StudyError
from harness.core.records import TrialResult
from harness.core.study_record import Confirmation, ConfirmedTrial
from harness.core.workspace import resolve_stores
from harness.data import Tracks, stratified_split, validation_folds
from harness.sweep.confirm import confirm, plan_confirmation
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.joining import join_study
from harness.sweep.plan import plan_sweep
from harness.sweep.refit import refit
from harness.sweep.reproduce import reproduce
from harness.sweep.summary import StudySummary
from harness.tracking import Tracker
from tests.support.commands import Harness, last_json
from tests.support.stores import Stores, artifacts
from tests.support.studies import complete, take
from tests.support.sweeps import FAST, changed, no_pictures

STUDY, PART = "demo-fcnn", "demo-fcnn.confirm"
CONFIRMED = changed(FAST, folds=3, epochs=4, trials=4, confirm=2)


def swept(**changes: object) -> StudySummary:
    plan = plan_sweep(changed(CONFIRMED, **changes))
    study = open_study(plan)
    with no_pictures():
        summary = confirm(plan, study, run_sweep(plan, study))
        return replace(summary, refit=refit(plan, study)) if plan.refits else summary


def by_trial(study: str) -> dict[int, Run]:
    return {int(run.data.tags["trial"]): run for run in Stores.here().runs(study, "trial")}


def of_folds(run: Run) -> list[float]:
    """The validation accuracy of each fold at the best epoch."""
    best = int(run.data.metrics["best_epoch"])
    return [dict(Stores.here().history(run, f"val_accuracy_fold_{fold}"))[best] for fold in (1, 2, 3)]


@pytest.mark.usefixtures("place")
def test_the_choice_is_made_on_both_measurements() -> None:
    summary = swept(refit=False)
    searched, repeated, stores = by_trial(STUDY), by_trial(PART), Stores.here()
    best = sorted(searched, key=lambda n: (-searched[n].data.metrics["best_val_accuracy"], n))[:2]
    assert len(repeated) == 2
    found = {}
    for (number, run), trial in zip(repeated.items(), stores.trials(PART), strict=True):
        first = searched[trial.user_attrs["confirms"]]
        assert trial.user_attrs["confirms"] == best[number]
        for name in ("lr", "batch_size"):
            assert run.data.params[name] == first.data.params[name]
        assert run.data.params["trial_seed"] != first.data.params["trial_seed"]
        found[best[number]] = fmean(of_folds(first) + of_folds(run))
    chosen = max(found, key=lambda n: found[n])
    assert summary.best is not None
    assert summary.confirmation is not None
    assert summary.best.number == chosen
    assert summary.best.val_accuracy == pytest.approx(found[chosen])
    assert len(summary.best.folds) == 6
    (parent,) = stores.runs(STUDY, "study")
    assert parent.data.tags["confirmed_trial"] == parent.data.tags["best_trial"] == str(chosen)
    assert parent.data.tags["best_run_id"] == summary.best_run_id == searched[chosen].info.run_id
    assert parent.data.metrics["best_val_accuracy"] == pytest.approx(found[chosen])
    drops = [
        searched[n].data.metrics["best_val_accuracy"] - repeated[place].data.metrics["best_val_accuracy"]
        for place, n in enumerate(best)
    ]
    assert parent.data.metrics["confirmation_flattered_by"] == pytest.approx(fmean(drops))
    (part,) = stores.runs(PART, "study")
    assert part.data.tags["mlflow.parentRunId"] == parent.info.run_id
    with (artifacts(parent) / "confirmation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == best
    assert [row["trial"] for row in rows if row["chosen"] == "1"] == [str(chosen)]


def test_the_folds_are_other_ones(demo_tracks: Tracks) -> None:
    split = stratified_split(demo_tracks, seed=0)
    search, fresh = (validation_folds(demo_tracks, split, 3, number) for number in (0, 1))
    assert search == validation_folds(demo_tracks, split, 3)
    assert {track for fold in fresh for track in fold.valid} == {track for fold in search for track in fold.valid}
    assert not {fold.valid for fold in fresh} & {fold.valid for fold in search}


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_the_choice_is_what_all_commands_use(inside: Harness) -> None:
    summary = swept(trials=2)
    (first, second), study = summary.confirmation.trials if summary.confirmation else (), STUDY
    # A choice that differs from the best of the search, as fresh folds make it.
    other = replace(second, folds=tuple(1.0 for _ in second.folds))
    plan = plan_sweep(changed(CONFIRMED, trials=2))
    opened = open_study(plan)
    opened.set_confirmation(Confirmation(finished=2, trials=(first, other)))
    best = opened.best()
    assert best is not None
    assert (best.number, best.val_accuracy, best.best_epoch) == (second.trial, other.val_accuracy, second.epoch)
    (line,) = last_json(inside("status", "--json"))
    assert (line["name"], line["best"], line["best_params"]) == (study, other.val_accuracy, dict(second.params))
    with no_pictures():
        refitted = refit(plan, opened)
    assert refitted is not None
    assert refitted.spec.last_epoch == second.epoch
    assert {**refitted.spec.fixed} == dict(second.params)
    tracker = Tracker(summary.tracking_uri)
    (parent,) = Stores.here().runs(STUDY, "study")
    tracker.runs.log(parent.info.run_id, tags={"confirmed_trial": str(second.trial)})
    tracker.runs.add_metrics(parent.info.run_id, {"best_epoch": float(second.epoch)})
    assert tracker.studies.best_trial_run(STUDY).trial_number == second.trial
    assert tracker.parts.network_run(STUDY).run_id == refitted.best_run_id


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_more_trials_void_the_choice_and_train_only_what_is_new() -> None:
    first = swept(refit=False)
    before = {run.info.run_id: run.info.end_time for run in Stores.here().runs(PART, "trial")}
    again = swept(refit=False)
    assert again.confirmation == first.confirmation
    plan = plan_sweep(changed(CONFIRMED, trials=5))
    study = open_study(plan)
    with no_pictures():
        run_sweep(plan, study)
    assert study.confirmation is None
    assert study.best() == study.ranked()[0]
    assert Stores.here().runs(STUDY, "study")[0].data.tags["confirmed_trial"] == ""
    more = swept(trials=5, confirm=4, refit=False)
    assert more.confirmation is not None
    assert [trial.trial for trial in more.confirmation.trials] == [row.number for row in study.ranked()[:4]]
    after = {run.info.run_id: run.info.end_time for run in Stores.here().runs(PART, "trial")}
    assert before.items() <= after.items()
    repeats = [trial.user_attrs["confirms"] for trial in Stores.here().trials(PART)]
    assert len(repeats) == len(set(repeats)) == len(after)


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_another_epoch_of_the_same_trial_is_another_refit() -> None:
    """The confirmation leaves the trial, which is the only one, and changes the epochs that it is refitted for."""
    one = {"trials": 1, "epochs": 20, "set": {"lr": 1e-3, "batch_size": 32}, "search": {"dropout": [0.0, 0.4]}}
    first = swept(**one, confirm=0, refit=True)
    tracker = Tracker(first.tracking_uri)
    assert first.refit is not None
    assert tracker.parts.network_run(STUDY).run_id == first.refit.best_run_id
    plan = plan_sweep(changed(CONFIRMED, **one, confirm=1, refit=True))
    study = open_study(plan)
    with no_pictures():
        summary = confirm(plan, study, run_sweep(plan, study))
        assert first.best is not None
        assert summary.best is not None
        assert summary.best.number == first.best.number == 0
        assert summary.best.best_epoch != first.best.best_epoch
        # The network of the other epoch is not taken for that of the choice.
        assert tracker.parts.network_run(STUDY).refit_of is None
        refitted = refit(plan, study)
    assert refitted is not None
    assert refitted.spec.name == f"{STUDY}.refit-0-{summary.best.best_epoch}"
    assert tracker.parts.network_run(STUDY).run_id == refitted.best_run_id != first.refit.best_run_id
    # Without the confirmation the first epoch counts again: one more trial voids it.
    more = swept(**{**one, "trials": 2}, confirm=0, refit=False)
    assert more.best is not None
    assert tracker.parts.network_run(STUDY).refit_of is None
    assert tracker.parts.network_run(STUDY).run_id == more.best_run_id


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_a_trial_that_another_sweep_ends_meanwhile_voids_the_choice() -> None:
    plan = plan_sweep(changed(CONFIRMED, trials=2))
    study = open_study(plan)
    ended: list[int] = []

    def ends_one(*_: object) -> None:
        if not ended:
            claim = take(open_study(plan_sweep(changed(CONFIRMED, trials=3))))
            ended.append(claim.number)
            complete(claim, value=0.999)

    with no_pictures():
        summary = confirm(plan, study, run_sweep(plan, study), ends_one)
    assert ended == [2]
    assert study.confirmation is None
    assert summary.best is not None
    assert summary.best.number == 2


@pytest.mark.usefixtures("place")
def test_a_confirmation_all_of_whose_trials_fail_is_an_error() -> None:
    plan = plan_sweep(changed(CONFIRMED, trials=2, refit=False))
    study = open_study(plan)
    for value in (0.5, 0.6):
        complete(take(study), value=value)
    part = open_study(plan_confirmation(plan, 2), first_params={})
    part.enqueue(study.ranked())
    for _ in range(2):
        take(part).finish(TrialResult(state="diverged", best=None, reason="the train loss of epoch 1 is nan"))
    with no_pictures(), pytest.raises(StudyError, match="the best trials of study 'demo-fcnn' all failed"):
        confirm(plan, study, run_sweep(plan, study))
    assert study.confirmation is None


@pytest.mark.usefixtures("place")
def test_the_best_trials_fail_where_an_earlier_confirmation_had_others() -> None:
    plan = plan_sweep(changed(CONFIRMED, trials=2, confirm=1, refit=False))
    study = open_study(plan)
    for value in (0.5, 0.6):
        complete(take(study), value=value)
    first, second = study.rows()
    part = open_study(plan_confirmation(plan, 2), first_params={})
    Tracker(plan.stores.tracking_uri).studies.begin(part.spec, "", plan.split, part.context, 1)
    part.enqueue([first])
    complete(take(part), value=0.4)
    part.enqueue([second])
    take(part).finish(TrialResult(state="diverged", best=None, reason="the train loss of epoch 1 is nan"))
    with no_pictures(), pytest.raises(StudyError, match=r"all failed on fresh folds[\s\S]*loss of epoch 1 is nan"):
        confirm(plan, study, run_sweep(plan, study))


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_nothing_is_chosen_while_the_time_is_up() -> None:
    first = swept(confirm=1, refit=False)  # one of the two is measured
    assert first.confirmation is not None
    plan = plan_sweep(changed(CONFIRMED, refit=False))
    study = open_study(plan)
    with no_pictures():
        summary = run_sweep(plan, study)
        late = confirm(replace(plan, deadline=time.monotonic()), study, summary)
        assert late.is_late
        assert not late.is_complete
        assert study.confirmation == first.confirmation
        found = confirm(plan, study, summary)
    assert found.is_complete
    assert found.confirmation is not None
    assert len(found.confirmation.trials) == 2


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_no_stage_begins_after_the_time_is_up(inside: Harness) -> None:
    words = ["--model", "fcnn", "--data", "demo", "--trials", "2", "--epochs", "2", "--folds", "2", "--jobs", "1"]
    inside("sweep", *words, "--confirm", "0", "--no-refit")
    # The search is complete: what the time is up for are the confirmation and, once that is there, the refit.
    late = inside("sweep", *words, "--confirm", "2", "--timeout", "1e-9")
    assert "time is up before the best trials were confirmed" in late.stdout
    assert "refit" not in late.stdout
    stores = Stores.here()
    assert {trial.state.name for trial in stores.trials(PART)} == {"WAITING"}
    inside("sweep", *words, "--confirm", "2", "--no-refit")
    refitted = inside("sweep", *words, "--confirm", "2", "--refit", "--timeout", "1e-9")
    assert "refit: time is up: the same command again ends it" in refitted.stdout
    found = last_json(inside("sweep", *words, "--confirm", "2", "--refit", "--timeout", "1e-9", "--json"))
    assert (found["stopped"], found["refit"]["run_id"]) == ("time is up", None)
    found = last_json(inside("sweep", *words, "--confirm", "2", "--refit", "--json"))
    assert found["stopped"] is None
    assert found["refit"]["run_id"] is not None


@pytest.mark.usefixtures("place")
def test_one_timeout_holds_for_all_stages() -> None:
    plan = plan_sweep(changed(CONFIRMED, timeout=5.0)).begun()
    assert plan.deadline == pytest.approx(time.monotonic() + 300, abs=60)
    assert plan.begun().deadline == plan_confirmation(plan, 2).begun().deadline == plan.deadline
    assert plan_sweep(CONFIRMED).begun().deadline is None


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_a_worker_that_comes_late_leaves_the_choice_on_record() -> None:
    summary = swept(refit=False)
    assert summary.confirmation is not None
    stores = Stores.here()
    plan = join_study(STUDY, resolve_stores(None, None), data=None, jobs=1, device="cpu", timeout=None)
    with no_pictures():
        run_sweep(plan, open_study(plan))
    chosen = str(summary.confirmation.chosen.trial)
    assert stores.runs(STUDY, "study")[0].data.tags["confirmed_trial"] == chosen


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_doctor_sees_a_part_that_was_left_running(inside: Harness) -> None:
    summary = swept(trials=2, refit=False)
    assert summary.confirmation is not None
    client = Stores.here().client()
    client.update_run(Stores.here().runs(PART, "study")[0].info.run_id, status="RUNNING")
    assert PART in inside("doctor", code=1).stdout
    inside("doctor", "--fix")
    assert Stores.here().runs(PART, "study")[0].info.status == "FINISHED"
    assert inside("doctor").stdout == "nothing is wrong\n"


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_a_confirmations_trial_is_reproduced_and_goes_with_its_study(inside: Harness) -> None:
    swept(trials=2, refit=False)
    (run, *_) = by_trial(PART).values()
    found = reproduce(run.info.run_id)
    assert found.agrees, found.as_json()
    assert last_json(inside("doctor", "--json")) == []
    inside("delete", STUDY, "--yes")
    assert optuna.get_all_study_names(Stores.here().storage) == []
    assert Stores.here().runs(PART, "trial") == []


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_from_the_command_line(inside: Harness) -> None:
    arguments = ["--model", "fcnn", "--data", "demo", "--trials", "3", "--epochs", "2", "--folds", "2"]
    printed = inside("sweep", *arguments, "--confirm", "2", "--jobs", "1", "--no-refit")
    assert "confirmation: the 2 best trials on fresh folds" in printed.stderr
    assert "confirmed: the 2 best trials have 0." in printed.stdout
    assert "(mean of 4 folds, standard error 0." in printed.stdout
    found = last_json(inside("sweep", *arguments, "--confirm", "2", "--jobs", "1", "--no-refit", "--json"))
    confirmation = Confirmation.of(found["confirmation"])
    assert found["best"]["trial"] == confirmation.chosen.trial
    assert found["best"]["val_accuracy"] == confirmation.chosen.val_accuracy


@pytest.mark.usefixtures("place")
def test_what_is_refused() -> None:
    with pytest.raises(SettingsError, match="folds is 1"):
        plan_sweep(changed(FAST, confirm=3))
    with pytest.raises(SettingsError, match=r"name of a part"):
        plan_sweep(changed(FAST, study="mine.confirm"))
    assert plan_sweep(FAST).confirms == 0
    assert plan_sweep(changed(FAST, folds=3)).confirms == 5
    assert plan_sweep(changed(FAST, folds=3, confirm=0)).confirms == 0


ACCURACIES = st.floats(0, 1)
TRIALS = st.builds(
    ConfirmedTrial,
    trial=st.integers(0, 99),
    params=st.fixed_dictionaries({"lr": st.floats(1e-5, 1)}),
    search=ACCURACIES,
    fresh=ACCURACIES,
    val_loss=st.floats(0, 9),
    epoch=st.integers(1, 99),
    folds=st.lists(ACCURACIES, min_size=2, max_size=10).map(tuple),
)


@given(st.lists(TRIALS, min_size=1, max_size=6, unique_by=lambda trial: trial.trial))
def test_a_confirmation_is_read_as_it_was_written(trials: list[ConfirmedTrial]) -> None:
    confirmation = Confirmation(finished=7, trials=tuple(trials))
    assert Confirmation.of(json.loads(json.dumps(confirmation.as_json()))) == confirmation
    assert confirmation.chosen.val_accuracy == max(trial.val_accuracy for trial in trials)
    shuffled = Confirmation(finished=7, trials=tuple(reversed(trials)))
    assert shuffled.chosen == confirmation.chosen
