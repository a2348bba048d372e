"""`harness status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from harness.cli.options import Json, Storage
from harness.cli.output import print_json, print_table
from harness.cli.terminal import Console, print_text
from harness.core.files import sqlite_path
from harness.core.journal import running_on
from harness.core.objective import number_text
from harness.core.space import describe
from harness.core.workspace import check_name, resolve_stores

if TYPE_CHECKING:
    from harness.core.json_types import JsonObject
    from harness.core.trial_rows import TrialRow
    from harness.core.workspace import Stores


STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waits"}


def status(
    study: Annotated[str | None, typer.Argument(show_default="all studies", help="List its trials.")] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """List the studies: finished, running and failed trials, the best value, the last change; or a study's trials.

    Example: [bold]harness status[/bold], [bold]harness status gtzan-fcnn[/bold]
    """
    stores = resolve_stores(None, storage)
    if study is not None:
        check_name("study", study)
        _print_trials(stores, study, as_json)
        return
    url = stores.storage
    path = sqlite_path(url)
    studies = []
    if path is None or path.exists():  # listing must not create a database
        from harness.study import list_studies, reading_database

        with reading_database(url) as opened:
            studies = [each for each in list_studies(opened) if each.part_of is None]
    if as_json:
        print_json([asdict(each) for each in studies])
        return
    if not studies:
        print("no studies yet; run: harness sweep --model fcnn --trials 40 --data demo")
        return
    # Short enough for 80 columns beside a name of 19 letters.
    table = Table("study", "model", "done", "running", "failed", "best", "last touched")
    now = datetime.now()
    for each in studies:
        counts, best = each.counts, number_text(each.best)
        touched = "-" if each.last_touched is None else _short(each.last_touched, now)
        numbers = [str(n) for n in (counts.finished, counts.running, counts.failed)]
        model = f"({each.fault})" if each.model is None else each.model.rpartition(":")[2]
        table.add_row(each.name, model, *numbers, best, touched)
    print_table(table)
    # Below the table: a setting of several hyperparameters does not fit into a column.
    found = [(each.name, each.best_params) for each in studies if each.best_params]
    lines = [
        f"{each.name}: trial {number} runs on {node}"
        for each in studies
        if each.counts.running
        for number, node in running_on(stores.work_folder(each.name)).items()
    ]
    lines += [
        f"{each.name}: {each.counts.finished} of {each.n_trials} trials have finished"
        for each in studies
        if each.n_trials is not None and each.fault is None and not each.is_complete
    ]
    lines += [
        f"{each.name}: trials that wait: {each.counts.waiting}"
        for each in studies
        if each.counts.waiting and each.fault is None
    ]
    if found:
        lines += [f"{name}: best setting {describe(params)}" for name, params in found]
        lines += [f"{s.name}: best is the {s.objective.label}" for s in studies if not s.objective.is_accuracy]
    if lines:
        Console().print("\n".join(lines), soft_wrap=True)  # at once: hundreds of calls take a second


def _print_trials(stores: Stores, name: str, as_json: bool) -> None:
    """Print the trials of a study, in their order."""
    from harness.study import Study, reading_storage

    with reading_storage(stores.storage) as opened:
        found = Study.open(opened, name, stores.work_folder(name))
        rows, objective, best = found.rows(), found.spec.objective, found.best()
    if as_json:
        print_json([_trial_json(row) for row in rows])
        return
    table = Table("trial", "state", objective.label.removeprefix("validation "), "epoch", "s", "setting")
    for row in rows:
        value, seconds = number_text(objective.of(row)), "-" if row.seconds is None else f"{row.seconds:.0f}"
        epoch = "-" if row.best_epoch is None else str(row.best_epoch)
        setting = Text(describe(row.params) or "not drawn yet")
        table.add_row(str(row.number), STATES[row.state], value, epoch, seconds, setting)
    print_table(table, folds=True)
    lines = [f"trial {row.number}: {row.reason}" for row in rows if row.state == "FAIL" and row.reason]
    if best is not None:
        lines.append(f"best: trial {best.number}, {objective.label} {number_text(objective.of(best))}")
    if not any(row.is_ended for row in rows):
        lines.append("no trial has ended yet")
    if lines:
        print_text("\n".join(lines))


def _trial_json(row: TrialRow) -> JsonObject:
    return {
        "trial": row.number,
        "state": STATES[row.state],
        "params": dict(row.params),
        "val_accuracy": row.val_accuracy,
        "val_loss": row.val_loss,
        **row.own,
        "folds": list(row.folds),
        "epoch": row.best_epoch,
        "seconds": row.seconds,
        "reason": row.reason,
    }


def _short(time: datetime, now: datetime) -> str:
    """Return a time in 12 letters as `ls` does: with its hour in the present year, else with its year."""
    return f"{time:%b %d %H:%M}" if time.year == now.year else f"{time:%b %d  %Y}"
