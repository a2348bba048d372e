"""`harness status`, `harness delete`, `harness ui`: looking at studies and removing them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.cli.options import Json, Storage, TrackingUri
from harness.errors import HarnessError, StudyError, mask_password
from harness.files import sqlite_path
from harness.settings import check_name, resolve_stores, work_folder_of


def status(storage: Storage = None, as_json: Json = False) -> None:
    """List the studies: trials finished, running, failed, the best value, when last touched.

    Example: [bold]harness status[/bold]
    """
    _, url, _ = resolve_stores(None, storage)
    path = sqlite_path(url)
    studies = []
    if path is None or path.exists():  # looking makes no database
        from harness.study import list_studies, open_storage, reaching

        with reaching(url):
            studies = list_studies(open_storage(url, create=False))
    if as_json:
        print(json.dumps([asdict(study) for study in studies], default=str))
        return
    if not studies:
        print("no studies yet; run: harness sweep --model fcnn --trials 40 --data demo")
        return
    table = Table("study", "model", "finished", "running", "failed", "best", "last touched")
    for study in studies:
        counts, best = study.counts, "-" if study.best is None else f"{study.best:.3f}"
        touched = "-" if study.last_touched is None else f"{study.last_touched:%Y-%m-%d %H:%M}"
        numbers = [str(n) for n in (counts.finished, counts.running, counts.failed)]
        table.add_row(study.name, study.model.rpartition(":")[2], *numbers, best, touched)
    Console().print(table)


def delete(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this the command only says what it would do.")
    ] = False,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
) -> None:
    """Remove a study with its runs and files.

    Example: [bold]harness delete demo-fcnn --yes[/bold]
    """
    check_name("study", study)
    tracking, url, work_root = resolve_stores(tracking_uri, storage)
    if not yes:
        raise StudyError(
            f"nothing was deleted: study {study!r} would go with its runs and checkpoints",
            run=f"harness delete {study} --yes",
        )
    from harness.study import Study, delete_study, no_running_trials, open_storage
    from harness.tracking import Tracker

    opened = open_storage(url, create=False)
    Study.check_exists(opened, study)
    with no_running_trials(opened, study, work_folder_of(work_root, url, study)):
        runs = Tracker(tracking).delete_study(study)
        delete_study(opened, study)
    shutil.rmtree(work_root / study, ignore_errors=True)
    print(f"deleted study {study} and {runs} runs with their files")


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Put right what can be put right.")] = False,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Look for what a crash, an outage or a move has left behind in the stores; exit 1 while anything is wrong.

    Example: [bold]harness doctor --fix[/bold]
    """
    tracking, url, work_root = resolve_stores(tracking_uri, storage)
    from harness.doctor import examine

    findings = list(examine(url, tracking, work_root, fix=fix))
    if as_json:
        print(json.dumps([finding.as_json() for finding in findings]))
    else:
        console = Console(soft_wrap=True, highlight=False)
        for finding in findings:
            where = "" if finding.study is None else f"{finding.study}: "
            console.print(f"{'fixed' if finding.fixed else 'found'}  {where}{finding.found}", markup=False)
        for run in dict.fromkeys(finding.run for finding in findings if finding.run):
            console.print(f"run    {run}", markup=False)
        if not findings:
            console.print("nothing is wrong", markup=False)
    if not all(finding.fixed for finding in findings):
        raise typer.Exit(1)


def ui(
    port: Annotated[
        int | None, typer.Option("--port", show_default="a free one", help="Port to listen on.")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open the MLflow UI on the harness's store, on 127.0.0.1; stop it with Ctrl-C.

    Example: [bold]harness ui[/bold]
    """
    tracking, _, _ = resolve_stores(tracking_uri, None)
    if tracking.startswith(("http://", "https://")):
        print(f"the store is a server, its UI is at {mask_password(tracking)}")
        return
    path = sqlite_path(tracking)
    if path is not None and not path.exists():
        raise HarnessError(f"there is no store {path} yet", run="harness sweep --model fcnn --data demo")
    port = port or _free_port()
    print(f"MLflow UI: http://127.0.0.1:{port}", flush=True)
    server = [
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": tracking,  # not an argument: ps would show a database's password
    }
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", *server], environment)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
