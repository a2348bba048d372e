"""`harness delete`."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from harness.cli.messages import MessageConsole
from harness.cli.options import Storage, TrackingUri
from harness.core.errors import StudyError, mask_password
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
    if not yes:
        raise StudyError(
            f"nothing was deleted: --yes deletes study {study!r} with its runs and checkpoints",
            hint=f"harness delete {study} --yes",
        )
    from harness.study import Study, delete_study, list_studies, no_running_trials, open_storage, read_identity
    from harness.tracking import Tracker

    opened = open_storage(stores.storage, create=False)
    Study.check_exists(opened, study)
    studies = Tracker(stores.tracking_uri, create=False).studies
    part_of = {line.name: line.part_of for line in list_studies(opened)}
    # Those of a nested search come before it, as all parts come before the study.
    nested = [name for name, whole in part_of.items() if whole == study]
    parts = [name for name, whole in part_of.items() if whole in nested] + nested
    deleted = []
    for name in (*parts, study):  # the study last: its parts are found by it
        with no_running_trials(opened, name, stores.work_folder(name)):
            identity = read_identity(opened, name)
            if identity is not None:
                deleted.append(studies.delete(name, identity))
            delete_study(opened, name)
        shutil.rmtree(stores.work_root / name, ignore_errors=True)
    runs, kept = sum(each.runs for each in deleted), [place for each in deleted for place in each.kept]
    files = f", but not all their files ({len(kept)} folders)" if kept else " with their files"
    print(f"deleted study {study} and {runs} runs{files}")
    console = MessageConsole(soft_wrap=True)
    if not runs:
        where = mask_password(stores.tracking_uri)
        console.print(
            f"warning: {where} had no run of it; if its runs are elsewhere, they stay there", style="yellow"
        )
    for place in kept:
        console.print(f"warning: not deleted, because it is no folder of this store: {place!r}", style="yellow")
