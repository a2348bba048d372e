"""`harness doctor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.cli.options import Json, Storage, TrackingUri
from harness.cli.terminal import Console
from harness.core.workspace import resolve_stores


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair the faults that can be repaired.")] = False,
    dead_after: Annotated[
        float,
        typer.Option(
            min=2,
            metavar="MINUTES",
            help="A run of another machine counts as dead after this many minutes without a heartbeat; "
            "a live process writes one each minute.",
        ),
    ] = 15,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Find what a crash, an outage or a moved folder left behind in the stores; exit 1 if a fault remains.

    Without --fix nothing is written. With it, a run is ended only if its process ran on this machine and has
    died, or if it has had no heartbeat for --dead-after minutes. Any other run that is RUNNING
    belongs to another process: it is listed as "other" and left unchanged, and it is not a fault.

    Example: [bold]harness doctor --fix[/bold]
    """
    from harness.sweep.doctor import examine

    stores = resolve_stores(tracking_uri, storage)
    findings = list(examine(stores, fix=fix, dead_after=dead_after))
    faults = [finding for finding in findings if finding.fault]
    if as_json:
        print(json.dumps([finding.as_json() for finding in findings]))
    else:
        console = Console(soft_wrap=True)
        for finding in findings:
            where = "" if finding.study is None else f"{finding.study}: "
            word = "fixed" if finding.fixed else "found" if finding.fault else "other"
            console.print(f"{word}  {where}{finding.found}")
        for hint in dict.fromkeys(finding.hint for finding in findings if finding.hint):
            console.print(f"try:   {hint}")
        if not faults:
            console.print("nothing is wrong on this machine" if findings else "nothing is wrong")
    if not all(finding.fixed for finding in faults):
        raise typer.Exit(1)
