"""`harness data`: check or describe a data folder, or make one from Kaggle's archive, audio or synthetic data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from harness.cli.messages import MessageConsole
from harness.cli.options import Categorical, Group, IdColumn, Impute, Json, LabelColumn, option
from harness.cli.output import print_json
from harness.cli.terminal import Console

if TYPE_CHECKING:
    from harness.data import Tracks
    from harness.data.describe import Description

data_app = typer.Typer(help="Check, describe, import, fetch, extract or make a data set.", no_args_is_help=True)
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
    from harness.data import demo_data_folder, load_tracks, read_split, stratified_split
    from harness.data.guessing import guessed_options, write_options

    place = demo_data_folder() if folder == "demo" else Path(folder)
    flags = {"id": id_column, "label": label_column, "group": group, "impute": impute, "categorical": categorical}
    options = guessed_options(place, {key: value for key, value in flags.items() if value is not None})
    tracks = load_tracks(place, options=options)
    _print_tracks(tracks)
    written = write_options(place, options)
    if written is not None:
        _print([("written", f"{written}: {', '.join(f'{key} = {value}' for key, value in options.items())}")])
    if split is None:
        stratified_split(tracks, seed=0)  # that of a sweep: a data set that cannot be split has a fault
    else:
        lists = read_split(split, tracks)
        sizes = f"{len(lists.train)} train, {len(lists.valid)} validation, {len(lists.test)} test"
        _print([("split", f"{split}: {sizes}"), *(("excluded", line) for line in lists.excluded)])


@data_app.command()
def describe(
    folder: Annotated[str, typer.Argument(help="Data folder, or demo: the synthetic set.")] = "input",
    out: Annotated[
        Path | None, typer.Option("--out", show_default="no page", help="The page to write, FILE.html.")
    ] = None,
    split: Annotated[str | None, option("--split", "none", "Folder with train/valid/test lists.")] = None,
    split_seed: Annotated[int | None, option("--split-seed", "0", "Seed of the 64/16/20 split.")] = None,
    track: Annotated[
        str | None,
        typer.Option("--track", show_default="the first with sound", help="The track to show, GENRE.NNNNN."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe a data set without its test part: correlations, tempo, components, values by genre, odd tracks.

    Example: [bold]harness data describe input --out report.html[/bold]
    """
    from harness.data import DEMO_FOLDER, read_split, stratified_split
    from harness.data.describe import check_page, describe_data, write_page
    from harness.data.open import load_data
    from harness.sweep.settings import check_split_seed

    seed = check_split_seed(split_seed)
    if out is not None:
        check_page(out, DEMO_FOLDER if folder == "demo" else Path(folder))
    tracks = load_data(folder)
    lists = stratified_split(tracks, seed=seed) if split is None else read_split(Path(split), tracks)
    found = describe_data(tracks, lists, track=track)
    no_sound = None if out is None else write_page(found, out)
    if as_json:
        print_json({**found.as_json(), "page": None if out is None else str(out)})
        return
    _print_description(found)
    if out is None:
        _print([("next", "--out report.html writes the page, with all pictures")])
    else:
        sound = "" if no_sound is None else f" (no sound on it: {no_sound})"
        _print(
            [(found.train.words.item, f"{found.chosen.track}{sound}"), ("page", str(out)), ("next", f"open {out}")]
        )


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
            *(("warning", line) for line in tracks.coarse_lines()),
            ("digest", tracks.digest),
        ]
    )


def _print_description(found: Description) -> None:
    words = found.train.words
    split, parts = found.split, [(found.columns, f"{len(found.train.columns)} feature columns")]
    halves = [text for there, text in (*parts, (found.has_pictures, "pictures")) if there]
    _print(
        [
            ("folder", f"{found.folder}{' (SYNTHETIC data)' if found.synthetic else ''}"),
            (words.items, f"{found.tracks} of {len(found.genres)} {words.classes} with {' and '.join(halves)}"),
            *(("excluded", line) for line in found.excluded),
            ("split", f"{split.name}"),
        ]
    )
    _print_folded([*(("", line) for line in found.sentences), *(("warning", line) for line in found.warnings)])


def _print_folded(rows: list[tuple[str, str]]) -> None:
    """Print sentences: on a terminal they are folded at words beside their names."""
    if not Console().is_terminal:
        _print(rows)
        return
    table = Table.grid(padding=(0, 1))
    table.add_column(width=10)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _print(rows: list[tuple[str, str]]) -> None:
    console = Console(soft_wrap=True)
    width = max(10, *(len(name) for name, _ in rows))
    for name, value in rows:
        console.print(f"{name:{width}s} {value}")
