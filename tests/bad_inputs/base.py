"""The material that cases are made from: a small data set, two studies and their exports, made once."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support import REPOSITORY

TRACKS_PER_GENRE = 8
STUDIES = {"fcnn": "2", "cnn": "1"}  # model -> number of trials


@dataclass
class Base:
    """A folder with the material; `opened` is closed when all cases are over."""

    root: Path
    opened: ExitStack = field(default_factory=ExitStack)

    @property
    def place(self) -> Path:
        """A folder in which both studies were made: the data are in `input/demo`, the stores in `mlruns`."""
        return self.root / "place"

    @property
    def data(self) -> Path:
        """The data set."""
        return self.place / "input" / "demo"

    @property
    def fcnn(self) -> Path:
        """The exported network on features, in all formats."""
        return self.root / "fcnn"

    @property
    def cnn(self) -> Path:
        """The exported network on pictures, in all formats."""
        return self.root / "cnn"

    @property
    def rows(self) -> Path:
        """A table that the network on features takes."""
        return self.data / "features_30_sec.csv"

    @cached_property
    def environment(self) -> dict[str, str]:
        """The variables of every command. No real folder of the user is read or written."""
        return {
            "HARNESS_CACHE": str(self.root / "cache"),
            "NO_COLOR": "1",
            "COLUMNS": "200",
            "PYTHONPATH": str(REPOSITORY),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    @cached_property
    def runs(self) -> dict[str, str]:
        """The ids of the runs by their kind: `study`, `trial` (the best one) and `other trial` of the FCNN."""
        with closing(sqlite3.connect(self.place / "mlruns" / "mlflow.db")) as connection:
            rows = connection.execute(
                "SELECT kind.value, trial.value, kind.run_uuid FROM tags AS kind "
                "JOIN tags AS study ON study.run_uuid = kind.run_uuid AND study.key = 'study' "
                "LEFT JOIN tags AS trial ON trial.run_uuid = kind.run_uuid AND trial.key = 'trial' "
                "WHERE kind.key = 'kind' AND study.value = 'demo-fcnn'"
            ).fetchall()
        study = next(run for kind, _, run in rows if kind == "study")
        best = json.loads((self.fcnn / "model.json").read_text())["run_id"]
        other = next(run for kind, _, run in rows if kind == "trial" and run != best)
        return {"study": study, "trial": best, "other trial": other}

    def make(self) -> None:
        """Make the material, unless an earlier call has."""
        if (self.root / "whole").exists():
            return
        from harness.data import make_demo

        make_demo(self.data, tracks_per_genre=TRACKS_PER_GENRE)
        for model, trials in STUDIES.items():
            options = ("--trials", trials, "--epochs", "1", "--jobs", "1", "--pruner", "none")
            self.command("sweep", "--model", model, "--data", "demo", *options)
            formats = [part for name in ("safetensors", "pt2", "onnx") for part in ("--format", name)]
            self.command("export", "--study", f"demo-{model}", "--out", str(self.root / model), *formats)
        (self.root / "whole").touch()

    def command(self, *arguments: str) -> str:
        """Run a command in the place, and return what it printed."""
        process = subprocess.run(
            [sys.executable, "-m", "harness.cli", *arguments],
            cwd=self.place,
            env={**os.environ, **self.environment, "XDG_STATE_HOME": str(self.root / "state")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        if process.returncode:
            raise SystemExit(f"harness {' '.join(arguments)}\n{process.stdout}")
        return process.stdout

    def copy_place(self, folder: Path) -> None:
        """Copy the stores and a link to the data into a folder, as if the studies had been made there."""
        from harness.tracking import fix_artifact_paths

        shutil.copytree(self.place / "mlruns", folder / "mlruns")
        fix_artifact_paths(folder / "mlruns" / "mlflow.db")
        (folder / "input").mkdir()
        (folder / "input" / "demo").symlink_to(self.data)


def copy_bundle(source: Path, folder: Path, names: Iterable[str] = ("model.json", "model.safetensors")) -> Path:
    """Copy some files of an exported bundle to a new folder."""
    folder.mkdir()
    for name in names:
        shutil.copy(source / name, folder / name)
    return folder


def change_json(path: Path, changes: Mapping[str, Any]) -> None:
    """Change a JSON file: `{"a.b": 1}` sets `b` in the object `a`. Other links to the file keep what it was."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, last = name.split(".")
        inner = content
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    path.write_text(json.dumps(content))


def change_rows(database: Path, statement: str, *parameters: object) -> None:
    """Run one statement on an SQLite database."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement, parameters)
