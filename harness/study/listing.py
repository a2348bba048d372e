"""The list of studies, without Optuna: `harness status` does not import it, and the record of each study."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

from harness.core.errors import StudyError
from harness.core.files import read_only_name, sqlite_path
from harness.core.objective import ACCURACY, Objective
from harness.core.space import Params
from harness.core.study_record import DatasetInfo, trials_left
from harness.core.trial_rows import TrialCounts
from harness.study.attributes import StudyAttributes, StudyFault, read_attributes
from harness.study.database import Database, HasEngine, check_is_optunas, has_failed, is_of_this_schema
from harness.study.tables import BestTrial, StudyRow, TrialSummary, best_trials, read_studies, summarise_trials


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOverview:
    """One study in `harness status`; `n_trials` is the target of its last sweep, None before the first.

    `fault` says why the study cannot be used; such a study has neither model nor experiment nor identity.
    `part_of` is the study whose best setting this one trains or confirms, None for a search. `best` and
    `best_params` are those of the trial that a confirmation chose, if trials have not finished since.
    `is_complete`: as many trials have finished as the study is to have, or as can.
    """

    name: str
    model: str | None
    experiment: str | None
    identity: str | None
    n_trials: int | None
    counts: TrialCounts
    best: float | None
    best_params: Params
    last_touched: datetime | None
    fault: StudyFault | None = None
    part_of: str | None = None
    objective: Objective = ACCURACY
    is_complete: bool = False
    dataset: DatasetInfo | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the study is complete, with at least one complete trial."""
        return self.best is not None and self.is_complete


@contextmanager
def reading_database(url: str) -> Iterator[Database | HasEngine]:
    """Open a storage for the list of studies alone, as `reading_storage` does.

    Optuna's own way is taken only for a database server, and for a file that this Optuna's last migration has not
    seen.

    Raises StudyError if the storage cannot be opened, or fails inside the block.
    """
    path = sqlite_path(url)
    if path is not None and path.exists():
        check_is_optunas(path)
    if path is None or not path.exists() or not is_of_this_schema(path):
        from harness.study.storage import reading_storage

        with reading_storage(url) as storage:
            yield storage
        return
    try:
        with closing(sqlite3.connect(read_only_name(path), uri=True)) as connection:
            yield Database(connection)
    except (sqlite3.Error, OSError) as error:
        raise has_failed(url, error) from error


def list_studies(storage: Database | HasEngine) -> list[StudyOverview]:
    """Return all studies of this storage, the last used first; nothing is locked or written.

    A study that the harness did not make, or whose record is damaged, has a `fault`.
    """
    studies, summaries, best = read_studies(storage), summarise_trials(storage), best_trials(storage)
    none = TrialSummary(counts=TrialCounts(), last_touched=None)
    found = [_overview(row, summaries.get(key, none), best.get(key)) for key, row in studies.items()]
    return sorted(found, key=lambda o: (o.last_touched is not None, o.last_touched), reverse=True)


def _overview(row: StudyRow, trials: TrialSummary, best: BestTrial | None) -> StudyOverview:
    record = read_attributes(row.name, row.attributes, row.objectives)
    if not isinstance(record, StudyFault) and best is not None and best.params is None:
        record = StudyFault.DAMAGED
    if isinstance(record, StudyFault):
        return StudyOverview(
            name=row.name,
            model=None,
            experiment=None,
            identity=None,
            n_trials=None,
            counts=trials.counts,
            best=None,
            best_params={},
            last_touched=trials.last_touched,
            fault=record,
        )
    value, params = (None, None) if best is None else (best.value, best.params)
    confirmation = record.confirmation
    if confirmation is not None and confirmation.finished == trials.counts.finished:
        value, params = confirmation.chosen.val_accuracy, dict(confirmation.chosen.params)
    spec, targets, counts = record.spec, record.targets, trials.counts
    return StudyOverview(
        name=row.name,
        model=spec.model,
        experiment=record.context.experiment,
        identity=record.context.identity,
        n_trials=None if targets is None else targets.n_trials,
        counts=counts,
        best=value,
        best_params=params or {},
        last_touched=trials.last_touched,
        part_of=spec.part_of,
        objective=spec.objective,
        dataset=record.context.dataset,
        is_complete=targets is not None and not trials_left(spec, counts, targets.n_trials),
    )


def read_record(storage: Database | HasEngine, study_id: int) -> StudyAttributes | StudyFault:
    """Return the record of a study, or why it has none that can be used.

    Raises KeyError if there is no study of that id.
    """
    row = read_studies(storage, study_id)[study_id]
    return read_attributes(row.name, row.attributes, row.objectives)


def find_record(storage: Database | HasEngine, name: str) -> StudyAttributes | None:
    """Return the record of a study, None if there is no study of that name or its record cannot be used."""
    for row in read_studies(storage).values():
        if row.name == name:
            record = read_attributes(row.name, row.attributes, row.objectives)
            return None if isinstance(record, StudyFault) else record
    return None


def check_exists(storage: Database | HasEngine, name: str) -> None:
    """Raise StudyError, with the existing names, if there is no study of that name."""
    names = sorted(row.name for row in read_studies(storage).values())
    if name not in names:
        raise StudyError(
            f"there is no study {name!r}",
            expected=", ".join(names) or "none yet",
            hint="harness status, or harness sweep to make one",
        )
