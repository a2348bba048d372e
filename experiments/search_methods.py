"""Which way of searching finds a good network soonest: pruners and samplers, by seconds of training.

    .venv/bin/python experiments/search_methods.py --data input --out searches
    .venv/bin/python experiments/search_methods.py --data input --out searches --model cnn --studies 3

runs a study of 40 trials for each sampler, each pruner and each seed, with the search space of `fcnn.toml` or
`cnn.toml` and one validation part. A study's seed is also that of its split; each study has one worker. At every
moment of a study its incumbent is the trial with the best validation accuracy so far. What it is worth is measured
anew: its setting is trained to its end on five fresh folds of the train and validation part. The script prints a
table, writes the figures to `search_methods/MODEL.json` beside itself, and with `--picture FILE` draws them over
the seconds of training. What an earlier call has done, it does not do again. Of several calls at once each needs a
core of its own (`taskset -c 0`), because a CNN that trains alone takes two threads. In `--precision bf16` the CNN
takes 0.7 of the time, on a CPU that has it. The studies and figures of `--crop` and `--precision` are kept apart:
those of `--crop frame --precision bf16` in `cnn-frame-bf16.json`.

With `--replay` the studies of random settings with a pruner take their epochs from the one without (see
`replayed_search.py`), instead of training them again: the seconds are those of that study.

With `--kept` nothing is run: the table and the picture show the figures that were written beside the script.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from mlflow import MlflowClient
from replayed_search import replay, trials_of
from rich.console import Console
from rich.table import Table

from harness.core.files import replacing
from harness.core.names import derive_seed, digest_of
from harness.core.pages.canvas import COLOURS, Picture, panels_of
from harness.core.records import SYNTHETIC, TrialConfig
from harness.core.space import Params
from harness.data import Tracks, View, used_columns, validation_folds, with_crop
from harness.data.open import load_data
from harness.models.registry import MODELS
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import SweepPlan, plan_sweep
from harness.sweep.settings import load_settings
from harness.training.folds import best_of, mean_curve
from harness.training.loop import fit, start_training

PRUNERS = ("none", "median", "hyperband", "asha")
SAMPLERS = ("tpe", "random")
TRIALS, EPOCHS = 40, 30
FRESH_FOLDS = 5
MARKERS = "^sDvPX"  # of the first study of each way, of the second, ...: those of one split are alike
RESULTS = Path(__file__).with_name("search_methods")


class Epoch(NamedTuple):
    """An epoch of a study: the setting of its trial, its seconds and its validation accuracy."""

    params: Params
    seconds: float
    accuracy: float


@dataclass(frozen=True)
class Found:
    """A study: its seconds and epochs of training, and its incumbents, each from so many seconds on.

    The accuracy of an incumbent is that on fresh folds. `replayed`: the epochs were looked up.
    """

    seconds: float
    epochs: int
    incumbents: tuple[tuple[float, float], ...]
    replayed: bool = False

    def at(self, seconds: float) -> float:
        """The accuracy of the incumbent after so many seconds; not a number before the first."""
        known = [accuracy for since, accuracy in self.incumbents if since <= seconds]
        return known[-1] if known else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="input", help="data folder, or demo for the synthetic set")
    parser.add_argument("--out", type=Path, help="folder of the studies")
    parser.add_argument("--model", choices=("fcnn", "cnn"), default="fcnn")
    parser.add_argument("--studies", type=int, default=10, help="studies for each sampler and pruner")
    parser.add_argument("--seed", type=int, action="append", help="seed of a study, instead of the first N")
    parser.add_argument("--only", action="append", help="SAMPLER-PRUNER, as tpe-asha; all without it")
    parser.add_argument("--ends-only", action="store_true", help="measure only the last incumbent of each study")
    parser.add_argument("--crop", choices=("none", "frame"), help="fix it for the CNN, instead of searching it")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--replay", action="store_true", help="look the epochs of random settings up")
    parser.add_argument("--kept", action="store_true", help="show the figures of earlier calls, run nothing")
    parser.add_argument("--picture", type=Path, help="draw the picture to this file; of --ends-only a dot a study")
    wanted = parser.parse_args()
    if wanted.out is None and not wanted.kept:
        parser.error("--out is missing: the folder of the studies; or --kept, which runs none")
    methods = wanted.only or [f"{sampler}-{pruner}" for sampler, pruner in product(SAMPLERS, PRUNERS)]
    seeds = wanted.seed or list(range(wanted.studies))
    if wanted.kept:
        found, synthetic = kept(name_of(wanted), methods, seeds), False
    else:
        found, synthetic = run(wanted, methods, seeds)
    report(found, wanted.model, synthetic=synthetic, ends_only=wanted.ends_only)
    if wanted.picture is not None:
        (ends_picture if wanted.ends_only else picture)(found, wanted.model).save(wanted.picture)


def run(
    wanted: argparse.Namespace, methods: Sequence[str], seeds: Sequence[int]
) -> tuple[dict[str, list[Found]], bool]:
    """Run the studies, and keep their figures; return them, and whether the data are synthetic."""
    tracks = load_data(wanted.data)
    wanted.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Found]] = {method: [] for method in methods}
    for seed, method in product(seeds, methods):
        found[method].append(study_of(wanted, tracks, method, seed))
        last = found[method][-1]
        print(
            f"{method} {seed}: {last.seconds:.0f} s, {last.epochs} epochs, {last.incumbents[-1][1]:.3f}",
            flush=True,
        )
    if not tracks.synthetic:
        keep(found, seeds, name_of(wanted))
    return found, tracks.synthetic


def name_of(wanted: argparse.Namespace) -> str:
    """The model, and what differs from its recipe: what studies and figures are kept under."""
    changed = (word for word, other in ((wanted.crop, None), (wanted.precision, "fp32")) if word != other)
    return "-".join([wanted.model, *changed])


def study_of(wanted: argparse.Namespace, tracks: Tracks, method: str, seed: int) -> Found:
    """Run a study and measure its incumbents, or read what an earlier call has found."""
    path = wanted.out / f"{study_name(wanted, method, seed)}.json"
    if not path.exists():
        write(path, searched(wanted, method, seed))
    recorded = json.loads(path.read_text(encoding="utf-8"))
    which = recorded["incumbents"][-1:] if wanted.ends_only else recorded["incumbents"]
    incumbents = [(since, confirmed(wanted, tracks, params, seed)) for since, params in which]
    return Found(
        recorded["seconds"], recorded["epochs"], tuple(incumbents), replayed=recorded.get("replayed", False)
    )


def searched(wanted: argparse.Namespace, method: str, seed: int) -> dict[str, object]:
    """Run a study; return its seconds and epochs of training and its incumbents' settings."""
    sampler, _, pruner = method.partition("-")
    plan = plan_of(wanted, sampler=sampler, pruner=pruner, seed=seed, study=study_name(wanted, method, seed))
    if wanted.replay and sampler == "random" and pruner != "none":
        whole = plan_of(
            wanted, sampler=sampler, pruner="none", seed=seed, study=study_name(wanted, "random-none", seed)
        )
        trials = trials_of(whole.stores.tracking_uri, complete(whole))
        with TemporaryDirectory() as folder:
            store = Path(folder)
            stores = replace(plan.stores, storage=f"sqlite:///{store}/optuna.db", work_root=store / "work")
            given = replay(replace(plan, stores=stores), trials)
        epochs = [Epoch(config.params, metrics.seconds, metrics.val_accuracy or 0.0) for config, metrics in given]
        return {**path_of(epochs), "replayed": True}
    return path_of(epochs_of(plan.stores.tracking_uri, complete(plan)))


