"""A study whose epochs are looked up in the one without a pruner is the study that trains them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import EXPERIMENTS

PRUNERS = ("median", "hyperband", "asha")


def searched(place: Path, *words: str) -> dict[str, tuple[int, list[object]]]:
    """Run the script; return the epochs and the settings of the incumbents of the study with each pruner."""
    script = str(EXPERIMENTS / "search_methods.py")
    only = [word for pruner in PRUNERS for word in ("--only", f"random-{pruner}")]
    command = [
        sys.executable,
        script,
        "--data",
        "demo",
        "--out",
        "searches",
        "--studies",
        "1",
        "--ends-only",
        *only,
    ]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=900, check=False, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SYNTHETIC" in done.stdout
    found = {}
    for pruner in PRUNERS:
        recorded = json.loads((place / "searches" / f"fcnn-random-{pruner}-0.json").read_text())
        found[pruner] = recorded["epochs"], [params for _, params in recorded["incumbents"]]
    return found


@pytest.mark.long
def test_a_replayed_search_is_the_search(place: Path) -> None:
    trained = searched(place)
    for pruner in PRUNERS:
        (place / "searches" / f"fcnn-random-{pruner}-0.json").unlink()
    replayed = searched(place, "--replay")
    assert replayed == trained
    assert len({epochs for epochs, _ in trained.values()}) > 1
    assert all(epochs < 40 * 30 for epochs, _ in trained.values())
