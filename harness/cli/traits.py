"""`harness traits`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from harness.core.errors import SettingsError
from harness.core.files import replacing_files
from harness.core.records import SYNTHETIC

if TYPE_CHECKING:
    from harness.compare.plan import ComparisonPlan
    from harness.compare.traits.result import Effect, Traits
    from harness.core.stats import Estimate


def traits(
    study: Annotated[str, typer.Option("--study", help="The study, of a network on features or on pictures.")],
    families: Annotated[
        Path | None,
        typer.Option(
            "--families", show_default="of Kaggle's columns, else each column", help="TOML file of families."
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            show_default="10; for pictures 5, or 8 on lists",
            help="Repeats: on drawn splits a multiple of 5, on lists at least 2.",
        ),
    ] = None,
    learner: Annotated[
        list[str] | None,
        typer.Option(
            "--learner",
            show_default="network",
            help="network, logistic, forest or boosting (repeatable).",
        ),
    ] = None,
    data: RecordedData = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", show_default="MLflow only", help="Also write the page and its files to a folder."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start even if it takes more than 30 minutes.")] = False,
    jobs: RepeatJobs = "auto",
    device: Devices = "auto",
    ray: Ray = None,
    gpus_per_trial: GpusPerTrial = None,
    tracking_uri: TrackingUri = None,
    storage: Storage = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Say which families of columns, or which bands and quarters of pictures, decide the genre.

    Example: [bold]harness traits --study gtzan-fcnn --learner network --learner forest[/bold]
    """
    from harness.sweep.settings import check_jobs

    wanted_jobs = check_jobs(jobs)
    if out is not None and out.exists() and not out.is_dir():
        raise typer.BadParameter(f"--out {out} is a file; give a folder")
    if ray is None:
        from harness.workers.fork_server import TRAINING_SERVER

        TRAINING_SERVER.start()
    from harness.compare.traits.page import write_traits
    from harness.compare.traits.plan import TraitsSettings, plan_traits

    settings = TraitsSettings(
        study=study,
        families=families,
        repeats=repeats,
        learners=tuple(learner or ("network",)),
        data=data,
        jobs=wanted_jobs,
        device=device,
        ray=ray,
        gpus_per_trial=gpus_per_trial,
        tracking_uri=tracking_uri,
        storage=storage,
        trust_code=trust_code,
    )
    console = MessageConsole()
    plan = plan_traits(settings)
    _announce(console, plan, yes=yes)
    found = _run(console, plan)
    if out is not None:
        with replacing_files(out) as folder:
            write_traits(found, folder)
    if as_json:
        print_json(found.as_json())
    else:
        _print(found, out)


def _announce(console: Console, plan: ComparisonPlan, *, yes: bool) -> None:
    """Say how long it takes; raise SettingsError if that is long and nobody has agreed to it."""
    from harness.compare.traits.forecast import forecast
    from harness.compare.traits.game import FamilyGame
    from harness.compare.traits.plan import LONG_MINUTES

    assert plan.game is not None
    game, expected = plan.game, forecast(plan)
    minutes = expected.seconds / 60
    on_record = f", {expected.all - expected.left} of them on record" if expected.left < expected.all else ""
    text = f"{game.kinds}, {expected.all} trainings{on_record}: about {minutes:.0f} min"
    if minutes > LONG_MINUTES and not yes:
        raise SettingsError(
            f"{text}: more than {LONG_MINUTES:.0f}",
            expected="--yes, to start it all the same",
            hint="--yes, fewer --repeats or learners, or a file for --families that merges some",
        )
    console.print(text, soft_wrap=True)
    if isinstance(game, FamilyGame) and game.families.apart:
        console.print(f"in no family: {', '.join(game.families.apart)}", soft_wrap=True)


def _run(console: Console, plan: ComparisonPlan) -> Traits:
    from harness.cli.display import trainings_display
    from harness.compare.traits.run import run_traits

    with trainings_display(console, plan.name) as displays:
        found = run_traits(plan, *displays)
    for warning in (*found.failed_controls, *found.warnings):
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    return found


def _print(found: Traits, out: Path | None) -> None:
    for learner in found.learners:
        # In a terminal of 80 columns nothing else has room beside three figures with their intervals.
        has_shares = learner.rows[0].share is not None
        heads = ("family", "share, points") if has_shares else ("region",)
        table = Table(heads[0], "alone, %", "lost without", *heads[1:], box=SIMPLE_HEAD)
        for kind, rows in (("", learner.rows), (" (merged)", learner.coarse), (" (control)", learner.controls)):
            for row in rows:
                alone = "" if row.alone is None else _alone(row.alone)
                table.add_row(f"{row.name}{kind}", alone, *map(_effect, row.effects))
        for name, estimate in learner.apart.items():
            table.add_row(f"{name} (no family)", _alone(estimate))
        print_table(table)
        total = f"; shares sum to {100 * learner.total:.1f}" if has_shares else ""
        whole, none = f"{learner.whole.value:.3f}", f"{learner.none:.3f}"
        print(f"{learner.name}: {whole} with all {found.game.players}, {none} with none of them{total}")
    print(f"{found.data}, split: {found.split}; {found.repeats} repeats, {found.drawn_as}")
    if found.synthetic:
        print(SYNTHETIC)
    console = Console()
    for line in ["", *found.sentences, "", found.ledger]:
        console.print(line, soft_wrap=True)
    print(f"run:  {found.run_id}, with traits.html among its artifacts")
    print(f"next: {'harness ui' if out is None else f'open {out}/traits.html, harness ui'}")


def _alone(accuracy: Estimate) -> str:
    return f"{100 * accuracy.value:.0f} ({100 * accuracy.low:.0f}, {100 * accuracy.high:.0f})"


def _effect(effect: Effect) -> str:
    value, low, high = effect.shown
    return f"{value} ({low}, {high})"
