"""`harness ui`."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

from harness.cli.messages import MessageConsole
from harness.cli.options import TrackingUri
from harness.core.errors import HarnessError, mask_password
from harness.core.files import sqlite_path
from harness.core.workspace import resolve_stores

NO_SECURITY = "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"  # would let every host name in


def ui(
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, show_default="a free one", help="Port to listen on.")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open the MLflow UI on the harness's store, on 127.0.0.1; stop it with Ctrl-C.

    It asks for no login: every user of this machine can read and change the store while it runs.

    Example: [bold]harness ui[/bold]
    """
    tracking = resolve_stores(tracking_uri, None).tracking_uri
    if tracking.startswith(("http://", "https://")):
        print(f"the store is a server, its UI is at {mask_password(tracking)}")
        return
    path = sqlite_path(tracking)
    if path is not None and not path.exists():
        raise HarnessError(f"there is no store {path} yet", hint="harness sweep --model fcnn --data demo")
    from harness.workers.fork_server import SAFE_PATH, absolute_module_path

    port = port or _free_port()
    print(f"MLflow UI: http://127.0.0.1:{port}", flush=True)
    MessageConsole(soft_wrap=True).print(
        "warning: the UI asks for no login: every user of this machine can read and change the store through it",
        style="yellow",
    )
    server = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # MLflow's default lets in any name that begins with 10. or 192.168., whatever it leads to.
    server += ["--allowed-hosts", ",".join(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))]
    inherited = {name: value for name, value in os.environ.items() if name != NO_SECURITY}
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **inherited,
        **absolute_module_path(),
        **SAFE_PATH,
        "MLFLOW_BACKEND_STORE_URI": tracking,  # not an argument: ps would show a database's password
    }
    os.chdir("/")  # uvicorn looks for modules in the current folder; a mlflow.py there must not run
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", *server], environment)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
