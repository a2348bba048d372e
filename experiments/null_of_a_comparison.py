"""Does the verdict's rule err as often as it says, on the answers of a real comparison?

    .venv/bin/python experiments/null_of_a_comparison.py report/predictions.csv

reads what `harness compare --out report` has written. It makes each two models equal: it swaps their answers at
random, track by track and the same way in all repeats. Then it counts how often a rule still finds a difference:
the rule of the verdict, the corrected resampled t, and the plain t that takes repeats for independent. Nominal are
5 %. At last the second of each two is robbed of right answers on tracks drawn at random, and it counts how often
the rule finds this.

The table does not say which tracks are identical, so each counts as one by itself.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import ttest_1samp

from harness.core.stats import corrected_resampled_t, tracks_by_fits

POINTS = (3, 5, 10)


@dataclass(frozen=True)
class Answers:
    """Which tracks a model got right: bool [tracks] for each repeat, with the tracks' numbers."""

    tracks: list[np.ndarray]
    right: list[np.ndarray]


def read_answers(path: Path) -> dict[str, Answers]:
    """The answers of each model in `predictions.csv`."""
    found: dict[str, dict[int, dict[str, bool]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            repeat = found.setdefault(line["name"], {}).setdefault(int(line["repeat"]), {})
            repeat[line["track"]] = line["correct"] == "1"
    names = sorted({track for repeats in found.values() for repeat in repeats.values() for track in repeat})
    number = {track: index for index, track in enumerate(names)}
    return {
        model: Answers(
            [np.array([number[track] for track in sorted(repeats[r])]) for r in sorted(repeats)],
            [np.array([repeats[r][track] for track in sorted(repeats[r])]) for r in sorted(repeats)],
        )
        for model, repeats in found.items()
    }


def ratio_of(tracks: list[np.ndarray]) -> float:
    """test / (pool - test) where the test parts differ from repeat to repeat, else 0."""
    pool = len(np.unique(np.concatenate(tracks)))
    test = float(np.mean([len(part) for part in tracks]))
    return 0.0 if pool == test else test / (pool - test)


def verdicts(differences: list[np.ndarray], tracks: list[np.ndarray], ratio: float) -> tuple[bool, bool, bool]:
    """Whether a difference is found by the rule, by the corrected resampled t, and by the plain t."""
    means = [float(part.mean()) for part in differences]
    return (
        tracks_by_fits(differences, tracks, ratio).excludes_zero,
        corrected_resampled_t(means, ratio).excludes_zero,
        bool(np.ptp(means) > 0 and ttest_1samp(means, 0).pvalue < 0.05),
    )


def rows(answers: dict[str, Answers], tries: int, seed: int) -> Iterator[str]:
    """A row of the table for each pair of models, in Markdown."""
    chance = np.random.default_rng(seed)
    for one, other in combinations(answers, 2):
        tracks = answers[one].tracks
        size, ratio = 1 + max(int(part.max()) for part in tracks), ratio_of(tracks)
        a, b = answers[one].right, answers[other].right
        null, power = [], []
        for _ in range(tries):
            swap = chance.random(size) < 0.5
            first = [np.where(swap[t], y, x) for t, x, y in zip(tracks, a, b, strict=True)]
            second = [np.where(swap[t], x, y) for t, x, y in zip(tracks, a, b, strict=True)]
            null.append(verdicts([x.astype(float) - y for x, y in zip(first, second, strict=True)], tracks, ratio))
            accuracy, found = float(np.mean(np.concatenate(second))), []
            for points in POINTS:
                robbed = chance.random(size) < points / 100 / accuracy
                worse = [y & ~robbed[t] for t, y in zip(tracks, second, strict=True)]
                lost = [x.astype(float) - y for x, y in zip(first, worse, strict=True)]
                found.append(tracks_by_fits(lost, tracks, ratio).excludes_zero)
            power.append(found)
        apart = float(np.mean([np.mean(x != y) for x, y in zip(a, b, strict=True)]))
        shares = [*np.mean(null, axis=0), *np.mean(power, axis=0)]
        cells = [one, other, f"{100 * apart:.0f}", *[f"{100 * share:.1f}" for share in shares[:3]]]
        yield f"| {' | '.join([*cells, *[f'{100 * share:.0f}' for share in shares[3:]]])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("predictions", type=Path, help="predictions.csv of a comparison")
    parser.add_argument("--tries", type=int, default=1000, help="swaps for each pair")
    parser.add_argument("--models", nargs="*", help="names as in the table (default: all but majority)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    answers = read_answers(arguments.predictions)
    wanted = arguments.models or [name for name in answers if not name.startswith("majority")]
    if missing := set(wanted) - set(answers):
        parser.error(f"{arguments.predictions} has no {', '.join(sorted(missing))}; it has {', '.join(answers)}")
    print("Per cent of the tries in which a difference is found.\n")
    print("| models | | disagree on | rule | resampled t | plain t | power 3 | 5 | 10 points |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows({name: answers[name] for name in wanted}, arguments.tries, arguments.seed):
        print(row, flush=True)


if __name__ == "__main__":
    main()
