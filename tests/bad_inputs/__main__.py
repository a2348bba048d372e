"""Give hundreds of bad inputs to the real command line, and print what came of them.

    python -m tests.bad_inputs [--only KIND ...] [--named TEXT] [--seed N] [--json FILE] [--base FOLDER]

Each input must end in a right result or in one clear error; exit 1 if one does not. Eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

for _name in list(os.environ):
    if _name.startswith(("HARNESS_", "MLFLOW_TRACKING")):
        del os.environ[_name]
# Before NumPy is imported: a process with threads cannot be forked safely.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

from tests.bad_inputs import (  # noqa: E402
    archives,
    bundles,
    folders,
    lists,
    pages,
    passwords,
    pictures,
    planted,
    records,
    settings,
    sounds,
    studies,
    tables,
)
from tests.bad_inputs.base import Base  # noqa: E402
from tests.bad_inputs.case import Case, Verdict, judge  # noqa: E402
from tests.bad_inputs.processes import import_everything, run_cases  # noqa: E402

Cases = Callable[[Base, int], Iterator[Case]]
KINDS: dict[str, Cases] = {
    archives.KIND: archives.cases,
    tables.KIND: tables.cases,
    pictures.KIND: pictures.cases,
    sounds.KIND: sounds.cases,
    lists.KIND: lists.cases,
    settings.KIND: settings.cases,
    bundles.KIND: bundles.cases,
    bundles.FLIPS_KIND: bundles.flips,
    studies.KIND: studies.cases,
    records.KIND: records.cases,
    pages.KIND: pages.cases,
    passwords.KIND: passwords.cases,
    folders.KIND: folders.cases,
    planted.KIND: planted.cases,
}


def main() -> None:
    """Run the kinds that were asked for."""
    options = _options()
    kinds = [kind for kind in KINDS if not options.only or any(word in kind for word in options.only)]
    root = Path(options.base or tempfile.mkdtemp(prefix="bad-")).absolute()
    base = Base(root)
    verdicts: list[Verdict] = []
    try:
        base.make()
        import_everything()
        notes = [note for note in (sounds.missing(),) if note and sounds.KIND in kinds]
        if notes:
            kinds.remove(sounds.KIND)
        elif sounds.KIND in kinds:
            sounds.warm_up()
        for kind in kinds:
            verdicts += _run(kind, base, options.seed, options.named)
    finally:
        base.opened.close()
        shutil.rmtree(root / "cases", ignore_errors=True)
        if options.base is None:
            shutil.rmtree(root, ignore_errors=True)
    print("\n".join([*_table(kinds, verdicts), *(f"left out: {note}" for note in notes)]))
    if options.json is not None:
        options.json.write_text(json.dumps([verdict.as_json() for verdict in verdicts], indent=1) + "\n")
    sys.exit(any(verdict.result == "failed" for verdict in verdicts))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Give hundreds of bad inputs to the real command line.")
    parser.add_argument(
        "--only", nargs="+", metavar="KIND", help=f"a part of the name of a kind: {'; '.join(KINDS)}"
    )
    parser.add_argument("--named", default="", metavar="TEXT", help="only inputs with this text in their name")
    parser.add_argument("--seed", type=int, default=0, help="of the random changes of files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write each case's outcome to a file")
    parser.add_argument("--base", metavar="FOLDER", help="make the material in this folder, or find it there")
    return parser.parse_args()


def _run(kind: str, base: Base, seed: int, named: str) -> list[Verdict]:
    started, verdicts = time.monotonic(), []
    folder = base.root / "cases"
    shutil.rmtree(folder, ignore_errors=True)
    cases = (case for case in KINDS[kind](base, seed) if named in case.name)
    for case, outcome in run_cases(cases, folder, base.environment):
        verdicts.append(judge(case, outcome))
    failed = sum(verdict.result == "failed" for verdict in verdicts)
    seconds = time.monotonic() - started
    print("\n".join(_failures(verdicts)), end="\n" if failed else "", flush=True)
    print(f"{kind}: {len(verdicts)} tried, {failed} failed, {seconds:.0f} s", file=sys.stderr, flush=True)
    return verdicts


def _failures(verdicts: list[Verdict]) -> Iterator[str]:
    for verdict in verdicts:
        if verdict.result == "failed":
            command = shlex.join(argument[:200] for argument in verdict.outcome.arguments)
            yield f"FAILED {verdict.case.kind}: {verdict.case.name}: {verdict.why}"
            yield f"  harness {command}".encode("unicode_escape").decode()
            yield from (f"  | {line}" for line in _plain(verdict.outcome.last_lines).splitlines())


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def _table(kinds: list[str], verdicts: list[Verdict]) -> Iterator[str]:
    yield f"{'kind':28} {'tried':>6} {'right result':>13} {'clear error':>12} {'failed':>7}"
    for kind in [*kinds, "all"]:
        found = [verdict.result for verdict in verdicts if kind in (verdict.case.kind, "all")]
        counts = [found.count("right result"), found.count("clear error"), found.count("failed")]
        yield f"{kind:28} {len(found):6} {counts[0]:13} {counts[1]:12} {counts[2]:7}"


if __name__ == "__main__":
    main()
