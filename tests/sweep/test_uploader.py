"""The upload of journals to MLflow, on journals that real trials wrote: whole, once, and by one sweep."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import TrackingError
from harness.core.events import Ended, TrialStarted
from harness.core.journal import Journal, read_events
from harness.core.records import TrialResult
from harness.sweep.driver import open_study
from harness.sweep.reconcile import Record
from harness.sweep.uploader import JournalUploader
from tests.support.stores import EPOCH_METRICS, Stores, artifacts
from tests.support.sweeps import sweep, train_without_uploading

STUDY = "demo-fcnn"
pytestmark = pytest.mark.usefixtures("place")


def points() -> list[list[tuple[int, float]]]:
    """Every point of every trial's run, as MLflow has it."""
    stores = Stores.here()
    return [stores.history(run, metric) for run in stores.runs(STUDY, "trial") for metric in EPOCH_METRICS]


def test_journals_are_sent_whole_and_then_removed() -> None:
    unsent = train_without_uploading()
    assert len(unsent.journals) == 2
    assert Stores.here().runs(STUDY, "trial") == []
    unsent.uploader.pump(flush=True)
    assert unsent.uploader.error is None
    assert unsent.journals == []
    first, second = Stores.here().runs(STUDY, "trial")
    for run in (first, second):
        assert (run.info.status, run.data.tags["trial_state"]) == ("FINISHED", "complete")
        assert (artifacts(run) / "checkpoint" / "model.safetensors").is_file()
    assert all([step for step, _ in history] == [1, 2, 3, 4] for history in points())
    sweep()  # the same command again has nothing to train
    Stores.here().check(STUDY, 2, 4)


def test_a_journal_that_mlflow_refuses_does_not_keep_the_others_back() -> None:
    unsent = train_without_uploading()
    first = read_events(unsent.journals[0])[0][0]
    other = Record(open_study(unsent.plan), unsent.record.tracker, unsent.record.parent).uploader()
    run_id, _ = other._trials.run_of(0, first.time, search=False)
    folder = artifacts(unsent.record.tracker.client.get_run(run_id))
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("not a folder")
    other.pump(flush=True)
    assert other.error is not None
    assert run_id in other.error.found
    assert [path.name for path in unsent.journals] == ["trial-00000.jsonl"]
    folder.unlink()
    other.pump(flush=True)
    assert other.error is None
    sweep()  # ends the study's run
    Stores.here().check(STUDY, 2, 4)


def test_sending_a_journal_again_changes_nothing(tmp_path: Path) -> None:
    """As after a kill between MLflow's answer and the removal of the journal."""
    unsent = train_without_uploading()
    shutil.copytree(unsent.plan.work_folder, tmp_path / "kept")
    unsent.uploader.pump(flush=True)
    before = points()
    shutil.copytree(tmp_path / "kept", unsent.plan.work_folder, dirs_exist_ok=True)
    assert len(unsent.journals) == 2
    other = Record(open_study(unsent.plan), unsent.record.tracker, unsent.record.parent).uploader()
    other.pump(flush=True)
    assert other.error is None
    assert points() == before
    assert len(Stores.here().runs(STUDY, "trial")) == 2
    assert unsent.journals == []


def test_the_checkpoint_of_a_trial_that_goes_on_is_kept_until_its_end_is_sent() -> None:
    unsent = train_without_uploading(trials=1)
    (path,) = unsent.journals
    events, _ = read_events(path)
    *before, end, acknowledged = events
    interrupted = Ended(result=TrialResult(state="interrupted", best=None))
    path.unlink()
    journal = Journal(path)
    start = before[0]
    assert isinstance(start, TrialStarted)
    for event in (*before, interrupted, replace(start, resumed=True)):
        journal.append(event)
    unsent.uploader.pump(flush=True)
    assert unsent.uploader.error is None
    assert (path.with_suffix("") / "checkpoint" / "model.safetensors").is_file()
    journal.append(end)
    journal.append(acknowledged)
    journal.close()
    unsent.uploader.pump(flush=True)
    assert unsent.journals == []
    (run,) = Stores.here().runs(STUDY, "trial")
    assert (artifacts(run) / "checkpoint" / "model.safetensors").is_file()


def test_whoever_listens_hears_each_event_once() -> None:
    heard: list[int] = []
    unsent = train_without_uploading(lambda number, _: heard.append(number))
    assert heard == []
    lines = {int(path.stem[-5:]): len(path.read_bytes().splitlines()) for path in unsent.journals}
    unsent.uploader.pump()
    assert {number: heard.count(number) for number in lines} == lines
    unsent.uploader.pump(flush=True)
    assert len(heard) == sum(lines.values())


def test_what_was_there_before_is_not_told_and_a_clock_set_back_hides_nothing() -> None:
    unsent = train_without_uploading()
    heard: list[int] = []
    trials = unsent.uploader._trials
    later = open_study(unsent.plan)  # another sweep
    uploader = JournalUploader(trials, later, lambda number, _: heard.append(number))
    journal = Journal(unsent.journals[0])
    journal.append(replace(journal.events[-1], time=0))  # by a clock that was set back to 1970
    journal.close()
    uploader.pump()
    assert heard == [0]


def test_the_journals_of_another_sweep_are_its_own_while_it_lives() -> None:
    unsent = train_without_uploading()
    other = Record(open_study(unsent.plan), unsent.record.tracker, unsent.record.parent).uploader()
    with unsent.study.registered():
        other.pump(flush=True)
        assert len(unsent.journals) == 2
        assert Stores.here().runs(STUDY, "trial") == []
    other.pump(flush=True)  # it is dead
    assert unsent.journals == []
    assert len(Stores.here().runs(STUDY, "trial")) == 2


def test_what_mlflow_does_not_take_stays_and_is_named(place: Path) -> None:
    blocked = place / "mlruns" / "artifacts" / "demo"
    unsent = train_without_uploading()
    shutil.rmtree(blocked)
    blocked.write_text("a file where the folder should be")
    with pytest.raises(TrackingError) as refusal:
        unsent.uploader.close()
    assert "epochs of the trials 0, 1 are not in MLflow yet; they are safe in" in refusal.value.found
    assert "harness doctor --fix" in (refusal.value.hint or "")
    assert len(unsent.journals) == 2
    blocked.unlink()
    unsent.uploader.close()
    assert unsent.journals == []
    assert all([step for step, _ in history] == [1, 2, 3, 4] for history in points())


def test_the_thread_sends_by_itself_and_pauses() -> None:
    unsent = train_without_uploading()
    with unsent.uploader.paused():
        assert unsent.journals == []  # all that there was is sent before the pause
        unsent.uploader.start()
    unsent.uploader.close()
    assert len(Stores.here().runs(STUDY, "trial")) == 2
