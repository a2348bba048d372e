"""`harness delete`."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from harness.cli.messages import MessageConsole
from harness.cli.options import Storage, TrackingUri
from harness.core.errors import StudyError, mask_password
from harness.core.files import sqlite_path
from harness.core.workspace import check_name, resolve_stores


def delete(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without --yes nothing is deleted.")] = False,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
) -> None:
    """Remove a study with its runs and files.

    Example: [bold]harness delete demo-fcnn --yes[/bold]
    """
    check_name("study", study)
    stores = resolve_stores(tracking_uri, storage)
    from harness.study import (
        Study,
        delete_study,
        list_studies,
        no_running_trials,
        open_storage,
        reaching,
        read_identity,
    )
    from harness.tracking import Tracker

    opened = open_storage(stores.storage, create=False)
    with reaching(stores.storage):
        Study.check_exists(opened, study)
        if not yes:
            raise StudyError(
                f"nothing was deleted: --yes deletes study {study!r} with its runs and checkpoints",
                hint=f"harness delete {study} --yes",
            )
        part_of = {line.name: line.part_of for line in list_studies(opened)}
        # Those of a nested search come before it, as all parts come before the study.
        nested = [name for name, whole in part_of.items() if whole == study]
        parts = [name for name, whole in part_of.items() if whole in nested] + nested
        # The study last: its parts are found by it.
        identities = {name: read_identity(opened, name) for name in (*parts, study)}
        database, where = sqlite_path(stores.tracking_uri), mask_password(stores.tracking_uri)
        # A store that was named must be there. The default one is not made before the first trial begins.
        is_not_made = tracking_uri is None and database is not None and not database.exists()
        studies = None
        if any(identities.values()) and not is_not_made:
            studies = Tracker(stores.tracking_uri, create=False).studies
        deleted = []
        for name, identity in identities.items():
            with no_running_trials(opened, name, stores.work_folder(name)):
                if studies is not None and identity is not None:
                    deleted.append(studies.delete(name, identity))
                delete_study(opened, name)
            shutil.rmtree(stores.work_root / name, ignore_errors=True)
    runs, kept = sum(each.runs for each in deleted), [place for each in deleted for place in each.kept]
    files = f", but not all their files ({len(kept)} folders)" if kept else " with their files"
    print(f"deleted study {study} and {runs} runs{files}")
    console = MessageConsole(soft_wrap=True)
    if identities[study] is None:
        console.print("warning: its record could not be read: runs of it in MLflow stay there", style="yellow")
    elif not runs:
        console.print(f"warning: no run of it in {where}: those in another store stay there", style="yellow")
    for place in kept:
        console.print(f"warning: not deleted, because it is no folder of this store: {place!r}", style="yellow")
