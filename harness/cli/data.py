"""`harness data`: check a data folder, or make one from Kaggle's archive, from audio or from synthetic data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.messages import MessageConsole
from harness.cli.options import Categorical, Group, IdColumn, Impute, LabelColumn
from harness.cli.terminal import Console

if TYPE_CHECKING:
    from harness.data import Tracks

data_app = typer.Typer(help="Check, import, fetch, extract or make a data set.", no_args_is_help=True)
Out = Annotated[Path, typer.Option("--out", help="Data folder to write.")]


@data_app.command()
def check(
    folder: Annotated[str, typer.Argument(help="Data folder, or demo: the synthetic set.")] = "input",
    split: Annotated[Path | None, typer.Option("--split", help="Folder of split lists to check too.")] = None,
    id_column: IdColumn = None,
    label_column: LabelColumn = None,
    group: Group = None,
    impute: Impute = None,
    categorical: Categorical = None,
) -> None:
    """Print what a data folder contains; exit 1 if it has a fault.

    What it is told of a table, or is sure of, it writes into the folder's dataset.toml, if there is none.

    Example: [bold]harness data check birds --id-column file --label-column species[/bold]
    """
    from harness.data import demo_data_folder, load_tracks, read_split
    from harness.data.guessing import guessed_options, write_options

    place = demo_data_folder() if folder == "demo" else Path(folder)
    flags = {"id": id_column, "label": label_column, "group": group, "impute": impute, "categorical": categorical}
    options = guessed_options(place, {key: value for key, value in flags.items() if value is not None})
    tracks = load_tracks(place, options=options)
    _print_tracks(tracks)
    written = write_options(place, options)
    if written is not None:
        _print([("written", f"{written}: {', '.join(f'{key} = {value}' for key, value in options.items())}")])
    if split is not None:
        lists = read_split(split, tracks)
        sizes = f"{len(lists.train)} train, {len(lists.valid)} validation, {len(lists.test)} test"
        _print([("split", f"{split}: {sizes}"), *(("excluded", line) for line in lists.excluded)])


@data_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="Kaggle's zip, or a folder that was unpacked from it.")],
    out: Out = Path("input"),
) -> None:
    """Make a data folder from Kaggle's zip or from the unpacked folder.

    Example: [bold]harness data import archive.zip[/bold]
    """
    from harness.data import import_data, load_tracks

    import_data(source, out)
    _print_tracks(load_tracks(out))


@data_app.command()
def fetch(out: Out = Path("input")) -> None:
    """Download GTZAN from Kaggle (with the extra "fetch") and make a data folder from it.

    Example: [bold]harness data fetch[/bold]
    """
    from harness.data import fetch_data, load_tracks

    fetch_data(out)
    _print_tracks(load_tracks(out))


@data_app.command()
def extract(
    audio: Annotated[
        Path, typer.Argument(metavar="AUDIO_DIR", help="Folder with one folder of sound files for each genre.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Data folder to write.")],
    jobs: Annotated[str, typer.Option("--jobs", help="Number of processes, or auto: one for each core.")] = "auto",
) -> None:
    """Make a data set from WAV, MP3, FLAC or OGG files (with the extra "audio"); run it again to continue.

    Example: [bold]harness data extract music --out input[/bold]
    """
    from harness.cli.display import file_display
    from harness.data import load_tracks
    from harness.data.audio import extract as extract_all
    from harness.sweep.settings import check_jobs
    from harness.workers.cpus import usable_cores

    console = MessageConsole(soft_wrap=True)
    with file_display(console, "extract") as display:
        done = extract_all(audio, out, jobs=check_jobs(jobs) or usable_cores(), progress=display)
    for line in done.ignored:
        console.print(f"ignored: {line}")
    tracks = load_tracks(out, enough=False)
    _print_tracks(tracks)
    if tracks.lacking is not None:
        console.print(f"warning: {tracks.lacking}")
    if done.skipped:
        console.print(f"error: {len(done.skipped)} of {len(done.skipped) + done.tracks} files could not be used")
        raise typer.Exit(1)


@data_app.command()
def demo(out: Out = Path("input/demo")) -> None:
    """Make the synthetic demo set; it is the same every time.

    Example: [bold]harness data demo[/bold]
    """
    from harness.core.errors import DataError
    from harness.data import load_tracks, make_demo

    if out.exists():
        raise DataError(
            f"{out} is there already", expected="a new folder", hint="--out OTHER, or --data demo as it is"
        )
    make_demo(out)
    _print_tracks(load_tracks(out))


def _print_tracks(tracks: Tracks) -> None:
    counts = ", ".join(f"{genre} {(tracks.labels == i).sum()}" for i, genre in enumerate(tracks.genres))
    halves = [f"{len(tracks.columns)} feature columns"] if tracks.columns else []
    halves += [f"pictures (as a network's input {tracks.size[0]}x{tracks.size[1]})"] if tracks.pictures else []
    words = tracks.words
    groups = [] if tracks.groups is None else [("groups", str(len({*tracks.groups})))]
    _print(
        [
            ("folder", f"{tracks.folder}{' (SYNTHETIC data)' if tracks.synthetic else ''}"),
            (words.items, f"{len(tracks.ids)} with {' and '.join(halves)}"),
            (words.classes, f"{len(tracks.genres)}: {counts}"),
            *groups,
            *(("excluded", line) for line in tracks.excluded_lines()),
            *(("identical", ", ".join(group)) for group in tracks.duplicates),
            ("digest", tracks.digest),
        ]
    )


def _print(rows: list[tuple[str, str]]) -> None:
    console = Console(soft_wrap=True)
    width = max(10, *(len(name) for name, _ in rows))
    for name, value in rows:
        console.print(f"{name:{width}s} {value}")
