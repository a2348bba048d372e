"""Reads known trials from other studies and from tables, for a search that begins."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.core.errors import NoStudiesYet, SettingsError, StudyError
from harness.core.files import regular
from harness.core.known import KnownTrial, KnownTrials
from harness.core.records import StudySpec
from harness.core.space import Accepted, Params, Value
from harness.core.tables import read_cell
from harness.core.workspace import Stores, check_name
from harness.study import Study, find_record, reading_database, reading_storage
from harness.study.samplers import SAMPLERS
from harness.sweep.settings import SweepSettings

# What two studies must share: otherwise an accuracy in one says nothing of the same setting in the other.
SHARED = (
    "model",
    "source_digest",
    "data_digest",
    "split_digest",
    "columns",
    "epochs",
    "folds",
    "precision",
    "part_of",
)
ACCURACY, STATE = "val_accuracy", "state"
MAX_ROWS = 10_000


def read_known(settings: SweepSettings, spec: StudySpec, accepted: Accepted, stores: Stores) -> KnownTrials | None:
    """Return the known trials that the settings name, None if they name no source.

    Trials that do not fit the study's search space and fixed values are left out. A study is told once: those of
    one that exists are on record, and its sources, which may be gone by now, are not read again.

    Raises SettingsError if the sampler learns nothing from them, if a table cannot be read, and if no trial fits;
    StudyError if a study does not exist or was made under conditions that cannot be compared.
    """
    if not settings.from_studies and not settings.import_trials:
        return None
    if not SAMPLERS[spec.sampler].learns_from_known:
        able = [name for name, sampler in SAMPLERS.items() if sampler.learns_from_known]
        raise SettingsError(
            f"the sampler {spec.sampler} learns nothing from known trials",
            expected=f"--sampler {' or '.join(able)} with --from and --import",
        )
    tables = [Path(file) for file in settings.import_trials]
    sources = (*(f"study {name}" for name in settings.from_studies), *(f"table {path.name}" for path in tables))
    recorded = _recorded(spec.name, stores)
    if recorded is not None and recorded.sources == sources:
        return recorded
    found = [
        *(trial for name in settings.from_studies for trial in _of_study(name, spec, stores)),
        *(trial for path in tables for trial in _of_table(path, accepted)),
    ]
    fitting = tuple(
        KnownTrial(params=params, val_accuracy=accuracy)
        for given, accuracy in found
        if (params := fit(given, spec, accepted)) is not None
    )
    if not fitting:
        raise SettingsError(
            f"none of the {len(found)} known trials of {', '.join(sources)} fits this search",
            expected="complete trials whose settings lie in the search space, with the same fixed values",
            hint="a wider --search, or the --set of those trials",
        )
    return KnownTrials(sources=sources, trials=fitting)


def _recorded(study: str, stores: Stores) -> KnownTrials | None:
    """Return the known trials that a study was told when it was made, None if there is no such study yet."""
    try:
        with reading_database(stores.storage) as storage:
            record = find_record(storage, study)
    except NoStudiesYet:
        return None
    return None if record is None else record.known


def fit(given: Params, spec: StudySpec, accepted: Accepted) -> Params | None:
    """Return the searched hyperparameters of a setting, None if this study could not have drawn the setting.

    What `given` does not name has its default.
    """
    whole = {name: hyperparameter.default for name, hyperparameter in accepted.items()} | dict(given)
    params: dict[str, Value] = {}
    for name, distribution in spec.space.items():
        if distribution.when is not None and not distribution.when.holds({**whole, **params}):
            continue
        if not distribution.contains(whole[name]):
            return None
        params[name] = whole[name]
    fixed = {name: spec.fixed.get(name, hyperparameter.default) for name, hyperparameter in accepted.items()}
    same = all(whole[name] == value for name, value in fixed.items() if name not in spec.space)
    return params if same else None


def _of_study(name: str, spec: StudySpec, stores: Stores) -> list[tuple[Params, float]]:
    if name == spec.name:
        raise SettingsError(f"study {name!r} has its own trials already", expected="another study in --from")
    with reading_storage(stores.storage) as storage:
        study = Study.open(storage, check_name("study", name), stores.work_folder(name))
        rows, other = study.ranked(), study.spec
    differences = [field for field in SHARED if getattr(spec, field) != getattr(other, field)]
    if differences:
        raise StudyError(
            f"the trials of study {name!r} say nothing of {spec.name!r}: they differ in {', '.join(differences)}",
            expected="a study of the same model, data, split, columns, epochs, folds and precision",
        )
    if not rows:
        raise StudyError(f"study {name!r} has no complete trial", expected="a study with at least one")
    return [({**other.fixed, **row.params}, float(row.val_accuracy or 0.0)) for row in rows]


def _of_table(path: Path, accepted: Accepted) -> list[tuple[Params, float]]:
    """Return the settings of a table in the form of a study's `trials.csv`.

    The column val_accuracy is needed, state may be there, and each hyperparameter that was searched or fixed is a
    column of its name; one without a column had its default. Rows that are not COMPLETE are skipped, and so are
    columns that name no hyperparameter.
    """
    try:
        with regular(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            rows = list(_first(reader))
    except (OSError, ValueError, csv.Error) as error:
        raise SettingsError(
            f"--import {path} cannot be read: {error}", expected="a trials.csv of a study"
        ) from error
    if ACCURACY not in header or len(set(header)) != len(header):
        raise SettingsError(
            f"--import {path} lacks the column {ACCURACY}, or has one twice",
            expected=f"the columns of a study's trials.csv: {ACCURACY}, and one for each hyperparameter",
        )
    known = [name for name in header if name in accepted]
    return [
        _of_row(f"--import {path}, row {number}", row, known, accepted)
        for number, row in enumerate(rows, start=1)
        if row.get(STATE) in (None, "COMPLETE")
    ]


def _first(reader: Iterable[dict[str, str]]) -> Iterable[dict[str, str]]:
    for number, row in enumerate(reader):
        if number == MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} rows")
        yield row


def _of_row(where: str, row: Mapping[str, str], names: Sequence[str], accepted: Accepted) -> tuple[Params, float]:
    # An empty cell is a hyperparameter that the trial did not use.
    params = {name: accepted[name].parse(f"{where}: {name}", read_cell(row[name])) for name in names if row[name]}
    try:
        accuracy = float(row[ACCURACY])
    except (TypeError, ValueError):
        accuracy = math.nan
    if not 0 <= accuracy <= 1:
        raise SettingsError(f"{where}: {ACCURACY} is {row[ACCURACY]!r}", expected="a number from 0 to 1")
    return params, accuracy
