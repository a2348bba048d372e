"""The command line: parse, call, print. PyTorch and MLflow are imported inside the commands."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from harness.cli.compare import compare
from harness.cli.data import data_app
from harness.cli.delete import delete
from harness.cli.doctor import doctor
from harness.cli.export import export
from harness.cli.messages import MessageConsole
from harness.cli.predict import predict
from harness.cli.reproduce import reproduce
from harness.cli.similar import similar
from harness.cli.status import status
from harness.cli.sweep import sweep
from harness.cli.traits import traits
from harness.cli.ui import ui
from harness.cli.worker import worker
from harness.core.errors import HarnessError
from harness.core.files import REFUSED_WRITES
from harness.core.garbage import collect_seldom
from harness.core.version import __version__

app = typer.Typer(
    name="harness",
    help="Tune networks with Optuna, record every trial in MLflow, export the best checkpoint.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (sweep, worker, status, ui, compare, traits, export, predict, similar, reproduce, doctor, delete):
    app.command()(command)
app.add_typer(data_app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Tune networks with Optuna, record every trial in MLflow, export the best checkpoint."""


def main() -> None:
    """Run the command line; a HarnessError is printed to stderr and sets the exit code."""
    collect_seldom()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name that the locale cannot print is escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except HarnessError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in REFUSED_WRITES:
            raise
        _print_error(
            f"{error}\nexpected: a disk with room, and the permission to write there\ntry: the same command again"
        )
        sys.exit(1)


def _print_error(text: str) -> None:
    MessageConsole().print(f"error: {text}", style="red", soft_wrap=True)
