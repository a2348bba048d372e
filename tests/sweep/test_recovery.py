"""Journals of trials whose workers died: kept, ended or removed, as the study has them."""

from pathlib import Path

from optuna.storages import RDBStorage

from harness.core.events import Resumed
from harness.core.journal import Journal, journal_path
from harness.core.records import TrialResult
from harness.sweep.recovery import close_journals
from tests.support.studies import machine, metrics, take


def test_what_lies_here_of_a_trial_that_another_machine_ended_goes(storage: RDBStorage, tmp_path: Path) -> None:
    here, there = machine(storage, tmp_path / "here"), machine(storage, tmp_path / "there")
    kept = take(here)
    with here.registered():
        take(here).leave()
        here.requeue_or_fail(1, 1, 3)
        for number in (0, 1):
            journal = Journal(journal_path(here.work_folder, number))
            journal.append(Resumed(epoch=1))
            journal.close()
        close_journals(here)  # neither has ended
        taken = take(there)
        assert (taken.number, taken.moved) == (1, True)
        assert taken.finish(TrialResult(state="complete", best=metrics(3, 0.5)))
        assert kept.finish(TrialResult(state="complete", best=metrics(3, 0.5)))
        close_journals(here)
        assert [path.name for path in here.work_folder.glob("trial-*.jsonl")] == ["trial-00000.jsonl"]
