"""A sweep called from Python: a model that is a class, data that are in memory, progress as a bar."""

from __future__ import annotations

import ast
import hashlib
import inspect
import linecache
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from tqdm import tqdm

from harness.core.errors import SettingsError, Stopped
from harness.core.events import Ended, Event
from harness.core.files import replacing
from harness.core.objective import number_text
from harness.core.recorded import fits
from harness.core.stage import Stage
from harness.core.trust import remember
from harness.core.workspace import RUNS_FOLDER
from harness.data.memory import Dataset
from harness.sweep.driver import open_study
from harness.sweep.plan import SweepPlan, plan_sweep
from harness.sweep.settings import SweepSettings, checked, parse_jobs, refuse_unknown
from harness.sweep.uploader import Listener
from harness.sweep.whole import run_whole
from harness.workers.fork_server import TRAINING_SERVER

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")

# What the source of a class may use without an import of its own.
HEADER = '''"""A model that was written in a notebook or a script; harness.sweep made this file of it."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import harness
from harness import Hyperparameter

'''


def sweep_from_python(
    model: str | type, data: str | Path | Dataset, settings: Mapping[str, Any], *, progress: bool
) -> SweepPlan:
    """Run a sweep with these settings, and return its plan; see `harness.sweep`."""
    folder = RUNS_FOLDER.absolute()
    name = model if isinstance(model, str) else model_file(model, folder / "models")
    place = str(data) if not isinstance(data, Dataset) else str(_data_folder(data, folder / "data"))
    given = {"model": name, "data": place, **{key: value for key, value in settings.items() if value is not None}}
    refuse_unknown(given, SweepSettings.model_fields, "")
    plan = plan_sweep(checked(given, ""))
    TRAINING_SERVER.start()
    show = Bars(progress)
    summary = run_whole(plan, open_study(plan), show)
    if summary.unsent is not None:
        raise summary.unsent
    if summary.signal is not None:
        what = "interrupted; all that has ended is on record"
        raise Stopped(what, signal=summary.signal, hint="the same call again")
    return plan


def settings_of(kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Return the settings of a command that is called from Python, as dataclass `kind`.

    Values may be written as on the command line: `jobs="auto"`, a path as text or text as a path, a list for a
    tuple.

    Raises SettingsError for a name that `kind` has not, and for a value of another type.
    """
    hints = get_type_hints(kind)
    refuse_unknown(given, hints, "")
    values = {name: _as_declared(value, hints[name]) for name, value in given.items()}
    if "jobs" in values:
        values["jobs"] = parse_jobs(values["jobs"])
    for name, value in values.items():
        if not fits(value, hints[name]):
            options = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
            expected = " or ".join(options) or getattr(hints[name], "__name__", str(hints[name]))
            raise SettingsError(f"{name} is {value!r:.60}", expected=expected)
    return kind(**values)


def _as_declared(value: object, hint: object) -> Any:
    kinds = (hint, *get_args(hint))
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and Path in kinds:
        return Path(value)
    return str(value) if isinstance(value, Path) and Path not in kinds else value


def model_file(model: type, folder: Path) -> str:
    """Write the source of a class to a file, and return `FILE:Class`.

    The file has the common imports; what else the class needs must stand inside it. The user has agreed to run it:
    it is the user's own class.

    Raises SettingsError if the source is not known.
    """
    try:
        source = textwrap.dedent(_source_of(model))
    except (OSError, TypeError, SyntaxError) as error:
        raise SettingsError(
            f"the source of {model.__name__} is not known: {error}",
            expected="a class whose source travels with the study",
            hint=f"put it into a file, and name it: model='FILE.py:{model.__name__}'",
        ) from error
    code = (HEADER + source).encode()
    digest = hashlib.sha256(code).hexdigest()
    path = folder / f"{model.__name__}-{digest[:12]}.py"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(code)
    remember(digest, path)
    return f"{path}:{model.__name__}"


def _source_of(model: type) -> str:
    """Return the source of a class, also of one that was written in a cell of a notebook.

    Python before 3.13 finds classes by the file of their module, which a notebook does not have. The methods name
    the cell that they come from, and IPython keeps its text where `linecache` finds it.

    Raises OSError or TypeError if the source is not known, SyntaxError if the text found is no Python.
    """
    try:
        return inspect.getsource(model)
    except OSError:
        for method in vars(model).values():
            code = getattr(method, "__code__", None)
            lines = [] if code is None else linecache.getlines(code.co_filename)
            for node in ast.walk(ast.parse("".join(lines))):
                if not isinstance(node, ast.ClassDef) or node.name != model.__name__:
                    continue
                if code is not None and node.lineno <= code.co_firstlineno <= (node.end_lineno or 0):
                    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                    return "".join(lines[first - 1 : node.end_lineno])
        raise


def _data_folder(data: Dataset, folder: Path) -> Path:
    """Return the folder of a data set in memory; it is written once."""
    path = folder / f"{data.digest()[:12]}" / data.name
    return path if path.exists() else data.save(path)


class Bars:
    """Shows a sweep as bars that work in a terminal and in a notebook (see `Show`)."""

    def __init__(self, progress: bool) -> None:
        self._progress = progress

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[Listener]:
        """Show a bar of the trainings of a stage, with the best value."""
        found = stage.best
        with tqdm(
            total=stage.total, initial=stage.done, desc=stage.title, disable=not self._progress, unit="trial"
        ) as bar:

            def show(_number: int, event: Event) -> None:
                nonlocal found
                if not isinstance(event, Ended) or not event.result.has_finished:
                    return
                reached = event.result.best
                value = None if reached is None else stage.objective.of(reached)
                if event.result.state == "complete" and value is not None:
                    found = stage.objective.best([found, value])
                    bar.set_postfix_str(f"best {number_text(found)}", refresh=False)
                bar.update(1)

            yield show

    def say(self, text: str) -> None:
        """Print a sentence beside the bars."""
        if self._progress:
            tqdm.write(text)
