"""Requests to `harness ui` that a page of somebody else, or a name that leads to this machine, could send."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.bad_inputs.base import Base
from tests.bad_inputs.case import Case, Outcome, prints

KIND = "HTTP requests to the UI"
READ, WRITE = "/api/2.0/mlflow/experiments/search?max_results=5", "/api/2.0/mlflow/experiments/create"
AJAX, GRAPHQL = "/ajax-api/2.0/mlflow/experiments/create", "/graphql"
PATIENCE = 60  # seconds, until the server answers


@dataclass(frozen=True, slots=True)
class Server:
    """A running `harness ui`, in a folder with a module of the name `mlflow`, which must not run."""

    port: int
    mark: Path


def serve(base: Base) -> Server:
    """Start `harness ui` on the material; it is stopped when all cases are over."""
    folder = base.root / "ui"
    folder.mkdir(exist_ok=True)
    mark = folder / "mlflow.ran"
    mark.unlink(missing_ok=True)
    (folder / "mlflow.py").write_text(f"open({str(mark)!r}, 'w')\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    store = f"sqlite:///{base.place}/mlruns/mlflow.db"
    with (folder / "log").open("wb") as log:
        # -P: the command as it is installed, without the current folder in its path.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.cli", "ui", "--port", str(port), "--tracking-uri", store],
            cwd=folder,
            env={**os.environ, **base.environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    base.opened.callback(_stop, process)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            if _answer(port, "GET", "/health", {})[0] == 200:
                break
        except OSError:
            time.sleep(0.2)
    return Server(port, mark)


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answer(port: int, method: str, path: str, headers: dict[str, str], body: str = "") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Host": f"127.0.0.1:{port}", **headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body.encode())
        response = connection.getresponse()
        shared_with = response.headers.get("Access-Control-Allow-Origin", "nobody")
        return response.status, response.read(10_000).decode(errors="replace"), shared_with
    finally:
        connection.close()


def request(arguments: list[str]) -> None:
    """Send a request, and say how it ended as a command does: one error if it was refused."""
    port, method, path, headers, body = arguments
    status, text, shared_with = _answer(int(port), method, path, json.loads(headers), body)
    if status >= 400:
        sys.exit(f"error: refused, HTTP status {status}")
    print(json.dumps({"status": status, "text": text, "shared_with": shared_with}))


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases; the server starts before the first."""
    server = serve(base)
    port = str(server.port)

    def case(
        name: str, method: str, path: str, headers: dict[str, str], body: Any = None, right: bool = False
    ) -> Case:
        arguments = [port, method, path, json.dumps(headers), "" if body is None else json.dumps(body)]
        return Case(KIND, name, lambda here: arguments, _answered if right else None, program=request)

    for host in _own_hosts(port):
        yield case(f"Host: {_shown(host, port)}, which is its own", "GET", READ, {"Host": host}, right=True)
    for host in _hosts(port):
        yield case(f"Host: {_shown(host, port)}", "GET", READ, {"Host": host})
    json_header = {"Content-Type": "application/json"}
    for origin in _origins():
        for path in (WRITE, AJAX):
            headers = {"Origin": origin, **json_header}
            yield case(f"Origin: {origin}, POST {path}", "POST", path, headers, {"name": f"evil {origin} {path}"})
    # A query changes nothing. It is answered, but no browser shows the answer to a page of another origin.
    yield Case(KIND, "Origin: http://evil.com, POST /graphql", partial(_query, port), _kept, True, program=request)
    for path in _climbing(base.runs["trial"]):
        yield case(f"GET {path}", "GET", path, {})
    yield Case(
        KIND,
        "a module of the name mlflow in the current folder",
        lambda here: [str(server.mark)],
        _not_run,
        program=_ran,
    )


def _query(port: str, here: Path) -> list[str]:
    headers = {"Origin": "http://evil.com", "Content-Type": "application/json"}
    query = {"operationName": "x", "query": "query x { __typename }", "variables": {}}
    return [port, "POST", GRAPHQL, json.dumps(headers), json.dumps(query)]


def _shown(host: str, port: str) -> str:
    return host.replace(port, "PORT") or "(empty)"


def _answered(outcome: Outcome) -> str | None:
    return None if outcome.status == 0 else f"refused: {outcome.last_lines}"


def _kept(outcome: Outcome) -> str | None:
    """Return what is wrong with an answer that a page of somebody else must not be able to read."""
    return prints('"shared_with": "nobody"')(outcome)


def _ran(arguments: list[str]) -> None:
    print("ran" if Path(arguments[0]).exists() else "not run")


def _not_run(outcome: Outcome) -> str | None:
    return None if outcome.stdout == "not run\n" else "the module ran"


def _own_hosts(port: str) -> Iterator[str]:
    yield from (f"127.0.0.1:{port}", f"localhost:{port}")


def _hosts(port: str) -> Iterator[str]:
    names = ("evil.com", "10.evil.com", "10.0.0.1.evil.com", "192.168.evil.com", "172.16.attacker.net")
    yield from names
    yield from (f"{name}:{port}" for name in names)
    yield from ("localhost:x.evil.com", "localhost.evil.com", "127.0.0.1.evil.com", f"127.0.0.1:{port}.evil.com")
    yield from (f"evil.com@127.0.0.1:{port}", "[::1].evil.com", "192.168.0.1", "10.0.0.1", "")


def _origins() -> Iterator[str]:
    yield from ("http://evil.com", "null", "http://127.0.0.1.evil.com", "https://localhost.evil.com")
    yield from ("http://10.evil.com", "http://localhost@evil.com")


def _climbing(run: str) -> Iterator[str]:
    for path in ("../../../../etc/passwd", "/etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "checkpoint/../../x"):
        yield f"/get-artifact?path={path}&run_uuid={run}"