def complete(plan: SweepPlan) -> str:
    """Run a study to its end, unless it is there; return its run."""
    summary = run_sweep(plan, open_study(plan))
    if not summary.is_complete:
        raise SystemExit(f"{plan.spec.name} did not come to its end; the same command goes on")
    return summary.parent_run_id


def study_name(wanted: argparse.Namespace, method: str, seed: int) -> str:
    return f"{name_of(wanted)}-{method}-{seed}"


def plan_of(wanted: argparse.Namespace, **given: object) -> SweepPlan:
    """The plan of a study in a store of its own, with the search space of the model's recipe."""
    folder = (wanted.out / str(given["study"])).resolve()
    folder.mkdir(exist_ok=True)
    stores = {
        "tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "storage": f"sqlite:///{folder}/optuna.db",
        "data": wanted.data,
        "trials": TRIALS,
        "epochs": EPOCHS,
        "folds": 1,
        "jobs": 1,
        "split_seed": given["seed"],
        "precision": wanted.precision,
        "set_options": () if wanted.crop is None else (f"crop={wanted.crop}",),
    }
    return plan_sweep(load_settings(Path(__file__).with_name(f"{wanted.model}.toml"), {**stores, **given}))


def epochs_of(tracking_uri: str, parent: str) -> list[Epoch]:
    """The epochs of a study in the order in which they ended, from what MLflow has of them."""
    client = MlflowClient(tracking_uri)
    experiment = client.get_run(parent).info.experiment_id
    found: list[tuple[int, Epoch]] = []
    for run in client.search_runs([experiment], "tags.kind = 'trial'", max_results=TRIALS + 10):
        params = TrialConfig.of(json.loads(run.data.tags["config"])).params
        seconds = {point.step: point for point in client.get_metric_history(run.info.run_id, "epoch_seconds")}
        for point in client.get_metric_history(run.info.run_id, "val_accuracy"):
            there = seconds[point.step]
            found.append((there.timestamp, Epoch(params, there.value, point.value)))
    return [epoch for _, epoch in sorted(found, key=lambda timed: timed[0])]


