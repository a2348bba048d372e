"""`harness status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from rich.table import Table

from harness.cli.options import Json, Storage
from harness.cli.output import print_json, print_table
from harness.cli.terminal import Console
from harness.core.files import sqlite_path
from harness.core.journal import running_on
from harness.core.objective import number_text
from harness.core.space import describe
from harness.core.workspace import resolve_stores


def status(storage: Storage = None, as_json: Json = False) -> None:
    """List the studies: finished, running and failed trials, the best value, and the time of the last change.

    Example: [bold]harness status[/bold]
    """
    stores = resolve_stores(None, storage)
    url = stores.storage
    path = sqlite_path(url)
    studies = []
    if path is None or path.exists():  # listing must not create a database
        from harness.study import list_studies, reading_database

        with reading_database(url) as opened:
            studies = [study for study in list_studies(opened) if study.part_of is None]
    if as_json:
        print_json([asdict(study) for study in studies])
        return
    if not studies:
        print("no studies yet; run: harness sweep --model fcnn --trials 40 --data demo")
        return
    # Short enough for 80 columns beside a name of 19 letters.
    table = Table("study", "model", "done", "running", "failed", "best", "last touched")
    now = datetime.now()
    for study in studies:
        counts, best = study.counts, number_text(study.best)
        touched = "-" if study.last_touched is None else _short(study.last_touched, now)
        numbers = [str(n) for n in (counts.finished, counts.running, counts.failed)]
        model = f"({study.fault})" if study.model is None else study.model.rpartition(":")[2]
        table.add_row(study.name, model, *numbers, best, touched)
    print_table(table)
    # Below the table: a setting of several hyperparameters does not fit into a column.
    found = [(study.name, study.best_params) for study in studies if study.best_params]
    lines = [
        f"{study.name}: trial {number} runs on {node}"
        for study in studies
        if study.counts.running
        for number, node in running_on(stores.work_folder(study.name)).items()
    ]
    lines += [
        f"{study.name}: {study.counts.finished} of {study.n_trials} trials have finished"
        for study in studies
        if study.n_trials is not None and study.fault is None and not study.is_complete
    ]
    lines += [
        f"{study.name}: trials that wait: {study.counts.waiting}"
        for study in studies
        if study.counts.waiting and study.fault is None
    ]
    if found:
        lines += [f"{name}: best setting {describe(params)}" for name, params in found]
        lines += [f"{s.name}: best is the {s.objective.label}" for s in studies if not s.objective.is_accuracy]
    if lines:
        Console().print("\n".join(lines), soft_wrap=True)  # at once: hundreds of calls take a second


def _short(time: datetime, now: datetime) -> str:
    """Return a time in 12 letters as `ls` does: with its hour in the present year, else with its year."""
    return f"{time:%b %d %H:%M}" if time.year == now.year else f"{time:%b %d  %Y}"
