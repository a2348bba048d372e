"""One study's two stores in agreement: runs that a dead worker left, and the study's own run."""

import pytest

from harness.sweep.driver import open_study
from harness.sweep.reconcile import Record
from harness.tracking import StudyState
from tests.support.stores import Stores
from tests.support.studies import take
from tests.support.sweeps import sweep, train_without_uploading

STUDY = "demo-fcnn"
pytestmark = pytest.mark.usefixtures("place")


def test_a_run_that_is_running_while_its_trial_is_over_is_ended_as_the_trial_did() -> None:
    unsent = train_without_uploading()
    unsent.uploader.pump(flush=True)
    stores = Stores.here()
    assert unsent.record.orphans() == []
    first, second = stores.runs(STUDY, "trial")
    stores.client().update_run(first.info.run_id, status="RUNNING")
    (orphan,) = unsent.record.orphans()
    assert orphan[0].run_id == first.info.run_id
    assert stores.runs(STUDY, "trial")[0].info.status == "RUNNING"  # looking changes nothing
    assert len(unsent.record.end_orphaned_runs()) == 1
    mended, untouched = stores.runs(STUDY, "trial")
    assert (mended.info.status, mended.data.tags["trial_state"]) == ("FINISHED", "complete")
    assert mended.data.tags["mended"]
    assert untouched.data.tags == second.data.tags
    assert unsent.record.orphans() == []


def test_a_trial_that_was_over_when_its_machine_was_lost_gets_its_reason_and_figures() -> None:
    unsent = train_without_uploading(pruner="asha", trials=9, epochs=30)
    unsent.uploader.pump(flush=True)
    stores = Stores.here()
    before = next(run for run in stores.runs(STUDY, "trial") if run.data.tags["trial_state"] == "pruned")
    run_id = before.info.run_id
    for tag, text in (("trial_state", "paused"), ("reason", "paused at rung 1 of 2")):
        stores.client().set_tag(run_id, tag, text)
    stores.client().log_text(run_id, "{}", "resume/resume.json")
    stores.client().update_run(run_id, status="SCHEDULED")
    assert [run.run_id for run, _ in unsent.record.end_orphaned_runs()] == [run_id]
    mended = stores.client().get_run(run_id)
    assert (mended.info.status, mended.data.tags["trial_state"]) == ("KILLED", "pruned")
    assert mended.data.tags["reason"] == before.data.tags["reason"]
    assert "asha pruner, rung" in mended.data.tags["reason"]
    assert mended.data.metrics == before.data.metrics
    assert stores.client().list_artifacts(run_id, "resume") == []


def test_a_run_whose_journal_has_yet_to_be_sent_is_no_orphan() -> None:
    unsent = train_without_uploading(trials=1)
    kept = {path: path.read_bytes() for path in unsent.journals}
    unsent.uploader.pump(flush=True)
    (run,) = Stores.here().runs(STUDY, "trial")
    Stores.here().client().update_run(run.info.run_id, status="RUNNING")
    for path, content in kept.items():
        path.write_bytes(content)
    assert unsent.record.orphans() == []  # sending the journal ends it
    sweep(trials=1)
    Stores.here().check(STUDY, 1, 4)


def test_a_study_that_was_not_summed_up_is_by_the_next_sweep() -> None:
    unsent = train_without_uploading()
    unsent.uploader.pump(flush=True)
    stores = Stores.here()
    (parent,) = stores.runs(STUDY, "study")
    assert parent.info.status == "RUNNING"
    assert "best_val_accuracy" not in parent.data.metrics
    assert sweep(pictures=True).counts.finished == 2
    (parent,) = stores.runs(STUDY, "study")
    assert (parent.info.status, parent.data.tags["study_state"]) == ("FINISHED", "complete")
    assert parent.data.metrics["best_val_accuracy"] == max(trial.value or 0 for trial in stores.trials(STUDY))
    best = max(stores.runs(STUDY, "trial"), key=lambda run: run.data.metrics["best_val_accuracy"])
    assert parent.data.tags["best_run_id"] == best.info.run_id
    names = {file.path for file in stores.client().list_artifacts(parent.info.run_id)}
    assert {"trials.csv", "optimization_history.png", "slice.png"} <= names


def test_a_study_whose_trial_was_claimed_during_the_wait_stays_running(monkeypatch: pytest.MonkeyPatch) -> None:
    unsent = train_without_uploading(trials=1)
    unsent.uploader.pump(flush=True)
    claims = []

    class OtherSweep(Record):
        def _wait_for_others(self) -> None:
            claims.append(take(open_study(unsent.plan)))

    monkeypatch.setattr(type(unsent.study), "is_alone", lambda _: False)
    OtherSweep(unsent.study, unsent.record.tracker, unsent.record.parent).conclude(StudyState.COMPLETE)
    (claim,) = claims
    claim.abandon()
    assert claim.number == 1
    (parent,) = Stores.here().runs(STUDY, "study")
    assert parent.info.status == "RUNNING"
    assert "best_val_accuracy" not in parent.data.metrics


def test_summing_up_again_adds_nothing() -> None:
    sweep()
    before = Stores.here().runs(STUDY, "study")[0].data.to_dictionary()
    sweep()
    assert Stores.here().runs(STUDY, "study")[0].data.to_dictionary() == before
