"""The Optuna adapter: storage, samplers, pruners, studies, trial locks. The only package that imports Optuna.

Workers share a study through its storage. Claiming the next trial takes the study's lock, so that no trial runs
twice and the number of trials is exact. A running trial has a trial lock: a lock file that the kernel releases
when the worker dies, and across machines a lease as well.
"""

from harness.study.attributes import StudyFault
from harness.study.claim import Claim
from harness.study.locking import no_running_trials
from harness.study.overview import StudyOverview, delete_study, list_studies, ranked, read_identity
from harness.study.queries import find_record
from harness.study.storage import STORAGE_ERRORS, open_storage, reaching, reading_database, reading_storage
from harness.study.study import Study

__all__ = [
    "STORAGE_ERRORS",
    "Claim",
    "Study",
    "StudyFault",
    "StudyOverview",
    "delete_study",
    "find_record",
    "list_studies",
    "no_running_trials",
    "open_storage",
    "ranked",
    "reaching",
    "read_identity",
    "reading_database",
    "reading_storage",
]
