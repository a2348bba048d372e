"""Warnings on a comparison: unequal effort of the studies, best values at an edge, leaking splits and columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from harness.compare.plan import ComparedStudy
from harness.core.candidate import Candidate
from harness.core.records import Split
from harness.core.space import edge_parameters, show
from harness.data import Tracks
from harness.data.leaks import leak_warnings

EDGE = 0.025  # share of the searched range (on its own scale): a best value nearer to an end gets a warning
FAILURE_GAP = 0.1  # a larger difference between the failure rates of two studies gets a warning
ENOUGH_SEEDS = 8  # measured: with fewer seeds, where trainings vary much, the rule errs in 8 to 18 %, not in 5 %


def study_warnings(compared: Sequence[ComparedStudy], *, nested: bool = False) -> list[str]:
    """Return a warning for each difference in effort between studies, and each best value at an edge.

    The searches of a `nested` comparison are told of no trials of others, whatever those of the studies were.
    """
    found = []
    for a, b in combinations(compared, 2):
        one, two = a.spec.name, b.spec.name
        if a.counts.finished != b.counts.finished:
            found.append(f"budgets differ: {one} has {a.counts.finished} trials, {two} {b.counts.finished}")
        if a.spec.epochs != b.spec.epochs:
            found.append(f"epochs differ: {one} trains {a.spec.epochs}, {two} {b.spec.epochs}")
        if a.spec.precision != b.spec.precision:
            found.append(f"precision differs: {one} {a.spec.precision}, {two} {b.spec.precision}")
        shares = [e.counts.failed / max(1, e.counts.finished + e.counts.failed) for e in (a, b)]
        if abs(shares[0] - shares[1]) > FAILURE_GAP:
            found.append(
                f"failure rates differ: {100 * shares[0]:.0f} % of the trials of {one} failed, "
                f"{100 * shares[1]:.0f} % of {two}"
            )
    found += [
        f"budgets differ: the search of {study.spec.name} was told {study.known}, beside its own trials"
        for study in compared
        if study.known is not None and not nested
    ]
    for study in compared:
        space, best = study.spec.space, study.best.params
        found += [
            f"the best {name} of {study.spec.name}, {show(best[name])}, lies at the edge of its range "
            f"({space[name]}): a better value may lie outside"
            for name in edge_parameters(space, best, EDGE)
        ]
    return found


def few_repeats(split: Split, repeats: int) -> list[str]:
    """Warn of too few repeats on a fixed split."""
    if split.drawn or repeats >= ENOUGH_SEEDS:
        return []
    return [
        f"{repeats} repeats on one split: the interval is too narrow with so few seeds; "
        f"{ENOUGH_SEEDS} or more are advised"
    ]


def look_warnings(looks: Sequence[int]) -> list[str]:
    """Warn of a result that was seen before with another number of repeats."""
    if len(looks) < 2:
        return []
    seen = ", then ".join(str(number) for number in looks)
    return [
        f"this is look {len(looks)} at the result, which was seen with {seen} repeats: to look, add repeats and "
        "look again errs more often than the interval says"
    ]


def split_warnings(tracks: Tracks, split: Split) -> list[str]:
    """Warn of identical tracks, and of groups, in different parts of a split that is given by lists."""
    side_of = {t: part for part in ("train", "valid", "test") for t in getattr(split, part)}
    torn = [g for g in tracks.duplicates if len({side_of[t] for t in g if t in side_of}) > 1]
    sides: dict[str, set[str]] = {}
    for track, group in zip(tracks.ids, tracks.groups or (), strict=False):
        if track in side_of:
            sides.setdefault(group, set()).add(side_of[track])
    divided = sorted(group for group, parts in sides.items() if len(parts) > 1)
    found = []
    for what, names in (
        (f"group(s) of identical {tracks.words.items} lie", [", ".join(group) for group in torn]),
        ("group(s) of the data set lie", divided),
    ):
        if names:
            shown = "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "")
            found.append(f"{len(names)} {what} in different parts of the split: {shown}")
    return found


def leak_warnings_of(candidates: Sequence[Candidate], tracks: Tracks, split: Split) -> list[str]:
    """Warn of columns in use that depend on the file rather than on the music."""
    used = {name for candidate in candidates if candidate.study for name in candidate.columns}
    return leak_warnings(tracks, split, tuple(name for name in tracks.columns if name in used))
