"""Journals: where a study's and a comparison's lie, and what becomes of those that a dead worker left."""

from __future__ import annotations

from pathlib import Path

from harness.core.events import Acknowledged, Ended, EpochDone, EpochRepeated, TrialStarted, has_ended
from harness.core.journal import Journal, journal_path, read_events, remove_journal
from harness.core.records import TrialResult
from harness.study import Progress, Study

LOST_END = "its journal was damaged: the end is the study's, and epochs may be missing"


def close_journals(study: Study) -> None:
    """Close the journals of trials that are over in the study, but whose worker died before it said so.

    One without an end is another machine's, which has taken the trial over and ended it, and is removed; or its
    end was lost with a damaged line, and is told as the study has it.
    """
    with study.lock():
        for number in study.finished_numbers():
            path = journal_path(study.work_folder, number)
            if not path.exists():
                continue
            journal = Journal(path)
            ended = has_ended(journal.events)
            if not ended and not study.owns_upload(number):
                journal.close()
                remove_journal(path)
                continue
            if not ended:
                journal.append(Ended(result=study.result(number), mended=LOST_END), sync=True)
            if not isinstance(journal.events[-1], Acknowledged):
                journal.append(Acknowledged())
            journal.close()


def bury(study: Study, worker: str, cause: str, attempts: int) -> int | None:
    """Give back the trial that a dead worker of this sweep held, or give it up after `attempts` deaths in a row.

    Return the trial's number, or None where the worker held none.
    """
    number = study.trial_of_worker(worker)
    if number is None:
        return None
    path = journal_path(study.work_folder, number)

    def give_up(deaths: int) -> str:
        reason = f"given up: its worker died {deaths} times in a row, the last time {cause}"
        journal = Journal(path)
        if journal.events:
            journal.append(Ended(result=TrialResult(state="failed", best=None, reason=reason)), sync=True)
        journal.close()
        return reason

    study.bury(number, _progress(path), attempts, give_up)
    close_journals(study)
    return number


def _progress(path: Path) -> Progress:
    """Say how far the last attempt at a trial came."""
    progress: Progress = "none"
    for event in read_events(path)[0]:
        match event:
            case TrialStarted():
                progress = "none"
            case EpochDone():
                progress = "new"
            case EpochRepeated() if progress == "none":
                progress = "repeated"
    return progress
