"""The report, reproduced: what it did, what it said it did, and what tuning makes of both networks.

    .venv/bin/python experiments/reproduce_report.py --data input --lists LISTS --out report-runs --write

runs everything (about five hours on two cores, nearly all of it the CNN; started again, it goes on where it was)
and writes the README's table and its picture. `LISTS` is a folder with the fault-filtered split's train/valid/test
lists. `--split random` or `--split filtered` does one half. What is measured is kept beside this script, in
`finding/`; what lies there for the same data, lists and sizes is not measured again.

- as_published: raw features, 80/20, no validation, lr 0.001, batch 32, 30 epochs, the last epoch counts;
- as_described: the same with the features scaled (on the train part), as the report's text has it;
- tuned: `harness sweep` for each network by `fcnn.toml` or `cnn.toml` beside this script, then `harness
  compare`.

All networks are tuned alike: 40 trials judged by one validation part. (Five folds, which `fcnn.toml` has by
itself, would take the CNN a day, and would leave only the studies' own test part to judge.) The CNN is trained
with the white border of the pictures, as published, and without it. The first two recipes open their test part
as the report did, once, after the last epoch: nothing is chosen on it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.model_selection import train_test_split

from harness.core.names import derive_seed, digest_of
from harness.core.pages.canvas import BLUE, GREY, ORANGE
from harness.core.records import Split, TrialConfig
from harness.data import Tracks, View, load_tracks, read_split, used_columns, with_crop
from harness.models.normalise import StandardizeFeatures
from harness.models.registry import model_spec
from harness.training.loop import fit, start_training
from harness.workers.cpus import usable_cores
from harness.workers.fork_server import KEEP_LARGE_BLOCKS

ROOT = Path(__file__).parents[1]
PUBLISHED = {"cnn": (0.605, 0.575), "fcnn": (0.325, 0.28)}  # the report's two runs
FOLDER = Path(__file__).parent
CROPS: tuple[Literal["none", "frame"], ...] = ("none", "frame")
RESIDUAL = "experiments/residual_mlp.py:ResidualMLP"
OTHER_MEANING = ("width",)  # of the residual network: a number of units, where the FCNN has a factor
BEGIN, END = "<!-- reproduce_report.py: begin -->", "<!-- reproduce_report.py: end -->"
KEPT = ("split", "models", "untuned", "baselines", "pairs", "gains", "verdict", "warnings")  # of a comparison
SplitKind = Literal["random", "filtered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One training of the report's kind."""

    recipe: Literal["as_published", "as_described"]
    model: str
    split: SplitKind
    without: tuple[str, ...]
    seed: int
    crop: Literal["none", "frame"] = "none"


def recipes(arguments: argparse.Namespace) -> Iterator[Recipe]:
    """Every training; pictures know no scaler, so the CNN's two recipes are one."""
    first: list[tuple[Literal["as_published", "as_described"], str, tuple[str, ...]]] = [
        ("as_published", "fcnn", ()),
        ("as_described", "fcnn", ()),
        ("as_published", "fcnn", ("length",)),
        ("as_described", "fcnn", ("length",)),
    ]
    for split in arguments.split:
        for recipe, model, without in first:
            for seed in range(arguments.seeds):
                yield Recipe(recipe=recipe, model=model, split=split, without=without, seed=seed)
        for seed in range(min(arguments.seeds, arguments.cnn_seeds)):
            for crop in CROPS:
                yield Recipe(recipe="as_published", model="cnn", split=split, without=(), seed=seed, crop=crop)


def two_parts(tracks: Tracks, recipe: Recipe, lists: Path) -> Split:
    """The report had no validation part: what is called `valid` here is its test part, looked at once, at the end.

    Random splits are drawn for each network apart, as the report's were.
    """
    if recipe.split == "filtered":
        split = read_split(lists, tracks)
        train, test = sorted(split.train + split.valid), split.test
    else:
        seed = derive_seed(recipe.seed, "report", recipe.model)
        train, test = train_test_split(list(tracks.ids), test_size=0.2, random_state=seed)
    return Split(name=recipe.split, drawn=recipe.split == "random", train=tuple(train), valid=tuple(test), test=())


