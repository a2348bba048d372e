"""Optuna's own tools open our studies: its command line, and its dashboard."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.servers import free_port, wait_for_url
from tests.support.sweeps import sweep

URL = "sqlite:///mlruns/optuna.db"
BIN = Path(sys.executable).parent


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_optunas_command_line_and_dashboard_open_a_study(tmp_path: Path) -> None:
    summary = sweep(trials=3)
    assert summary.best is not None
    done = subprocess.run(
        [BIN / "optuna", "trials", "--storage", URL, "--study-name", "demo-fcnn", "-f", "json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    assert [trial["state"] for trial in found] == ["COMPLETE"] * 3
    assert found[summary.best.number]["value"] == summary.best.val_accuracy == max(t["value"] for t in found)
    assert found[summary.best.number]["params"] == dict(summary.best.params)

    port, log = free_port(), tmp_path / "dashboard.log"
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        command = [str(BIN / "optuna-dashboard"), URL, "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for_url(url, server, log)
        with urllib.request.urlopen(f"{url}/api/studies", timeout=30) as answer:
            studies = json.load(answer)["study_summaries"]
        (name,) = [study["study_name"] for study in studies]
        assert name == "demo-fcnn"
        with urllib.request.urlopen(f"{url}/api/studies/{studies[0]['study_id']}", timeout=30) as answer:
            trials = json.load(answer)["trials"]
    finally:
        server.terminate()
        server.wait(timeout=30)
    assert [trial["state"] for trial in trials] == ["Complete"] * 3
    assert trials[summary.best.number]["values"] == [summary.best.val_accuracy]