def path_of(epochs: Sequence[Epoch]) -> dict[str, object]:
    """The seconds and epochs of a study, and its incumbents in the order of its epochs."""
    best, spent = -1.0, 0.0
    incumbents: list[tuple[float, Params]] = []
    for epoch in epochs:
        spent += epoch.seconds
        if epoch.accuracy > best:
            best = epoch.accuracy
            if not incumbents or incumbents[-1][1] != epoch.params:
                incumbents.append((spent, epoch.params))
    return {"seconds": spent, "epochs": len(epochs), "incumbents": incumbents}


def confirmed(wanted: argparse.Namespace, tracks: Tracks, params: Params, seed: int) -> float:
    """The validation accuracy of a setting on fresh folds: the best epoch of the mean curve."""
    path = wanted.out / f"confirmed-{digest_of([name_of(wanted), dict(params), seed])[:20]}.json"
    if not path.exists():
        write(path, {"accuracy": measured(wanted, tracks, params, seed)})
    accuracy: float = json.loads(path.read_text(encoding="utf-8"))["accuracy"]
    return accuracy


def measured(wanted: argparse.Namespace, tracks: Tracks, params: Params, seed: int) -> float:
    """Train a setting on each of the fresh folds."""
    model, split = MODELS[wanted.model], plan_of(wanted, seed=seed, study="confirmed").split
    folds = validation_folds(tracks, split, FRESH_FOLDS, 1)
    columns = () if model.representation == "pictures" else used_columns(tracks, ())
    crop = str(params.get("crop", "none"))
    view = View(with_crop(tracks, folds, [crop]), model.representation, columns).for_params(params)
    torch.set_num_threads(model.threads)
    curves = []
    for number, fold in enumerate(folds):
        config = TrialConfig(
            model=wanted.model,
            params=params,
            epochs=EPOCHS,
            seed=derive_seed(seed, "fresh", number),
            threads=model.threads,
            precision=wanted.precision,
        )
        data = view.training(fold)
        curves.append(tuple(fit(start_training(config, model, data, torch.device("cpu")), data)))
    best = best_of(mean_curve(curves))
    assert best is not None
    assert best.metrics.val_accuracy is not None
    return best.metrics.val_accuracy


