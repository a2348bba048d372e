"""What commands print to stdout: JSON that is JSON, and tables that fit or are whole."""

import json
import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from harness.cli.output import print_json, print_table
from harness.core.space import Value
from harness.study import Study, open_storage
from tests.support.commands import Harness, last_json
from tests.support.studies import CONTEXT, SPEC
from tests.test_architecture import PACKAGE

NAME = "a-study-with-a-name-of-so-many-letters-that-it-does-not-fit-into-the-eighty-columns-of-a-terminal"


def test_numbers_that_json_does_not_have_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    values: dict[str, Value | float] = {"nan": math.nan, "one": 1.5, "text": "NaN"}
    print_json({"list": [math.inf, (-math.inf, 2)], "table": values, "time": datetime(2026, 1, 2), "no": None})
    text = capsys.readouterr().out
    found = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in {text}"))
    assert found == {
        "list": [None, [None, 2]],
        "table": {"nan": None, "one": 1.5, "text": "NaN"},
        "time": "2026-01-02 00:00:00",
        "no": None,
    }


def test_every_command_prints_json_that_way() -> None:
    for path in (PACKAGE / "cli").glob("*.py"):
        assert path.name == "output.py" or "json.dump" not in path.read_text(encoding="utf-8"), path


def table() -> Table:
    found = Table("study", "finished")
    found.add_row(Text(NAME), "3")
    found.add_row("two", "40")
    return found


def test_a_name_is_whole_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table(table())
    (line,) = (line for line in capsys.readouterr().out.splitlines() if NAME in line)
    assert "3" in line


@pytest.mark.parametrize("folds", [False, True])
def test_on_a_narrow_terminal_each_cell_has_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folds: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    print_table(table(), folds=folds)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"study: {NAME}", "finished: 3", "", "study: two", "finished: 40", ""]


def test_status_on_a_narrow_terminal(workspace: Path, inside: Harness) -> None:
    storage = open_storage("sqlite:///mlruns/optuna.db")
    Study.create(storage, replace(SPEC, name=NAME), CONTEXT, workspace / "work")
    storage.engine.dispose()
    (found,) = last_json(inside("status", "--json"))
    assert found["name"] == NAME
    for environment in ({"COLUMNS": "20"}, {"COLUMNS": "20", "FORCE_COLOR": "1", "TERM": "xterm"}):
        assert NAME in inside("status", **environment).stdout


def test_what_the_locale_cannot_print_is_escaped(harness: Harness) -> None:
    done = harness("delete", "Ⅳ", code=1, PYTHONIOENCODING="ascii")
    assert "\\u2163" in done.stderr
    assert "Traceback" not in done.stderr
