"""`harness sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    Categorical,
    GpusPerTrial,
    Group,
    IdColumn,
    Impute,
    Json,
    LabelColumn,
    Ray,
    Storage,
    TrackingUri,
    option,
)
from harness.cli.run_plan import carry_out, rehearse


def sweep(
    context: typer.Context,
    model: Annotated[
        str | None, option("--model", "none", "The network to tune: fcnn, cnn, both, or FILE.py:Class.")
    ] = None,
    trials: Annotated[
        int | None, option("--trials", "40", "Stop when the study has this many finished trials.", panel="Search")
    ] = None,
    data: Annotated[
        str | None, option("--data", "input", "Data folder, or demo: a synthetic set.", panel="Data")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of settings (experiments/).")] = None,
    study: Annotated[
        str | None, option("--study", "EXPERIMENT-MODEL", "Name of the study.", panel="Study")
    ] = None,
    experiment: Annotated[
        str | None,
        option(
            "--experiment", "gtzan, demo, or the folder's name", "MLflow experiment for the runs.", panel="Study"
        ),
    ] = None,
    epochs: Annotated[
        int | None, option("--epochs", "30", "Number of epochs of each trial.", panel="Training")
    ] = None,
    folds: Annotated[
        int | None,
        option(
            "--folds",
            "1",
            "Measure each trial on so many folds of the train and validation tracks.",
            panel="Search",
        ),
    ] = None,
    confirm: Annotated[
        int | None,
        option(
            "--confirm",
            "5 with --folds",
            "At the end, measure so many of the best trials on fresh folds; 0: none.",
            panel="Search",
        ),
    ] = None,
    refit: Annotated[
        bool | None,
        typer.Option(
            "--refit/--no-refit",
            show_default="refit with --folds",
            help="At the end, train the best setting on train and validation part together.",
            rich_help_panel="Search",
        ),
    ] = None,
    ensemble: Annotated[
        int | None,
        option(
            "--ensemble", "1", "Refit so many networks; harness export --ensemble averages them.", panel="Search"
        ),
    ] = None,
    seed: Annotated[
        int | None, option("--seed", "0", "Seed of the search and the trainings.", panel="Training")
    ] = None,
    id_column: IdColumn = None,
    label_column: LabelColumn = None,
    group: Group = None,
    impute: Impute = None,
    categorical: Categorical = None,
    split: Annotated[
        str | None, option("--split", "none", "Folder with train/valid/test lists.", panel="Data")
    ] = None,
    split_seed: Annotated[
        int | None, option("--split-seed", "0", "Seed of the 64/16/20 split.", panel="Data")
    ] = None,
    without: Annotated[
        list[str] | None,
        option("--without", "none", "Exclude a feature column, or a pattern (repeatable).", panel="Data"),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            show_default="lr and batch_size",
            help="Search one more hyperparameter: dropout=0:0.6, weight_decay=1e-4:1:log, width=0.5,1,2 "
            "(repeatable).",
            rich_help_panel="Search",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            show_default="none",
            help="Fix a hyperparameter, e.g. optimizer=adamw (repeatable).",
            rich_help_panel="Search",
        ),
    ] = None,
    from_studies: Annotated[
        list[str] | None,
        option("--from", "none", "Tell a new search the trials of another study (repeatable).", panel="Search"),
    ] = None,
    import_trials: Annotated[
        list[str] | None,
        option("--import", "none", "Tell a new search the trials of a trials.csv (repeatable).", panel="Search"),
    ] = None,
    sampler: Annotated[
        str | None, option("--sampler", "tpe", "tpe, gp, random, cmaes, qmc or grid.", panel="Search")
    ] = None,
    pruner: Annotated[
        str | None,
        option(
            "--pruner",
            "median; asha with pictures; none with gp and cmaes",
            "median, hyperband, wilcoxon, asha or none.",
            panel="Search",
        ),
    ] = None,
    precision: Annotated[
        str | None, option("--precision", "fp32", "fp32 or bf16 (autocast).", panel="Training")
    ] = None,
    jobs: Annotated[
        str | None, option("--jobs", "auto", "Number of trials in parallel, or auto.", panel="Training")
    ] = None,
    device: Annotated[
        str | None,
        option("--device", "auto", "auto, cpu, cuda, cuda:N, or several: cuda:0,cuda:1.", panel="Training"),
    ] = None,
    stack: Annotated[
        int | None,
        option(
            "--stack",
            "none",
            "For GPUs: train so many FCNNs of a process as one, its step a CUDA graph; 1 for the CNN.",
            panel="Training",
        ),
    ] = None,
    ray: Ray = None,
    gpus_per_trial: GpusPerTrial = None,
    timeout: Annotated[
        float | None, option("--timeout", "none", "Start no new trial after this many minutes.", panel="Search")
    ] = None,
    patience: Annotated[
        int | None,
        option(
            "--patience",
            "none",
            "Stop when so many trials in a row gain no more than the standard error; not with asha.",
            panel="Search",
        ),
    ] = None,
    attempts: Annotated[
        int | None,
        option(
            "--attempts",
            "3",
            "Give up a trial after this many consecutive deaths of its worker without a new epoch.",
            panel="Training",
        ),
    ] = None,
    keep: Annotated[
        str | None, option("--keep", "all", "Checkpoints to keep at the end: all or best:N.", panel="Study")
    ] = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all settings, say what would be done, and begin nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tune a network's hyperparameters; run it again to continue.

    Flags take precedence over HARNESS_* variables, then --config, then the defaults.

    Example: [bold]harness sweep --model fcnn --trials 40[/bold]
    """
    renamed = {"search": "search_options", "set_": "set_options"}
    given = {
        renamed.get(name, name): value
        for name, value in context.params.items()
        if name not in ("config", "dry_run", "as_json")
    }
    if dry_run and as_json:
        raise typer.BadParameter("--dry-run has no --json: what it prints is for people")
    from harness.sweep.settings import load_settings

    settings = load_settings(config, given)
    if settings.ray is None and not dry_run:
        from harness.workers.fork_server import TRAINING_SERVER

        TRAINING_SERVER.start()
    from harness.sweep.plan import plan_sweep

    if dry_run:
        rehearse(plan_sweep(settings))
    else:
        carry_out(plan_sweep(settings), as_json)
