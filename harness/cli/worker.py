"""`harness worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import Json, RecordedData, Storage, TrackingUri, TrustCode, option
from harness.cli.run_plan import carry_out


def worker(
    study: Annotated[str, typer.Option("--study", help="Name of the study to join.")],
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    data: RecordedData = None,
    jobs: Annotated[str | None, option("--jobs", "auto", "Number of trials in parallel, or auto.")] = None,
    device: Annotated[
        str, option("--device", "auto", "auto, cpu, cuda, cuda:N, or several: cuda:0,cuda:1.")
    ] = "auto",
    trust_code: TrustCode = False,
    timeout: Annotated[
        float | None, option("--timeout", "none", "Start no new trial after this many minutes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Join a study from any machine and run its trials until the study is finished.

    Example: [bold]harness worker --study gtzan-cnn --storage postgresql://me@db/optuna --tracking-uri http://mlflow:5000[/bold]
    """
    from harness.core.workspace import resolve_stores
    from harness.sweep.settings import check_jobs, check_timeout

    jobs_wanted, minutes = check_jobs(jobs or "auto"), check_timeout(timeout)
    stores = resolve_stores(tracking_uri, storage)
    from harness.workers.fork_server import TRAINING_SERVER

    TRAINING_SERVER.start()
    from harness.sweep.joining import join_study

    plan = join_study(
        study, stores, data=data, jobs=jobs_wanted, device=device, timeout=minutes, trust_code=trust_code
    )
    carry_out(plan, as_json)
