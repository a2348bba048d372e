"""What a case is, and what its outcome may be."""

from __future__ import annotations

import json
import signal
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, TypeVar

SECONDS, MEGABYTES = 20.0, 1500.0  # of computing and of memory, for one command
LONGEST_MESSAGE = 4000  # characters
# What SQLite, locks and Python's own cleaning leave beside a database or in a folder for temporary files.
NO_LEFTOVERS = ("*.db-wal", "*.db-shm", "*.lock", "*/.machine", "*/mlruns/work*", "tmp/pymp-*", "home*")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    `status` is the exit status, negative for a signal, None if it had to be stopped. `left` are the files and
    folders that it made, relative to `folder`, which is the case's own folder: `here` is the current folder of the
    command, `tmp` the one for temporary files.
    """

    arguments: tuple[str, ...]
    folder: Path
    status: int | None
    stdout: str
    stderr: str
    seconds: float
    megabytes: float
    left: tuple[str, ...]

    @property
    def here(self) -> Path:
        """The current folder of the command when it started."""
        return self.folder / "here"

    @property
    def last_lines(self) -> str:
        """The end of what the command printed."""
        lines = [line for line in (self.stdout + self.stderr).splitlines() if line.strip()]
        return "\n".join(line[:300] for line in lines[-6:])


# What is wrong with an outcome, or None.
Check = Callable[[Outcome], str | None]
Prepare = Callable[[Path], list[str]]
Program = Callable[[list[str]], None]


def command_line(arguments: list[str]) -> None:
    """Run the `harness` command in this process."""
    import sys

    from harness.cli import main

    sys.argv = ["harness", *arguments]
    main()


@dataclass(frozen=True, slots=True)
class Case:
    """One bad input.

    `prepare` gets an empty folder, the current one, writes the input there and returns the command's arguments.
    `right` says whether the outcome is a right result; None if the input must be refused. `may_refuse`: a clear
    error is good too. `leaves` are patterns of what a command may leave behind although it failed. `never` finds
    what no outcome may do.
    """

    kind: str
    name: str
    prepare: Prepare
    right: Check | None = None
    may_refuse: bool = False
    leaves: tuple[str, ...] = ()
    never: Check | None = None
    environment: dict[str, str] = field(default_factory=dict)
    program: Program = command_line
    seconds: float = SECONDS
    megabytes: float = MEGABYTES


Input = TypeVar("Input")


def cases_of(
    kind: str,
    inputs: Mapping[str, Input],
    prepare: Callable[[Input], Prepare],
    right: Check | None = None,
    may_refuse: bool = False,
) -> Iterator[Case]:
    """Yield a case for each input by its name."""
    for name, content in inputs.items():
        yield Case(kind, name, prepare(content), right, may_refuse)


Result = Literal["right result", "clear error", "failed"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a case; `why` says what is wrong with a failed one."""

    case: Case
    outcome: Outcome
    result: Result
    why: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the verdict as `--json` writes it."""
        outcome = self.outcome
        return {
            "kind": self.case.kind,
            "name": self.case.name,
            "result": self.result,
            "why": self.why,
            "command": list(outcome.arguments),
            "status": outcome.status,
            "seconds": round(outcome.seconds, 2),
            "megabytes": round(outcome.megabytes),
            "last_lines": outcome.last_lines,
        }


def judge(case: Case, outcome: Outcome) -> Verdict:
    """Return the verdict on the outcome of a case."""

    def failed(why: str) -> Verdict:
        return Verdict(case, outcome, "failed", why)

    harm = _harm(case, outcome)
    if harm is not None:
        return failed(harm)
    if case.right is not None:
        wrong = case.right(outcome)
        if wrong is None:
            return Verdict(case, outcome, "right result")
        if not case.may_refuse or outcome.status == 0:
            return failed(wrong)
    elif outcome.status == 0:
        return failed("accepted, and should be refused")
    wrong = _unclear(case, outcome)
    return Verdict(case, outcome, "clear error") if wrong is None else failed(wrong)


def _harm(case: Case, outcome: Outcome) -> str | None:
    """Return what no outcome may be, whether result or error."""
    text = outcome.stdout + outcome.stderr
    if outcome.megabytes > case.megabytes:
        return f"took {outcome.megabytes:.0f} MB of memory, limit {case.megabytes:.0f}"
    if outcome.status is None:
        return f"not finished after {case.seconds:g} s"
    if outcome.status < 0:
        return f"ended by {signal.Signals(-outcome.status).name}"
    if "Traceback (most recent call last)" in text:
        return "a traceback"
    if any(path.endswith(".ran") for path in outcome.left):
        return "code ran that the user has not named"
    raw = sorted({character for character in text if _is_control(character)})
    if raw:
        return f"control characters reach the terminal: {raw!r}"
    return None if case.never is None else case.never(outcome)


def _is_control(character: str) -> bool:
    """Whether a terminal may obey the character: control characters, and those that turn the writing direction."""
    if unicodedata.category(character) == "Cc":
        return character not in "\n\t"
    return "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"


def _unclear(case: Case, outcome: Outcome) -> str | None:
    """Return why the outcome is not one clear error, or None."""
    if outcome.status not in (1, 2):
        return f"exit status {outcome.status}, expected 1 or 2"
    lines = outcome.stderr.splitlines()
    errors = sum(line.startswith("error: ") for line in lines)
    usage = sum(line.startswith("Usage:") for line in lines)
    if errors + usage != 1:
        return f"{errors + usage} error messages, expected one"
    if len(outcome.stderr) > LONGEST_MESSAGE:
        return f"a message of {len(outcome.stderr)} characters"
    left = [
        path for path in outcome.left if not any(fnmatch(path, each) for each in (*NO_LEFTOVERS, *case.leaves))
    ]
    return f"left behind: {', '.join(left[:5])}" if left else None


def prints(*words: str) -> Check:
    """Return the check that a command succeeded and printed these words to stdout."""

    def check(outcome: Outcome) -> str | None:
        if outcome.status != 0:
            return f"refused (exit status {outcome.status}), and should be accepted"
        missing = [word for word in words if word not in outcome.stdout]
        return f"the output lacks {missing!r}" if missing else None

    return check


def parsed(text: str) -> Any:
    """Return the content of JSON text; raises ValueError for text that is no JSON, as NaN."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def json_that(accept: Callable[[Any], str | None], statuses: tuple[int, ...] = (0,)) -> Check:
    """Return the check that stdout is one JSON document that `accept` finds nothing wrong with."""

    def check(outcome: Outcome) -> str | None:
        if outcome.status not in statuses:
            return f"refused (exit status {outcome.status}), and should be accepted"
        try:
            found = parsed(outcome.stdout)
        except ValueError as error:
            return f"stdout is not JSON: {error}"
        return accept(found)

    return check


def predictions(found: Any) -> str | None:
    """Return what is wrong with the JSON of `harness predict`, or None."""
    if found["errors"] or not found["predictions"]:
        return f"{len(found['predictions'])} predictions, errors {found['errors']!r}"
    for prediction in found["predictions"]:
        chances = [genre["probability"] for genre in prediction["genres"]]
        if not all(0 <= chance <= 1 for chance in chances) or chances != sorted(chances, reverse=True):
            return f"probabilities {chances}"
    return None


PREDICTED = json_that(predictions)