def train_recipe(recipe: Recipe, data: Path, lists: Path, epochs: int) -> float:
    """Train as the report did and return the accuracy after the last epoch."""
    spec, tracks = model_spec(recipe.model), load_tracks(data)
    torch.set_num_threads(1)  # one training for each core, none of which waits for another
    columns = used_columns(tracks, recipe.without) if spec.representation == "features" else ()
    split = two_parts(tracks, recipe, lists)
    params = (
        {} if recipe.crop == "none" else {"crop": recipe.crop}
    )  # every other default is what the report published
    view = View(with_crop(tracks, [split], [recipe.crop]), spec.representation, columns).for_params(params)
    parts = view.training(split)
    config = TrialConfig(
        model=recipe.model,
        epochs=epochs,
        seed=derive_seed(recipe.seed, "report", "training"),
        threads=1,
        params=params,
    )
    state = start_training(config, spec, parts, torch.device("cpu"))
    if recipe.recipe == "as_published" and spec.representation == "features":
        use_raw_features(state.classifier, len(columns))
    *_, last = fit(state, parts)
    assert last.val_accuracy is not None
    return last.val_accuracy


def use_raw_features(classifier: Any, inputs: int) -> None:
    """The report's mistake: take the scaler away, so that the network sees values from 1e-4 to 1e5."""
    classifier.normalise = StandardizeFeatures.blank(inputs)


def run_recipes(arguments: argparse.Namespace, results: Path) -> list[dict[str, Any]]:
    """Train what has not been trained yet under these conditions; one line a training."""
    tracks = load_tracks(arguments.data)
    conditions = digest_of([arguments.epochs, tracks.digest, read_split(arguments.lists, tracks).digest])[:16]
    trained = list(recipes(arguments))
    every = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    wanted = [{**json.loads(json.dumps(asdict(r))), "conditions": conditions} for r in trained]
    lines = [line for line in every if {k: v for k, v in line.items() if k != "accuracy"} in wanted]
    known = [{k: v for k, v in line.items() if k not in ("accuracy", "conditions")} for line in lines]
    missing = [r for r in trained if json.loads(json.dumps(asdict(r))) not in known]
    os.environ.update(KEEP_LARGE_BLOCKS)  # read by glibc when the workers start
    with ProcessPoolExecutor(usable_cores(), mp_context=multiprocessing.get_context("spawn")) as pool:
        same = [[value] * len(missing) for value in (arguments.data, arguments.lists, arguments.epochs)]
        for recipe, accuracy in zip(missing, pool.map(train_recipe, missing, *same), strict=True):
            lines.append(
                {**json.loads(json.dumps(asdict(recipe))), "conditions": conditions, "accuracy": accuracy}
            )
            with results.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            print(f"{recipe}: {accuracy:.3f}", file=sys.stderr)
    return lines


def harness(arguments: argparse.Namespace, *words: str) -> str:
    """Run a `harness` command on this script's own stores and return what it printed."""
    stores = ["--tracking-uri", f"sqlite:///{arguments.out}/mlruns/mlflow.db"]
    stores += ["--storage", f"sqlite:///{arguments.out}/mlruns/optuna.db"]
    command = [sys.executable, "-m", "harness.cli", *words, *stores]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def compared(arguments: argparse.Namespace, split: SplitKind) -> dict[str, Any]:
    """Return the comparison on one split, from its file where that was made under these conditions."""
    tracks = load_tracks(arguments.data)
    sizes = [arguments.trials, arguments.repeats, tracks.digest, read_split(arguments.lists, tracks).digest]
    recipe_texts = [(FOLDER / name).read_text(encoding="utf-8") for name in ("fcnn.toml", "cnn.toml")]
    conditions = digest_of([*sizes, *recipe_texts])[:16]
    file = arguments.results / f"{split}.json"
    if file.exists():
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if known["conditions"] == conditions:
            return known
    everything = tune(arguments, split)
    found = {"conditions": conditions, **{key: everything[key] for key in KEPT}}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def tune(arguments: argparse.Namespace, split: SplitKind) -> dict[str, Any]:
    """Sweep all networks on one split and compare them."""
    lists = ["--split", str(arguments.lists)] if split == "filtered" else []
    fcnn = ["--config", str(FOLDER / "fcnn.toml"), "--folds", "1"]
    studies = {
        f"report-{split}-fcnn": fcnn,
        f"report-{split}-fcnn-without-length": [*fcnn, "--without", "length"],
        f"report-{split}-residual": ["--model", RESIDUAL, *residual_words()],
        # The studies of the figures in `finding` were pruned so, all networks alike.
        f"report-{split}-cnn": ["--config", str(FOLDER / "cnn.toml"), "--pruner", "median"],
    }
    for study, words in studies.items():
        harness(
            arguments,
            *("sweep", "--study", study, "--experiment", "report", "--data", str(arguments.data)),
            *("--trials", str(arguments.trials)),
            *words,
            *lists,
        )
    named = [word for study in studies for word in ("--study", study)]
    folder = str(arguments.out / f"comparison-{split}")
    wanted = ["--repeats", str(arguments.repeats), "--data", str(arguments.data), "--out", folder, "--json"]
    found: dict[str, Any] = json.loads(harness(arguments, "compare", *named, *wanted))
    return found


