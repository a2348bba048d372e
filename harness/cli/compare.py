"""`harness compare`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from harness.cli.messages import MessageConsole
from harness.cli.options import (
    Devices,
    GpusPerTrial,
    Json,
    Ray,
    RecordedData,
    RepeatJobs,
    Storage,
    TrackingUri,
    TrustCode,
)
from harness.cli.output import print_json, print_table
from harness.cli.terminal import Console
from harness.core.files import replacing_files
from harness.core.halving import HALVING
from harness.core.records import SYNTHETIC
from harness.core.space import describe

if TYPE_CHECKING:
    from harness.compare import Comparison, ComparisonPlan
    from harness.compare.plan import Protocol


def compare(
    study: Annotated[
        list[str] | None,
        typer.Option(
            "--study",
            show_default="newest of each model",
            help="A study to compare (give two or more). By default the newest finished study of each model.",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            "--experiment",
            show_default="that of the data, or the only one",
            help="Experiment that has the studies.",
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            max=1000,
            help="Trainings of each model: on drawn splits a multiple of 5, on lists at least 2.",
        ),
    ] = 10,
    data: RecordedData = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Also train baselines from scikit-learn.")
    ] = True,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="refit: train on all but the test part; holdout: keep a validation part apart.",
        ),
    ] = "refit",
    untuned: Annotated[
        bool,
        typer.Option("--untuned/--no-untuned", help="Also train the default settings: what tuning gained."),
    ] = True,
    ensemble: Annotated[
        int,
        typer.Option("--ensemble", show_default="none", help="Also judge ensembles of so many networks."),
    ] = 1,
    nested: Annotated[
        bool,
        typer.Option(
            "--nested", help="Search anew in each repeat: judge the tuned models, not one setting of each."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            show_default="MLflow only",
            help="Also write the report to a folder, and files for a paper.",
        ),
    ] = None,
    jobs: RepeatJobs = "auto",
    device: Devices = "auto",
    ray: Ray = None,
    gpus_per_trial: GpusPerTrial = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Train the best configuration of each study again on repeated splits, and print which model is better.

    If the repeats show no difference, the verdict says so.

    Example: [bold]harness compare --repeats 10[/bold]
    """
    from harness.sweep.settings import check_jobs

    wanted_jobs = check_jobs(jobs)
    if out is not None and out.exists() and not out.is_dir():
        raise typer.BadParameter(f"--out {out} is a file; give a folder")
    if ray is None:
        from harness.workers.fork_server import TRAINING_SERVER

        TRAINING_SERVER.start()
    from harness.compare import CompareSettings, plan_comparison, write_files, write_paper

    settings = CompareSettings(
        studies=tuple(study or ()),
        experiment=experiment,
        repeats=repeats,
        data=data,
        baselines=baselines,
        protocol=cast("Protocol", protocol),
        untuned=untuned,
        ensemble=ensemble,
        nested=nested,
        jobs=wanted_jobs,
        device=device,
        ray=ray,
        gpus_per_trial=gpus_per_trial,
        tracking_uri=tracking_uri,
        storage=storage,
        trust_code=trust_code,
    )
    plan = plan_comparison(settings)
    comparison = _run(MessageConsole(), plan)
    if out is not None:
        with replacing_files(out) as folder:
            write_files(comparison, folder)
            write_paper(comparison, folder)
    if as_json:
        print_json(comparison.as_json())
    else:
        _print(comparison, out)


def _run(console: Console, plan: ComparisonPlan) -> Comparison:
    from harness.cli.display import repeats_display
    from harness.compare import run_comparison

    _warn(console, plan.warnings)
    if plan.settings.nested:
        plan = _search(console, plan)
    with repeats_display(console, plan.name) as display:
        comparison = run_comparison(plan, display)
    _warn(console, [warning for warning in comparison.warnings if warning not in plan.warnings])
    return comparison


def _search(console: Console, plan: ComparisonPlan) -> ComparisonPlan:
    """Run the nested searches, each with its own progress, and return the plan with what they chose."""
    from harness.cli.display import sweep_display
    from harness.compare.nested import search_nested
    from harness.core.stage import Stage

    sizes = ", ".join(f"{study.counts.finished} ({study.spec.name})" for study in plan.compared)
    searches = plan.settings.repeats * len(plan.compared)
    console.print(f"nested: {searches} searches, with so many trials each: {sizes}", soft_wrap=True)
    return search_nested(
        plan,
        lambda own, finished, best: sweep_display(
            console,
            Stage(
                title=own.spec.name,
                total=own.settings.trials,
                done=finished,
                best=best,
                folds=own.spec.folds,
                pauses=own.spec.pruner == HALVING,
            ),
        ),
    )


def _warn(console: Console, warnings: Iterable[str]) -> None:
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)


def _print(comparison: Comparison, out: Path | None) -> None:
    settings = Table("model", "input", "weights", "setting", "seconds", box=SIMPLE_HEAD)
    held_out = ["valid."] if comparison.protocol == "holdout" else []
    results = Table("model", "test", "95 % interval", "F1", *held_out, box=SIMPLE_HEAD)
    for row in comparison.rows:
        weights = f"{row.parameters:,}" if row.parameters else ""
        setting = (
            "searched anew in each repeat" if comparison.scheme.nested and row.is_judged else describe(row.params)
        )
        settings.add_row(row.name, row.representation, weights, setting, f"{row.seconds:.1f}")
        interval = f"{row.test.low:.3f} to {row.test.high:.3f}"
        test = f"{row.test.mean:.3f} ± {row.test.std:.3f}"
        valid = [] if row.val is None else [f"{row.val[0]:.3f}"]
        results.add_row(row.name, test, interval, f"{row.macro_f1:.3f}", *valid)
    print_table(settings)
    print_table(results)
    split, repeats = comparison.split.name, len(comparison.splits)
    lines = [f"{comparison.data}, split: {split}; {repeats} repeats, {comparison.drawn_as}"]
    lines.append(
        "F1: macro; valid.: chosen on, so it flatters the networks"
        if held_out
        else "F1: macro; each repeat trains on all but its test part,\n"
        "tuned networks for the epochs that the search chose"
    )
    if comparison.synthetic:
        lines.append(SYNTHETIC)
    lines += ["", *comparison.verdict.split("; "), ""]
    lines += [*comparison.gained, ""] if comparison.gained else []
    for pair in (pair.leader_first() for pair in comparison.pairs):
        own = pair.checkpoints
        if own is not None and pair.mcnemar_p is not None:
            lines.append(
                f"{pair.a} minus {pair.b}, these two checkpoints on the studies' own test part: "
                f"{100 * own.value:z.1f} points ({100 * own.low:z.1f} to {100 * own.high:z.1f}), "
                f"McNemar p = {pair.mcnemar_p:.2g}"
            )
    lines += [comparison.ledger.as_text(), f"run:  {comparison.run_id}, with report.html among its artifacts"]
    lines.append(f"next: {'harness ui' if out is None else f'open {out}/report.html, harness ui'}")
    console = Console()
    for line in lines:
        console.print(line, soft_wrap=True)
