"""What tuning gains: nested evaluation, each outer split with a whole search of its own.

    .venv/bin/python experiments/nested.py --data input --out nested
    .venv/bin/python experiments/nested.py --data input --lists LISTS --out nested-lists

On random splits the outer test parts are two rounds of five folds; on lists all outer runs test on the same tracks
and differ by their seeds. In each outer run a study tunes the FCNN on the other tracks, by the settings of
`fcnn.toml` beside this script: a wide space, folds, confirmation. Then the chosen setting and the report's own are
trained on all of these tracks, five times each with other seeds, and tested once. Like is held against like: one
network against one, the mean of five against the mean of five. Gradient boosting, with the column `length` and
without it, gets the same tracks. `--without length` leaves the column out of every way.

The same command goes on where it was stopped: a search as every sweep does, the rest from `answers.json` of each
outer run. No choice is made on a test part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from harness.compare.baselines import BASELINES
from harness.compare.choose import draw_splits
from harness.core.files import replacing
from harness.core.names import derive_seed, digest_of
from harness.core.records import SYNTHETIC, Split, TrialConfig
from harness.core.space import Params
from harness.core.stats import Estimate, tracks_by_fits
from harness.data import FEATURE_COLUMNS, Tracks, View, read_split, stratified_split
from harness.data.open import load_data
from harness.models.registry import MODELS
from harness.sweep.confirm import confirm
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.settings import load_settings
from harness.training.loop import fit, start_training

RECIPE = Path(__file__).with_name("fcnn.toml")  # what is measured: a sweep by these settings
REPORT: Params = {"lr": 0.001, "batch_size": 32}
REPORT_EPOCHS = 30
SEEDS = 5
WAYS = ("untuned", "tuned")
BOOSTING: dict[str, tuple[str, ...]] = {"gradient boosting": (), "gradient boosting no length": ("length",)}


@dataclass(frozen=True)
class Answers:
    """Which of an outer run's test tracks each way got right, in the order of the test part."""

    test: tuple[str, ...]
    right: dict[str, list[bool]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="input", help="data folder, or demo for the synthetic set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the studies and the answers")
    parser.add_argument("--lists", type=Path, help="split lists; without them random splits are drawn")
    parser.add_argument("--outer", type=int, default=10, help="outer runs; on random splits a multiple of 5")
    for name in ("trials", "folds", "epochs"):
        parser.add_argument(f"--{name}", type=int, help=f"in place of what {RECIPE.name} says")
    parser.add_argument("--without", action="append", default=[], help="leave a column out, of every way")
    wanted = parser.parse_args()
    tracks = load_data(wanted.data)
    base = read_split(wanted.lists, tracks) if wanted.lists else stratified_split(tracks, seed=0)
    splits = draw_splits(tracks, base, wanted.outer, chose=())
    found = []
    for number, split in enumerate(splits):
        folder = wanted.out / f"outer-{number:02d}"
        found.append(outer_run(folder, tracks, split, number, wanted))
        print(f"outer run {number + 1} of {len(splits)}: " + describe(found[-1]), flush=True)
    report(found, tracks, redrawn=base.drawn, out=wanted.out)


