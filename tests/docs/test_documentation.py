"""What README and `docs/` name exists, and what the command line and the record have is named there."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from harness.cli import app
from harness.core.errors import HarnessError
from tests.support import EXPERIMENTS, REPOSITORY
from tests.support.stores import Stores
from tests.support.sweeps import sweep

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
TEXT = {page.name: page.read_text() for page in PAGES}
USAGE = TEXT["usage.md"]
# Flags of other programs that the pages show: mlflow, pytest, PostgreSQL's and Slurm's tools, git.
FOREIGN = {
    "--address", "--allowed-hosts", "--array", "--artifacts-destination", "--cpus-per-task", "--dist",
    "--durations", "--env-manager", "--exclusive", "--gres", "--head", "--host", "--nodes", "--owner",
    "--pwprompt", "--requeue", "--signal", "--time",
}  # fmt: skip


def commands(group: object, prefix: str = "") -> Iterator[tuple[str, TyperCommand]]:
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        if isinstance(command, TyperCommand):
            yield f"{prefix}{name}", command
        else:
            yield from commands(command, f"{name} ")


COMMANDS = dict(commands(typer.main.get_command(app)))
WRONG_USAGE = 2  # Typer's own


def flags_of(command: TyperCommand) -> set[str]:
    found = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    return {flag for flag in found if flag.startswith("--")} | {"--help"}


def code(text: str) -> list[str]:
    """The pieces of a page that are code: what stands between backticks, and each line of a block."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [re.sub(r"\s+", " ", piece) for piece in (*spans, *lines)]


def calls(text: str) -> Iterator[tuple[str, set[str]]]:
    """Each call of a `harness` command in a page's code, with its flags."""
    for piece in code(text):
        for words in re.findall(r"(?:^|[/;&{] ?|nohup |srun )harness ((?:data )?[a-z]+[^;&|#]*)", piece):
            parts = words.split()
            name = " ".join(parts[:2]) if parts[0] == "data" else parts[0]
            yield name, set(re.findall(r"(?<!\S)--[a-z][a-z-]*", words))


@pytest.mark.parametrize("page", TEXT)
def test_commands_that_a_page_shows_exist(page: str) -> None:
    for name, flags in calls(TEXT[page]):
        assert name in COMMANDS, f"{page}: harness {name}"
        assert flags <= flags_of(COMMANDS[name]), f"{page}: harness {name} has no {flags}"


@pytest.mark.parametrize("page", TEXT)
def test_flags_that_a_page_names_exist(page: str) -> None:
    known = {flag for command in COMMANDS.values() for flag in flags_of(command)} | FOREIGN | {"--version"}
    for script in (*EXPERIMENTS.glob("*.py"), REPOSITORY / "tests" / "lower_bounds.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', script.read_text()))
    named = {flag for piece in code(TEXT[page]) for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", piece)}
    assert named <= known, f"{page}: {named - known}"


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_and_their_flags_are_documented(name: str) -> None:
    text = "\n".join(TEXT.values())
    assert f"harness {name}" in text
    named = set(re.findall(r"--[a-z][a-z-]*", text))
    assert flags_of(COMMANDS[name]) - {"--help"} <= named, f"harness {name}: {flags_of(COMMANDS[name]) - named}"


def test_environment_variables_that_pages_name_exist() -> None:
    sources = "\n".join(path.read_text() for path in (REPOSITORY / "harness").rglob("*.py"))
    known = {
        str(variable)
        for command in COMMANDS.values()
        for parameter in command.params
        for variable in ([parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ())
    }
    of_tests = ("HARNESS_GTZAN", "HARNESS_GPU")
    for page, text in TEXT.items():
        for variable in re.findall(r"\bHARNESS_[A-Z_]*[A-Z]\b", text):
            assert variable in known or variable in sources or variable in of_tests, f"{page}: {variable}"


def test_exit_codes() -> None:
    section = USAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    usual = {0, HarnessError.exit_code, WRONG_USAGE}
    assert set(map(int, re.findall(r"\b\d+\b", section))) == usual | {
        128 + signal.SIGHUP,
        128 + signal.SIGINT,
        128 + signal.SIGTERM,
    }


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_tests_that_pages_name_exist() -> None:
    for page, text in TEXT.items():
        for file, name in re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)(?:::(\w+))?", text):
            path = REPOSITORY / "tests" / file
            assert path.is_file(), f"{page}: {file}"
            assert not name or f"def {name}(" in path.read_text(), f"{page}: {file}::{name}"


def test_files_that_pages_name_exist() -> None:
    for page, text in TEXT.items():
        for name in re.findall(r"`((?:harness|experiments|tests|docs)/[\w/.]+)`", text):
            assert (REPOSITORY / name).exists(), f"{page}: {name}"


def row(name: str) -> set[str]:
    """What a row of the table of a trial's record names."""
    (line,) = re.findall(rf"^\| {name} \|(.*)\|$", USAGE, re.MULTILINE)
    return set(re.findall(r"`([\w.]+)`", line))


@pytest.mark.long
def test_the_record_of_a_trial_is_documented(place: Path) -> None:
    """On a real run: every param, metric and tag has its place in the table, and every param in it is there."""
    sweep(trials=1)
    (run,) = Stores.here().runs("demo-fcnn", "trial")
    assert set(run.data.params) <= row("params")
    assert set(run.data.metrics) <= row("metrics by epoch") | row("metrics")
    assert row("metrics by epoch") <= set(run.data.metrics)
    own = {tag for tag in run.data.tags if not tag.startswith("mlflow.")}
    assert own <= row("tags") | {"environment", "code_dirty"}, own - row("tags")
    assert "`environment`" in USAGE
    assert "`code_dirty`" in USAGE


def test_tags_that_are_documented_are_set_somewhere() -> None:
    sources = "\n".join(path.read_text() for path in (REPOSITORY / "harness").rglob("*.py"))
    for tag in row("tags") - {"removed"}:
        assert re.search(rf"\b{tag}\b", sources), tag


def test_environments_of_installation_are_extras_of_the_package() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    for page, text in TEXT.items():
        for extra in re.findall(r"-e '\.\[(\w+)\]'", text):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"{page}: {extra}"
