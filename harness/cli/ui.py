"""`harness ui`."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

from harness.cli.options import TrackingUri
from harness.core.errors import HarnessError, mask_password
from harness.core.files import sqlite_path
from harness.core.workspace import resolve_stores


def ui(
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, show_default="a free one", help="Port to listen on.")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open the MLflow UI on the harness's store, on 127.0.0.1; stop it with Ctrl-C.

    Example: [bold]harness ui[/bold]
    """
    tracking = resolve_stores(tracking_uri, None).tracking_uri
    if tracking.startswith(("http://", "https://")):
        print(f"the store is a server, its UI is at {mask_password(tracking)}")
        return
    path = sqlite_path(tracking)
    if path is not None and not path.exists():
        raise HarnessError(f"there is no store {path} yet", hint="harness sweep --model fcnn --data demo")
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
