"""`harness similar`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from harness.cli.messages import MessageConsole
from harness.cli.options import Json, option
from harness.cli.output import print_json, print_table
from harness.cli.terminal import Console

if TYPE_CHECKING:
    from harness.data.options import Words
    from harness.data.similar import Duplicate, Query, Similar

NOTES: dict[Duplicate | None, str] = {"identical": "identical", "likely": "a repeat?", None: ""}


def similar(
    asked: Annotated[
        str, typer.Argument(metavar="TRACK|FILE", help="A track of the data set, a CSV of features, or sound.")
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="Number of tracks to print.")] = 5,
    data: Annotated[str, option("--data", "input", "Data folder, or demo: a synthetic set.")] = "input",
    split: Annotated[
        Path | None, option("--split", "none", "Folder with train/valid/test lists, to judge on.")
    ] = None,
    split_seed: Annotated[
        int,
        typer.Option(
            "--split-seed",
            envvar="HARNESS_SPLIT_SEED",
            min=0,
            max=2**32 - 1,
            help="Seed of the 64/16/20 split, to judge on.",
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Find the tracks that are nearest by their features, and say how often neighbours share the genre.

    Example: [bold]harness similar blues.00000 --top 5[/bold]
    """
    from harness.data import read_split, stratified_split
    from harness.data.open import load_data
    from harness.data.similar import similar as find_similar

    tracks = load_data(data)
    parts = read_split(split, tracks) if split is not None else stratified_split(tracks, seed=split_seed)
    found = find_similar(tracks, parts, asked, top=top)
    if as_json:
        print_json(found.as_json())
    else:
        print_table(_table(found.queries, found.tracks.words), folds=True)
        _print_judgement(found)
    _warn(found)


def _table(queries: tuple[Query, ...], words: Words) -> Table:
    several = len(queries) > 1
    marked = any(neighbour.duplicate is not None for query in queries for neighbour in query.neighbours)
    headers = [
        *(["row"] if several else []),
        words.item,
        words.class_,
        "similarity",
        *(["note"] if marked else []),
    ]
    table = Table(*headers)
    table.columns[headers.index(words.item)].overflow = "fold"
    for query in queries:
        row = [Text(f"{query.row}" if query.name is None else f"{query.row} {query.name}")] if several else []
        for neighbour in query.neighbours:
            note = [NOTES[neighbour.duplicate]] if marked else []
            names = [Text(neighbour.track), Text(neighbour.genre)]
            table.add_row(*row, *names, f"{neighbour.similarity:.3f}", *note)
            row = [Text("")] if several else []
    return table


def _print_judgement(found: Similar) -> None:
    judged, gain, words = found.judgement, found.judgement.gain, found.tracks.words
    items = words.items
    low, high = (f"{100 * end:z.1f}" for end in (gain.low, gain.high))
    lines = [
        f"compared with {len(found.tracks.ids)} {items} of {found.tracks.folder}, by {len(found.columns)} columns",
        "",
        f"judged: {judged.queries} validation {items} among {judged.candidates} train {items} "
        f"({found.split.name})",
        f"of their {judged.top} nearest {100 * judged.share:.1f} % have the same {words.class_}, "
        f"of all {100 * judged.chance:.1f} %:",
        f"{100 * gain.value:+z.1f} points, 95 % CI {low} to {high}"
        + ("" if gain.excludes_zero else "; no difference from chance is shown"),
    ]
    if found.split.drawn and found.tracks.groups is None and found.tracks.is_music:
        lines.append(
            "tracks of one artist may be on both sides of this split, which flatters the figure; "
            "--split DIR takes lists that keep artists apart"
        )
    console = Console()
    for line in lines:
        console.print(line)


def _warn(found: Similar) -> None:
    console = MessageConsole(soft_wrap=True)
    far = [query for query in found.queries if query.far]
    if far:
        columns = sorted({name for query in far for name in query.far})
        console.print(
            f"note: {len(far)} of {len(found.queries)} inputs lie far outside of the train tracks "
            f"({', '.join(columns[:6])}{' and others' if columns[6:] else ''}): do not trust their neighbours"
        )
    if found.tracks.synthetic:
        console.print("note: the data are SYNTHETIC: what is near here says nothing about real data")