def mean_std(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def accuracies(lines: list[dict[str, Any]], **wanted: Any) -> list[float]:
    return [line["accuracy"] for line in lines if all(line[key] == value for key, value in wanted.items())]


def model_of(found: dict[str, Any], study: str) -> dict[str, Any]:
    (model,) = [model for model in found["models"] if model["study"] == study]
    return dict(model)


def tuned(found: dict[str, Any], study: str) -> dict[str, Any]:
    return dict(model_of(found, study)["test"])


def crop_of(found: dict[str, Any], study: str) -> str:
    chosen = model_of(found, study)["params"]["crop"]
    return f"The CNN's search chose pictures {'with' if chosen == 'none' else 'without'} their border."


def residual_words() -> list[str]:
    """The settings of `fcnn.toml` as flags, but for those that mean something else to the residual network."""
    recipe = tomllib.loads((FOLDER / "fcnn.toml").read_text(encoding="utf-8"))
    words = ["--epochs", str(recipe["epochs"])]
    for name, value in recipe["set"].items():
        words += ["--set", f"{name}={value}"]
    for name, wanted in recipe["search"].items():
        if name in OTHER_MEANING:
            continue
        if isinstance(wanted, list):
            text = ",".join(map(str, wanted))
        else:
            text = f"{wanted['low']}:{wanted['high']}" + (":log" if wanted.get("log") else "")
        words += ["--search", f"{name}={text}"]
    return words


# Title, model, columns left out, crop, and the study that tunes it ("": none, the CNN's search chooses its crop).
ROWS: tuple[tuple[str, str, list[str], str, str], ...] = (
    ("CNN on pictures", "cnn", [], "none", "cnn"),
    ("CNN, pictures without their white border", "cnn", [], "frame", ""),
    ("FCNN on features", "fcnn", [], "none", "fcnn"),
    ("FCNN, without `length`", "fcnn", ["length"], "none", "fcnn-without-length"),
    ("residual MLP on features", "", [], "none", "residual"),
)


def table(
    lines: list[dict[str, Any]], comparisons: dict[SplitKind, dict[str, Any]], pictures: str, trials: int
) -> str:
    """The README's table, in Markdown."""
    head = ["", "published", "as published", "as described", "tuned"]
    out = []
    for split, found in comparisons.items():
        seeds = len(accuracies(lines, model="fcnn", split=split, recipe="as_published", without=[]))
        name = "random splits" if split == "random" else "fault-filtered split"
        out += [f"| {' | '.join([f'**{name}**', *head[1:]])} |", "|---|---|---|---|---|"]
        for title, model, without, crop, suffix in ROWS:
            cells = [title]
            published = PUBLISHED.get(model, ()) if split == "random" and not without and crop == "none" else ()
            cells.append(" / ".join(f"{value:g}" for value in published) or "–")
            for recipe in ("as_published", "as_described"):
                recipe = "as_published" if model == "cnn" else recipe  # pictures know no scaler
                values = accuracies(lines, model=model, split=split, recipe=recipe, without=without, crop=crop)
                cells.append(mean_std(values) if values else "–")
            test = tuned(found, f"report-{split}-{suffix}") if suffix else None
            cells.append("–" if test is None else f"{test['mean']:.3f} ± {test['std']:.3f}")
            out.append(f"| {' | '.join(cells)} |")
        repeats = found["pairs"][0]["repeats"]
        chosen = crop_of(found, f"report-{split}-cnn")
        of_cnn = len(accuracies(lines, model="cnn", split=split, crop="none"))
        trained = f"{seeds} seeds (CNN: {of_cnn}); tuned: {repeats} repeats."
        out += ["", f"{trained} {headline(found, split)} {chosen}", ""]
    out.append(
        "Accuracy on the test part, mean ± std. *Published*: the report's two runs; *as published*: what its code "
        "did (raw features); *as described*: features scaled, as its text says (pictures know no scaler, so the "
        f"CNN's two are one); *tuned*: {trials} trials on one validation part, then trained on all but the test "
        f"part. Pictures: {pictures}."
    )
    return "\n".join(out).strip()


def headline(found: dict[str, Any], split: SplitKind) -> str:
    """The sentence on the two networks of the report."""
    names = (f"report-{split}-fcnn", f"report-{split}-cnn")
    (pair,) = [pair for pair in found["pairs"] if {pair["a"], pair["b"]} == set(names)]
    sign = 1 if pair["a"] == names[0] else -1
    low, high = sorted((sign * pair["low"], sign * pair["high"]))
    wins = pair["wins"] if sign == 1 else pair["losses"]
    difference = 100 * sign * pair["difference"]
    level = f"{100 * pair['confidence']:.3g} % CI"  # Holm's, over all pairs
    shown = f"{difference:+.1f} points, {level} {100 * low:.1f} to {100 * high:.1f}"
    verdict = {names[0]: "FCNN beats CNN", names[1]: "CNN beats FCNN"}.get(pair["winner"], "no difference shown")
    return f"Tuned, FCNN against CNN: {verdict}, {shown}, FCNN ahead in {wins} of {pair['repeats']} repeats."


TITLES: dict[SplitKind, str] = {"random": "Random splits", "filtered": "Fault-filtered split"}
SHOWN = ("accuracy", "learning_curves", "recall_by_genre")


def details(comparisons: dict[SplitKind, dict[str, Any]], arguments: argparse.Namespace) -> str:
    """The page with everything that the comparisons found, in Markdown."""
    out = [
        "# Both networks on GTZAN, tuned and compared",
        "",
        "Written by `experiments/reproduce_report.py`; figures are accuracies, mean ± standard deviation over "
        f"{arguments.repeats} repeats. Studies of {arguments.trials} trials. "
        f"Pictures: {arguments.pictures}.",
    ]
    for split, found in comparisons.items():
        drawn = "rounds of five folds drawn anew" if found["split"]["redrawn"] else "the seed alone varies"
        out += ["", f"## {TITLES[split]}", "", f"Split of the studies: {found['split']['name']}; {drawn}.", ""]
        first, *others = sentences(found)
        out += [f"- **{first}**", *[f"- {other}" for other in others]]
        out += ["", "What tuning gained:", "", *[f"- {gained(pair)}" for pair in found["gains"]]]
        out += ["", "| | test | 95 % interval | macro F1 | lr | batch size | seconds |"]
        out.append("|---|---|---|---|---|---|---|")
        for row in found["models"] + found["untuned"] + found["baselines"]:
            low, high = row["test"]["interval"]
            is_study = row in found["models"] and row["study"] != row["name"]
            name = f"{row['name']} ({row['study']})" if is_study else row["name"]
            name += "" if row["study"] else " (baseline)"
            params = row["params"]
            cells = [name, f"{row['test']['mean']:.3f} ± {row['test']['std']:.3f}", f"{low:.3f} to {high:.3f}"]
            cells.append(f"{row['macro_f1']:.3f}")
            cells += [f"{params['lr']:.2e}", str(params["batch_size"])] if params else ["", ""]
            cells.append(f"{row['seconds']:.1f}")
            out.append(f"| {' | '.join(cells)} |")
        out += ["", "To be borne in mind:", "", *[f"- {warning}" for warning in found["warnings"]], ""]
        out += [f"![{name.replace('_', ' ')}, {TITLES[split].lower()}]({split}-{name}.png)" for name in SHOWN]
    return "\n".join(out) + "\n"


def gained(pair: dict[str, Any]) -> str:
    low, high = (100 * pair[end] for end in ("low", "high"))
    tuned, untuned = pair["names"]
    interval = f"{100 * pair['confidence']:.3g} % CI {low:.1f} to {high:.1f}"
    return f"{tuned} minus {untuned}: {100 * pair['difference']:+.1f} points, {interval}"


def sentences(found: dict[str, Any]) -> list[str]:
    """The verdict, pair by pair: the two networks of the report first."""
    parts: list[str] = found["verdict"].split("; ")
    order = sorted(range(len(parts)), key=lambda i: "length" in parts[i] or "Residual" in parts[i])
    return [parts[i] for i in order]


def picture(lines: list[dict[str, Any]], comparisons: dict[SplitKind, dict[str, Any]], path: Path) -> None:
    """The README's picture: both networks, stage by stage, on both splits."""
    figure = Figure(figsize=(4.5 * len(comparisons), 4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    stages = ("published", "as published", "as described", "tuned")
    for index, (split, found) in enumerate(comparisons.items()):
        axes = figure.add_subplot(1, len(comparisons), index + 1)
        for title, model, _, _, suffix in (ROWS[0], ROWS[2]):
            colour, shift = (ORANGE, -0.06) if model == "cnn" else (BLUE, 0.06)
            samples: list[list[float]] = [list(PUBLISHED[model]) if split == "random" else []]
            for recipe in ("as_published", "as_described"):
                recipe = "as_published" if model == "cnn" else recipe
                samples.append(accuracies(lines, model=model, split=split, recipe=recipe, without=[], crop="none"))
            test = tuned(found, f"report-{split}-{suffix}")
            means = [statistics.mean(values) if values else float("nan") for values in samples] + [test["mean"]]
            spread = [statistics.stdev(values) if values else 0.0 for values in samples] + [test["std"]]
            places = [place + shift for place in range(len(stages))]
            axes.errorbar(places, means, yerr=spread, color=colour, marker="o", capsize=3, label=title)
        axes.axhline(0.1, color=GREY, linestyle=":", linewidth=1)
        axes.set_xticks(range(len(stages)), stages)
        axes.set_ylim(0, 0.9)
        axes.set_title("random splits" if split == "random" else "fault-filtered split")
        axes.set_ylabel("test accuracy (mean ± std)" if index == 0 else "")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("input"), help="data folder (default: input)")
    parser.add_argument("--lists", type=Path, required=True, help="folder of the fault-filtered split's lists")
    parser.add_argument("--out", type=Path, default=Path("report-runs"), help="folder for everything made")
    parser.add_argument("--results", type=Path, default=FOLDER / "finding", help="folder of what was measured")
    parser.add_argument("--split", nargs="+", choices=list(TITLES), default=list(TITLES), help="default: both")
    parser.add_argument("--seeds", type=int, default=10, help="of the report's recipes")
    parser.add_argument(
        "--cnn-seeds", type=int, default=4, help="of them at most: the CNN trains 400 times as long"
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--pictures", default="Kaggle's", help="what the pictures are, for the tables")
    parser.add_argument("--write", action="store_true", help="write README.md, docs/gtzan.md and their pictures")
    arguments = parser.parse_args()
    for name in ("data", "lists", "out", "results"):
        setattr(arguments, name, getattr(arguments, name).absolute())
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    comparisons = {split: compared(arguments, split) for split in arguments.split}
    lines = run_recipes(arguments, arguments.results / "recipes.jsonl")
    text = table(lines, comparisons, arguments.pictures, arguments.trials)
    print(text)
    picture(lines, comparisons, arguments.out / "finding.png")
    if arguments.write:
        readme = (ROOT / "README.md").read_text()
        before, _, rest = readme.partition(BEGIN)
        _, _, after = rest.partition(END)
        (ROOT / "README.md").write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
        picture(lines, comparisons, ROOT / "docs" / "finding.png")
        (ROOT / "docs" / "gtzan.md").write_text(details(comparisons, arguments))
        for split in arguments.split:
            for name in SHOWN:
                file = arguments.out / f"comparison-{split}" / f"{name}.png"
                if file.exists():  # else the comparison came from its file, and its pictures are written already
                    shutil.copy(file, ROOT / "docs" / f"{split}-{name}.png")


if __name__ == "__main__":
    main()
