"""`harness export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json, RecordedData, TrackingUri, TrustCode
from harness.cli.output import print_json
from harness.cli.terminal import print_text


def export(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must not exist or be empty.")],
    model: Annotated[str | None, typer.Option("--model", help="Export the study EXPERIMENT-MODEL.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Export the network of this study.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Export this run's checkpoint.")] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Export the mean of the study's refitted networks.")
    ] = False,
    experiment: Annotated[str, typer.Option("--experiment", help="EXPERIMENT for --model.")] = "gtzan",
    data: RecordedData = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", show_default="safetensors and pt2", help="safetensors, pt2 or onnx; repeatable."),
    ] = None,
    register: Annotated[
        bool | None,
        typer.Option(
            "--register/--no-register",
            show_default="register, but not with --run",
            help="Register it in MLflow as EXPERIMENT-MODEL, alias champion.",
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Write the best checkpoint as a folder and measure it on the test part.

    pt2 and ONNX files take raw input, return probabilities, and do not need this package.

    Example: [bold]harness export --model fcnn --out best --format onnx[/bold]
    """
    named = [name for name, value in (("--model", model), ("--study", study), ("--run", run)) if value]
    if len(named) != 1:
        found = " and ".join(named) or "none of them"
        raise typer.BadParameter(f"give one of --model, --study and --run; got {found}")
    if ensemble and run:
        raise typer.BadParameter("--ensemble is of a study: give --model or --study, not --run")
    from harness.export.bundle import export_best
    from harness.export.formats import DEFAULT_FORMATS

    bundle = export_best(
        out,
        study=study or (model and f"{experiment}-{model.rpartition(':')[2]}"),
        run_id=run,
        ensemble=ensemble,
        data=data,
        tracking_uri=tracking_uri,
        formats=tuple(formats or DEFAULT_FORMATS),
        register=register,
        trust_code=trust_code,
    )
    if as_json:
        print_json(bundle.as_json())
    else:
        print_text(bundle.as_text())