def outer_run(folder: Path, tracks: Tracks, split: Split, number: int, wanted: argparse.Namespace) -> Answers:
    """Search on all but the test part, train both settings on it, and test; or read what an earlier call did."""
    path = folder / "answers.json"
    if path.exists():
        recorded = json.loads(path.read_text(encoding="utf-8"))
        if recorded["asked"] != asked(tracks, split, wanted):
            raise SystemExit(
                f"{path} has the answers of other data, settings or columns; give --out another folder"
            )
        return Answers(tuple(recorded["test"]), recorded["right"])
    folder.mkdir(parents=True, exist_ok=True)
    columns = tuple(name for name in FEATURE_COLUMNS if name not in wanted.without)
    params, epochs, last = search(folder, tracks, split, number, wanted)
    settings = {
        "untuned": (REPORT, REPORT_EPOCHS, REPORT_EPOCHS),
        "tuned": (params, epochs, last),
    }
    right: dict[str, list[bool]] = {}
    for way, (chosen, length, end) in settings.items():
        probabilities = np.stack(
            [
                trained(tracks, split, columns, chosen, length, end, derive_seed(0, "nested", number, seed))
                for seed in range(SEEDS)
            ]
        )
        truth = truth_of(tracks, split.test)
        right[way] = (probabilities[0].argmax(1) == truth).tolist()
        right[f"{way}, mean of {SEEDS}"] = (probabilities.mean(0).argmax(1) == truth).tolist()
    for name, left_out in BOOSTING.items():
        used = tuple(column for column in columns if column not in left_out)
        right[name] = boosted(tracks, split, used, number).tolist()
    content = {
        "asked": asked(tracks, split, wanted),
        "test": split.test,
        "right": right,
        "params": dict(params),
        "last_epoch": last,
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return Answers(split.test, right)


def asked(tracks: Tracks, split: Split, wanted: argparse.Namespace) -> str:
    """Return a digest of everything that the answers of an outer run depend on."""
    sizes = [wanted.trials, wanted.folds, wanted.epochs]
    return digest_of([tracks.digest, split.digest, RECIPE.read_text(encoding="utf-8"), sizes, wanted.without])


def search(
    folder: Path, tracks: Tracks, split: Split, number: int, wanted: argparse.Namespace
) -> tuple[Params, int, int]:
    """Return the chosen hyperparameters, the length of the schedule and the last epoch."""
    lists = write_lists(folder / "lists", tracks, split)
    given = {
        "data": wanted.data,
        "trials": wanted.trials,
        "epochs": wanted.epochs,
        "folds": wanted.folds,
        "without": tuple(wanted.without),
        "seed": number,
        "split": str(lists),
        "study": "tuned",
        "refit": False,
        "tracking_uri": f"sqlite:///{folder.resolve()}/mlflow.db",
        "storage": f"sqlite:///{folder.resolve()}/optuna.db",
    }
    settings = load_settings(RECIPE, given)
    plan = plan_sweep(settings)
    study = open_study(plan)
    summary = run_sweep(plan, study)
    if summary.is_complete:
        summary = confirm(plan, study, summary)
    if summary.signal is not None:
        raise SystemExit(128 + summary.signal)
    best = summary.best
    assert best is not None
    assert best.best_epoch is not None
    return {**plan.spec.fixed, **best.params}, settings.epochs, best.best_epoch


def write_lists(folder: Path, tracks: Tracks, split: Split) -> Path:
    """Write the split as lists, by which the sweep has exactly these parts."""
    folder.mkdir(exist_ok=True)
    genre = dict(zip(tracks.ids, (tracks.genres[label] for label in tracks.labels), strict=True))
    for part in ("train", "valid", "test"):
        lines = [f"{genre[track]}/{track}.wav\n" for track in getattr(split, part)]
        (folder / f"{part}.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def trained(
    tracks: Tracks, split: Split, columns: tuple[str, ...], params: Params, epochs: int, last: int, seed: int
) -> np.ndarray:
    """Return the probabilities of the test tracks by a network that was trained on all others."""
    config = TrialConfig(model="fcnn", params=params, epochs=epochs, seed=seed, threads=1, last_epoch=last)
    torch.set_num_threads(1)
    data = View(tracks, "features", columns).training(split.merged())
    state = start_training(config, MODELS["fcnn"], data, torch.device("cpu"))
    for _ in fit(state, data):
        pass
    rows = torch.from_numpy(values_of(tracks, columns)[rows_of(tracks, split.test)]).float()
    with torch.inference_mode():
        probabilities: np.ndarray = torch.softmax(state.classifier.eval()(rows), 1).numpy()
    return probabilities


def boosted(tracks: Tracks, split: Split, columns: tuple[str, ...], seed: int) -> np.ndarray:
    features = values_of(tracks, columns)
    train, test = rows_of(tracks, split.train + split.valid), rows_of(tracks, split.test)
    classifier = BASELINES["gradient boosting"](seed).fit(features[train], tracks.labels[train])
    right: np.ndarray = classifier.predict(features[test]) == tracks.labels[test]
    return right


def values_of(tracks: Tracks, columns: tuple[str, ...]) -> np.ndarray:
    assert tracks.features is not None
    values: np.ndarray = tracks.features[:, [tracks.columns.index(name) for name in columns]]
    return values


def rows_of(tracks: Tracks, ids: Sequence[str]) -> list[int]:
    row = {track: index for index, track in enumerate(tracks.ids)}
    return [row[track] for track in ids]


def truth_of(tracks: Tracks, ids: Sequence[str]) -> np.ndarray:
    truth: np.ndarray = tracks.labels[rows_of(tracks, ids)]
    return truth


def describe(answers: Answers) -> str:
    return ", ".join(f"{way} {np.mean(right):.3f}" for way, right in answers.right.items())


def report(found: Sequence[Answers], tracks: Tracks, *, redrawn: bool, out: Path) -> None:
    """Print the accuracy of each way and the differences with their intervals; write them to `result.json`."""
    console = Console(width=100)
    if tracks.synthetic:
        console.print(SYNTHETIC)
    ways = list(found[0].right)
    accuracies = {way: [float(np.mean(answers.right[way])) for answers in found] for way in ways}
    table = Table("way", "mean test accuracy", "lowest", "highest", title=f"{len(found)} outer runs")
    for way in sorted(ways, key=lambda way: -np.mean(accuracies[way])):
        values = accuracies[way]
        table.add_row(way, f"{np.mean(values):.3f}", f"{min(values):.3f}", f"{max(values):.3f}")
    console.print(table)
    singles, means = WAYS, tuple(f"{way}, mean of {SEEDS}" for way in WAYS)
    pairs = [
        (singles[1], singles[0]),
        (means[1], means[0]),
        *[(way, name) for name in BOOSTING for way in (singles[1], means[1])],
    ]
    table = Table("difference", "points", "95 % interval", title="paired, tracks x fits")
    differences = {}
    for one, other in pairs:
        estimate = difference(found, tracks, one, other, redrawn=redrawn)
        differences[f"{one} - {other}"] = [estimate.value, estimate.low, estimate.high]
        interval = f"{100 * estimate.low:+.1f} to {100 * estimate.high:+.1f}"
        table.add_row(f"{one} - {other}", f"{100 * estimate.value:+.1f}", interval)
    console.print(table)
    content = {"synthetic": tracks.synthetic, "accuracies": accuracies, "differences": differences}
    (out / "result.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def difference(found: Sequence[Answers], tracks: Tracks, one: str, other: str, *, redrawn: bool) -> Estimate:
    values = [
        np.array(answers.right[one], dtype=float) - np.array(answers.right[other], dtype=float)
        for answers in found
    ]
    clusters = [np.array(rows_of(tracks, answers.test)) for answers in found]
    pool, test = len({row for rows in clusters for row in rows}), float(np.mean([len(rows) for rows in clusters]))
    return tracks_by_fits(values, clusters, test / (pool - test) if redrawn else 0.0)


if __name__ == "__main__":
    main()
