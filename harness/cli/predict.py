"""`harness predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from harness.cli.messages import MessageConsole
from harness.cli.options import Json, TrustCode
from harness.cli.output import print_json, print_table

if TYPE_CHECKING:
    from harness.export.predict import Prediction


def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that harness export wrote.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Tables (CSV, Parquet), pictures (PNG, JPEG), audio, or folders."),
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="Number of genres to print.")] = 3,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Predict the likeliest genres of features, pictures or sound (with the extra "audio").

    Example: [bold]harness predict best-fcnn song.wav[/bold]
    """
    from harness.cli.display import file_display
    from harness.export.frames import require_classes
    from harness.export.opening import open_bundle
    from harness.export.predict import predict as predict_all

    console = MessageConsole(soft_wrap=True)
    opened = open_bundle(bundle, trust_code=trust_code)
    require_classes(opened.architecture)
    with file_display(console, "predict") as display:
        found = predict_all(opened, files, top=top, progress=display)
    if as_json:
        print_json(found.as_json())
    elif found.made:
        print_table(_table(found.made), folds=True)
    for note in found.notes():
        console.print(f"note: {note}")
    if found.errors:
        console.print(f"error: {len(found.errors)} of the files could not be predicted")
        raise typer.Exit(1)


def _table(made: tuple[Prediction, ...]) -> Table:
    table = Table("input", *(str(rank) for rank in range(1, len(made[0].genres) + 1)))
    table.columns[0].overflow = "fold"
    for prediction in made:
        row = prediction.track or (prediction.row and f"row {prediction.row}")
        name = f"{prediction.file} {row}" if row else prediction.file
        guesses = [Text(f"{genre} {probability:.3f}") for genre, probability in prediction.genres]
        table.add_row(Text(name), *guesses)
    return table
