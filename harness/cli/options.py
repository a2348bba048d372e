"""Options that several commands share."""

from typing import Annotated

import typer

TrackingUri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        envvar=["HARNESS_TRACKING_URI", "MLFLOW_TRACKING_URI"],
        show_default="sqlite:///mlruns/mlflow.db",
        help="The MLflow store.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar="HARNESS_STORAGE",
        show_default="sqlite:///mlruns/optuna.db",
        help="Optuna's storage, an SQLAlchemy URL.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else.")]
