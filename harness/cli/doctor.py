"""`harness doctor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.options import Json, Storage, TrackingUri
from harness.core.workspace import resolve_stores


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Put right what can be put right.")] = False,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Look for what a crash, an outage or a move has left behind in the stores; exit 1 while anything is wrong.

    Example: [bold]harness doctor --fix[/bold]
    """
    from harness.sweep.doctor import examine

    findings = list(examine(resolve_stores(tracking_uri, storage), fix=fix))
    if as_json:
        print(json.dumps([finding.as_json() for finding in findings]))
    else:
        console = Console(soft_wrap=True, highlight=False)
        for finding in findings:
            where = "" if finding.study is None else f"{finding.study}: "
            console.print(f"{'fixed' if finding.fixed else 'found'}  {where}{finding.found}", markup=False)
        for run in dict.fromkeys(finding.hint for finding in findings if finding.hint):
            console.print(f"run    {run}", markup=False)
        if not findings:
            console.print("nothing is wrong", markup=False)
    if not all(finding.fixed for finding in findings):
        raise typer.Exit(1)
