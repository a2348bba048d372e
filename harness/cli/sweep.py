"""`harness sweep`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from harness.cli.options import Json, Storage, TrackingUri

if TYPE_CHECKING:
    from harness.plan import Plan
    from harness.sweep import StudySummary


def _option(flag: str, default: str, text: str) -> Any:
    variable = "HARNESS_" + flag.lstrip("-").replace("-", "_").upper()
    return typer.Option(flag, envvar=variable, show_default=default, help=text)


def sweep(
    model: Annotated[
        str | None, _option("--model", "none", "The network to tune: fcnn, cnn, or FILE.py:Class.")
    ] = None,
    trials: Annotated[int | None, _option("--trials", "40", "Finished trials that the study shall hold.")] = None,
    data: Annotated[str | None, _option("--data", "input", "Data folder, or demo: a synthetic set.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of settings (experiments/).")] = None,
    study: Annotated[str | None, _option("--study", "EXPERIMENT-MODEL", "Name of the study.")] = None,
    experiment: Annotated[
        str | None, _option("--experiment", "gtzan, or demo", "MLflow experiment for the runs.")
    ] = None,
    epochs: Annotated[int | None, _option("--epochs", "30", "Epochs of a trial.")] = None,
    seed: Annotated[int | None, _option("--seed", "0", "Everything random follows from it.")] = None,
    split: Annotated[str | None, _option("--split", "none", "Folder with train/valid/test lists.")] = None,
    split_seed: Annotated[int | None, _option("--split-seed", "0", "Seed of the 64/16/20 split.")] = None,
    without: Annotated[
        list[str] | None, _option("--without", "none", "Leave a feature column out (repeatable).")
    ] = None,
    sampler: Annotated[str | None, _option("--sampler", "tpe", "tpe, gp or random.")] = None,
    pruner: Annotated[str | None, _option("--pruner", "median; none with gp", "median or none.")] = None,
    precision: Annotated[str | None, _option("--precision", "fp32", "fp32 or bf16 (autocast).")] = None,
    jobs: Annotated[str | None, _option("--jobs", "auto", "Trials at once, in processes; or auto.")] = None,
    device: Annotated[
        str | None, _option("--device", "auto", "auto, cpu, cuda, cuda:N, or several: cuda:0,cuda:1.")
    ] = None,
    timeout: Annotated[
        float | None, _option("--timeout", "none", "Minutes after which no trial is begun.")
    ] = None,
    attempts: Annotated[
        int | None, _option("--attempts", "3", "Deaths in a row of its worker that end a trial.")
    ] = None,
    keep: Annotated[
        str | None, _option("--keep", "all", "Checkpoints that stay at the end: all or best:N.")
    ] = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Tune a network's learning rate and batch size; run it again to continue.

    Settings come from flags, over HARNESS_* variables, over --config, over the defaults.

    Example: [bold]harness sweep --model fcnn --trials 40[/bold]
    """
    given = {name: value for name, value in locals().items() if name not in ("config", "as_json")}
    from harness.settings import load_settings

    settings = load_settings(config, given)
    from harness.crew import warm_up

    warm_up()
    from harness.plan import plan_sweep

    _carry_out(plan_sweep(settings), as_json)


def worker(
    study: Annotated[str, typer.Option("--study", help="Name of the study to join.")],
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    data: Annotated[
        str | None, typer.Option("--data", show_default="the recorded one", help="Data folder, or demo.")
    ] = None,
    jobs: Annotated[str | None, _option("--jobs", "auto", "Trials at once, in processes; or auto.")] = None,
    device: Annotated[
        str, _option("--device", "auto", "auto, cpu, cuda, cuda:N, or several: cuda:0,cuda:1.")
    ] = "auto",
    timeout: Annotated[
        float | None, _option("--timeout", "none", "Minutes after which no trial is begun.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Join a study from any machine and run its trials until it is over.

    Example: [bold]harness worker --study gtzan-cnn --storage postgresql://me@db/optuna --tracking-uri http://mlflow:5000[/bold]
    """
    from harness.settings import check_timeout, parse_jobs, resolve_stores

    own = {"jobs": parse_jobs(jobs or "auto"), "device": device, "timeout": check_timeout(timeout)}
    tracking, url, work_root = resolve_stores(tracking_uri, storage)
    from harness.crew import warm_up

    warm_up()
    from harness.sweep import join_study

    plan = join_study(study, storage=url, tracking_uri=tracking, work_root=work_root, data=data, settings=own)
    _carry_out(plan, as_json)


def _carry_out(plan: Plan, as_json: bool) -> None:
    console = Console(stderr=True)
    _announce(console, plan)
    summary = _run(console, plan)
    if as_json:
        print(json.dumps(summary.as_json()))
    else:
        _print_summary(summary)
    if summary.unsent is not None:
        console.print(f"error: {summary.unsent}", style="red", markup=False, highlight=False, soft_wrap=True)
    if summary.signal is not None:
        raise typer.Exit(128 + summary.signal)


def _announce(console: Console, plan: Plan) -> None:
    tracks, split = plan.tracks, plan.split
    lines = [
        f"{plan.model.label} on {tracks.folder.name}: {len(tracks.ids)} tracks, {len(tracks.genres)} genres, "
        f"split {len(split.train)}/{len(split.valid)}/{len(split.test)} ({split.name})"
    ]
    if tracks.synthetic:
        lines.append("these data are SYNTHETIC (harness data demo): figures say nothing about music")
    lines += [f"left out: {reason}" for reason in (*tracks.left_out_lines(), *split.left_out)]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _run(console: Console, plan: Plan) -> StudySummary:
    from harness.display import SweepDisplay
    from harness.sweep import open_study, run_sweep

    study, total = open_study(plan), plan.settings.trials
    finished, best = study.counts().finished, study.best()
    if finished >= total:
        console.print(f"study {study.name} already holds {finished} finished trials of {total}", highlight=False)
    elif finished:
        console.print(f"going on with study {study.name}: {finished} of {total} trials finished", highlight=False)
    with SweepDisplay(
        console, study.name, total=total, done=finished, best=None if best is None else best.val_accuracy
    ) as display:
        return run_sweep(plan, study, display)


def _print_summary(summary: StudySummary) -> None:
    counts, spec = summary.counts, summary.spec
    lines = [
        f"study {spec.name}: {counts.finished} of {summary.asked} trials finished "
        f"({counts.complete} complete, {counts.pruned} pruned), {counts.failed} failed, {summary.seconds:.0f} s"
    ]
    if summary.synthetic:
        lines.append("data: synthetic")
    if summary.best is not None:
        best = summary.best
        lines.append(
            f"best: trial {best.number}, validation accuracy {best.val_accuracy:.3f} at epoch {best.best_epoch}, "
            f"lr {best.lr:.3g}, batch size {best.batch_size}"
        )
        lines.append(f"run:  {summary.best_run_id}")
    if counts.finished < summary.asked:
        stopped = "interrupted" if summary.signal is not None else "time is up"
        lines.append(
            f"{stopped}, {summary.asked - counts.finished} trials left: the same command goes on from here"
        )
    lines.append(f"next: harness ui, harness export --study {spec.name} --out DIR")
    print("\n".join(lines))
