"""Options that several commands share."""

from typing import Annotated, Any

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
RecordedData = Annotated[
    str | None, typer.Option("--data", show_default="the recorded one", help="Data folder, or demo.")
]
RepeatJobs = Annotated[
    str, typer.Option("--jobs", envvar="HARNESS_JOBS", help="Number of repeats in parallel, or auto.")
]
Devices = Annotated[
    str,
    typer.Option("--device", envvar="HARNESS_DEVICE", help="auto, cpu, cuda, cuda:N, or several with commas."),
]
TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="Run code that a record or a bundle names and you have not named before."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else.")]


def option(flag: str, default: str, text: str, panel: str | None = None) -> Any:
    """Return a Typer option that the environment variable `HARNESS_<FLAG>` can set too.

    `panel` is the heading of `--help` under which it stands, None for the usual one.
    """
    variable = "HARNESS_" + flag.lstrip("-").replace("-", "_").upper()
    return typer.Option(flag, envvar=variable, show_default=default, help=text, rich_help_panel=panel)


Ray = Annotated[
    str | None,
    option(
        "--ray", "none", "Train on the Ray cluster at HOST:PORT, or auto: the one around here.", panel="Training"
    ),
]
GpusPerTrial = Annotated[
    float | None,
    option(
        "--gpus-per-trial",
        "its share",
        "With --ray: so much of a GPU for each training, e.g. 0.25.",
        panel="Training",
    ),
]


IdColumn = Annotated[
    str | None, option("--id-column", "id", "The column of a table that names each item.", panel="Data")
]
LabelColumn = Annotated[
    str | None,
    option("--label-column", "label", "The column of a table that has each item's class.", panel="Data"),
]
Group = Annotated[
    str | None,
    option("--group", "none", "A column of a table whose equal values no split tears apart.", panel="Data"),
]
Impute = Annotated[
    str | None,
    option("--impute", "refuse", "median: fill missing values with the train part's median.", panel="Data"),
]
Categorical = Annotated[
    str | None,
    option("--categorical", "refuse", "one-hot: a column for each value of a text column.", panel="Data"),
]
