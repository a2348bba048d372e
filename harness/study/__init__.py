"""The search: Optuna's storage, sampler, pruner, exact totals. The only room that imports Optuna.

Workers share a study through its storage. A claim (taking the next trial) holds a lock of the study, so that
no trial is run twice and the total is never overshot; a running trial is held by a lock file that dies with
its process, so that a dead worker's trial is told from a live one at once, and across machines by a lease.
"""

from harness.core.records import WorkerId, new_name
from harness.study.claim import Claim
from harness.study.overview import StudyOverview, delete_study, list_studies
from harness.study.storage import STORAGE_ERRORS, open_storage, reaching
from harness.study.study import Study, no_running_trials

__all__ = [
    "STORAGE_ERRORS",
    "Claim",
    "Study",
    "StudyOverview",
    "WorkerId",
    "delete_study",
    "list_studies",
    "new_name",
    "no_running_trials",
    "open_storage",
    "reaching",
]
