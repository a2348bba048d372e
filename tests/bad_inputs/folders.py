"""Names of the current folder: a sweep in it makes both databases, a data set's link and the work folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bad_inputs.base import Base
from tests.bad_inputs.case import Case, Outcome, parsed

KIND = "names of working folders"
NAMES = (
    *("a b", "a?b", "a%20b", "{x}", "{0}", "a'b\"c", "a'b", "ä", "日本語", "a#b", "a;b", "a&b=c", "$HOME", "-x"),
    *(
        "a\nb",
        "a\\b",
        "[b]",
        "[bold]b",
        "*",
        "a:b",
        "~",
        "100%",
        "%s",
        "sqlite:",
        "a@b",
        "\x1b[2J",
        "\u202eb",
        "a" * 180,
    ),
)
NO_UTF8 = b"a\xffb"


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    for name in NAMES:
        shown = name.encode("unicode_escape").decode()[:20]
        yield Case(KIND, f"a sweep in {shown!r}", partial(_sweep, base, name), _swept, may_refuse=True, seconds=60)
    name = os.fsdecode(NO_UTF8)
    yield Case(KIND, "a sweep in a name that is not UTF-8", partial(_sweep, base, name), _swept, True, seconds=60)


def _sweep(base: Base, name: str, here: Path) -> list[str]:
    folder = here / name
    folder.mkdir()
    os.chdir(folder)
    (here.parent / "name").write_bytes(os.fsencode(name))
    options = ["--trials", "1", "--epochs", "1", "--jobs", "1", "--pruner", "none"]
    return ["sweep", "--model", "fcnn", "--data", str(base.data), "--json", *options]


def _swept(outcome: Outcome) -> str | None:
    """Return what is wrong with a sweep, or None: both databases lie in its folder, and nothing beside it."""
    if outcome.status != 0:
        return f"refused (exit status {outcome.status})"
    name = os.fsdecode((outcome.folder / "name").read_bytes())
    folder = outcome.here / name
    lacking = [file for file in ("mlflow.db", "optuna.db") if not (folder / "mlruns" / file).is_file()]
    beside = [path for path in os.listdir(outcome.here) if path != name]  # noqa: PTH208
    try:
        counts = parsed(outcome.stdout)["trials"]
    except (ValueError, KeyError) as error:
        return f"no summary: {error}"
    if lacking or beside:
        return f"no {lacking} in the folder, {beside} beside it"
    return None if counts["complete"] == 1 else json.dumps(counts)
