"""The Optuna adapter: storage, samplers, pruners, studies, trial locks. The only package that imports Optuna.

Workers share a study through its storage. Claiming the next trial takes the study's lock, so that no trial runs
twice and the number of trials is exact. A running trial has a trial lock: a lock file that the kernel releases
when the worker dies, and across machines a lease as well.
"""

from typing import TYPE_CHECKING

from harness.core.lazy import imported_later

if TYPE_CHECKING:
    from harness.study.attributes import StudyFault
    from harness.study.claim import Claim
    from harness.study.listing import StudyOverview, find_record, list_studies, reading_database
    from harness.study.locking import no_running_trials
    from harness.study.overview import delete_study, ranked, read_identity
    from harness.study.storage import STORAGE_ERRORS, open_storage, reaching, reading_storage
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

# A name is imported at its first use: a list of studies needs no Optuna, which takes half a second.
HOMES = {
    "STORAGE_ERRORS": "storage",
    "Claim": "claim",
    "Study": "study",
    "StudyFault": "attributes",
    "StudyOverview": "listing",
    "delete_study": "overview",
    "find_record": "listing",
    "list_studies": "listing",
    "no_running_trials": "locking",
    "open_storage": "storage",
    "ranked": "overview",
    "reaching": "storage",
    "read_identity": "overview",
    "reading_database": "listing",
    "reading_storage": "storage",
}

__getattr__ = imported_later(__name__, HOMES)
