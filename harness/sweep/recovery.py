"""Recovers from the death of a worker: requeues its trial and closes its journal."""

from __future__ import annotations

from harness.core.attempts import Deaths, last_new_epoch
from harness.core.events import Acknowledged, Ended, has_ended
from harness.core.journal import Journal, find_journals, journal_path, read_events, remove_journal
from harness.core.records import TrialResult
from harness.core.trial_rows import ENDED_STATES
from harness.study import Study
from harness.workers.supervisor import STOPPED_BY_SIGTERM

LOST_END = "its journal was damaged: the result is that of Optuna, and epochs may be missing"


def close_journals(study: Study) -> None:
    """Close the journals of trials that have ended in Optuna, but whose worker died before it wrote this.

    A journal without an end is removed if another machine has taken the trial over. Otherwise the line with its
    end was damaged or lost: the result that Optuna has is written to it.
    """
    with study.lock():
        journals = find_journals(study.work_folder)
        states = study.states(journals)
        for number, path in journals.items():
            if states.get(number) not in ENDED_STATES:
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
            study.drop_lock(number)


def handle_worker_death(study: Study, worker: str, cause: str, attempts: int) -> bool:
    """Requeue the trials that a dead worker of this sweep ran, or give them up (see `Deaths`).

    A worker that was stopped by SIGTERM has saved its trials' state: this does not count as a death of the trials.
    Return whether the worker ran a trial that it had not requeued itself.
    """
    numbers = study.trials_of_worker(worker)
    if not numbers:
        return False
    if cause == STOPPED_BY_SIGTERM:
        study.recover()
        return True
    for number in numbers:
        _handle_death(study, number, cause, attempts)
    close_journals(study)
    return True


def _handle_death(study: Study, number: int, cause: str, attempts: int) -> None:
    path = journal_path(study.work_folder, number)

    def give_up(deaths: Deaths) -> str:
        reason = f"given up: {deaths.reason(cause)}"
        journal = Journal(path)  # new if the worker died before its first event: the run must get the reason
        journal.append(Ended(result=TrialResult(state="failed", best=None, reason=reason)), sync=True)
        journal.close()
        return reason

    study.requeue_or_fail(number, last_new_epoch(read_events(path)[0]), attempts, give_up)


def requeue_stopped(study: Study, *, is_sent: bool) -> None:
    """Requeue the trials of the stopped workers of this sweep, after the upload of their journals.

    `is_sent` is False if MLflow did not accept all of them. The trials of a shared study then keep their leases:
    a machine that took one now would not find its last resume point. This machine requeues them with the next
    sweep, another machine when the leases have expired.
    """
    if is_sent or not study.is_shared:
        study.recover()