def write(path: Path, content: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def report(found: dict[str, list[Found]], model: str, *, synthetic: bool, ends_only: bool) -> None:
    """Print what each way has found in the end, and after parts of the time of the slowest."""
    console = Console(width=110)
    if synthetic:
        console.print(SYNTHETIC)
    title = (
        f"{model}: accuracy on fresh folds, mean and standard error of {len(next(iter(found.values())))} studies"
    )
    longest = max(float(np.mean([study.seconds for study in studies])) for studies in found.values())
    after = {"at the end": float("inf")}
    if not ends_only:
        after |= {"after a quarter": longest / 4, "after a tenth": longest / 10}
    table = Table("search", "seconds", "epochs", *after, title=title)
    for method, studies in found.items():
        values = [said([study.at(seconds) for study in studies]) for seconds in after.values()]
        seconds, epochs = (np.mean([getattr(study, name) for study in studies]) for name in ("seconds", "epochs"))
        table.add_row(method, f"{seconds:.0f}", f"{epochs:.0f}", *values)
    console.print(table)
    if not ends_only:
        console.print(f"a quarter and a tenth of the longest searches' {longest:.0f} seconds")


def said(values: Sequence[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    if len(known) < 2:
        return f"{np.mean(known):.3f}" if known else "-"
    return f"{np.mean(known):.3f} +- {np.std(known, ddof=1) / len(known) ** 0.5:.3f}"


def keep(found: dict[str, list[Found]], seeds: Sequence[int], name: str) -> None:
    """Write the figures beside this script, to those of other methods and seeds."""
    RESULTS.mkdir(exist_ok=True)
    figures = kept_figures(name)
    for method, studies in found.items():
        of_method = {study["seed"]: study for study in figures.get(method, [])}
        for seed, study in zip(seeds, studies, strict=True):
            of_method[seed] = {
                "seed": seed,
                "seconds": round(study.seconds, 1),
                "epochs": study.epochs,
                "incumbents": [[round(since, 1), accuracy] for since, accuracy in study.incumbents],
                **({"replayed": True} if study.replayed else {}),
            }
        figures[method] = [of_method[seed] for seed in sorted(of_method)]
    with replacing(RESULTS / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def kept_figures(name: str) -> dict[str, list[dict[str, Any]]]:
    """The figures that earlier calls have written, by method."""
    path = RESULTS / f"{name}.json"
    figures: dict[str, list[dict[str, Any]]] = {}
    if path.exists():
        figures = json.loads(path.read_text(encoding="utf-8"))
    return figures


def kept(name: str, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, list[Found]]:
    """The studies of these seeds among the figures of earlier calls."""
    figures = kept_figures(name)
    found = {
        method: [
            Found(
                study["seconds"],
                study["epochs"],
                tuple((since, accuracy) for since, accuracy in study["incumbents"]),
                replayed=study.get("replayed", False),
            )
            for study in figures.get(method, [])
            if study["seed"] in seeds
        ]
        for method in methods
    }
    missing = [method for method, studies in found.items() if len(studies) < len(seeds)]
    if missing:
        raise SystemExit(f"{name}.json lacks studies of {', '.join(missing)}; without --kept they are run")
    return found


def picture(found: dict[str, list[Found]], model: str) -> Picture:
    """The mean accuracy of the incumbents over the seconds of training, a line for each way."""

    def lines() -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        for method, studies in found.items():
            first = max(study.incumbents[0][0] for study in studies)
            xs = np.geomspace(first, np.mean([study.seconds for study in studies]), 200)
            values = np.array([[study.at(seconds) for seconds in xs] for study in studies])
            error = values.std(0, ddof=1) / len(studies) ** 0.5 if len(studies) > 1 else np.zeros(len(xs))
            yield method, xs, values.mean(0), error

    def draw():  # type: ignore[no-untyped-def]
        shown = list(lines())
        samplers = [name for name in SAMPLERS if any(method.startswith(name) for method, *_ in shown)]
        figure, panels = panels_of(4.5 * len(samplers), 4.2, columns=len(samplers))
        ends = [(float(np.min(mean - error)), float(np.max(mean + error))) for *_, mean, error in shown]
        low, high = min(end[0] for end in ends), max(end[1] for end in ends)
        for axes, sampler in zip(panels, samplers, strict=True):
            for method, xs, mean, error in shown:
                name, _, pruner = method.partition("-")
                if name != sampler:
                    continue
                colour = COLOURS[PRUNERS.index(pruner)]
                axes.plot(xs, mean, color=colour, label=pruner, linewidth=1.8)
                axes.scatter(xs[-1:], mean[-1:], color=colour, s=30, zorder=3)
                axes.fill_between(xs, mean - error, mean + error, color=colour, alpha=0.12, linewidth=0)
            axes.set_xscale("log")
            axes.set_ylim(low - 0.002, high + 0.002)
            axes.set_title(f"sampler {sampler}")
            axes.set_xlabel("seconds of training; a dot where the search ends")
        studies = len(next(iter(found.values())))
        panels[0].set_ylabel(f"accuracy on fresh folds, mean and\nstandard error of {studies} studies")
        panels[0].legend(loc="upper left")
        return figure

    ends = ", ".join(f"{method} {mean[-1]:.3f} after {xs[-1]:.0f} s" for method, xs, mean, _ in lines())
    return Picture(
        name=f"search-{model}", title=f"Ways of searching, {model}", alt=f"At the end: {ends}.", draw=draw
    )


def ends_picture(found: dict[str, list[Found]], model: str) -> Picture:
    """The accuracy of what each study found over its epochs, and the mean of each way."""

    def draw():  # type: ignore[no-untyped-def]
        samplers = [name for name in SAMPLERS if any(method.startswith(name) for method in found)]
        figure, panels = panels_of(4.5 * len(samplers), 4.2, columns=len(samplers))
        values = [study.incumbents[-1][1] for studies in found.values() for study in studies]
        for axes, sampler in zip(panels, samplers, strict=True):
            for method, studies in found.items():
                name, _, pruner = method.partition("-")
                if name != sampler:
                    continue
                colour = COLOURS[PRUNERS.index(pruner)]
                epochs, ends = [study.epochs for study in studies], [study.incumbents[-1][1] for study in studies]
                for number, (x, y) in enumerate(zip(epochs, ends, strict=True)):
                    axes.scatter(x, y, color=colour, s=24, alpha=0.7, marker=MARKERS[number % len(MARKERS)])
                axes.scatter(np.mean(epochs), np.mean(ends), color=colour, s=90, label=pruner, zorder=3)
            axes.set_ylim(min(values) - 0.01, max(values) + 0.01)
            axes.set_title(f"sampler {sampler}")
            axes.set_xlabel("epochs (a mark: a study; a dot: the mean)")
        panels[0].set_ylabel("accuracy on fresh folds")
        panels[0].legend(loc="best")
        return figure

    ends = ", ".join(
        f"{method} {np.mean([study.incumbents[-1][1] for study in studies]):.3f} after "
        f"{np.mean([study.epochs for study in studies]):.0f} epochs"
        for method, studies in found.items()
    )
    return Picture(
        name=f"search-{model}", title=f"Ways of searching, {model}", alt=f"At the end: {ends}.", draw=draw
    )


if __name__ == "__main__":
    main()
