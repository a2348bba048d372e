"""Writes the files of traits: pictures, a table, the JSON form, and a self-contained HTML page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from harness.compare.traits.result import LearnerResult, Row, Traits
from harness.core.json_types import finite
from harness.core.pages.canvas import COLOURS, GREY, Picture, panels_of, plain
from harness.core.pages.page import embedded, environment
from harness.core.tables import write_table

PAGE_FILE = "traits.html"
TAKEN = {True: "permuted", False: "masked"}  # a family, whose share is known; a region


def write_traits(found: Traits, folder: Path) -> None:
    """Write `traits.html`, its pictures, `traits.csv` and `traits.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for picture in pictures_of(found):
        picture.save(folder / f"{picture.name}.png")
        shown.append(embedded(picture, folder / f"{picture.name}.png"))
    page = (
        environment("harness.compare")
        .get_template("traits.html.jinja")
        .render(found=found, pictures=shown, percent=lambda fraction: f"{100 * fraction:z.1f}")
    )
    (folder / PAGE_FILE).write_text(page, encoding="utf-8")
    text = json.dumps(finite(found.as_json()), indent=2, allow_nan=False)
    (folder / "traits.json").write_text(f"{text}\n", encoding="utf-8")
    _write_rows(found, folder / "traits.csv")


def pictures_of(found: Traits) -> list[Picture]:
    """Return the pictures: the effects by learner, and the recall of each class alone and without."""
    maps = [_occlusion(found)] if found.maps else []
    return [_effects(found), _recalls(found, "without"), _recalls(found, "alone"), *maps]


def _effects(found: Traits) -> Picture:
    """Draw alone, lost and (for families, sorted by it) share; regions keep their order, the first on top."""
    first = found.learners[0]
    has_shares = all(row.share is not None for row in first.rows)
    order = list(reversed(range(len(first.rows))))
    if has_shares:
        order.sort(key=lambda index: first.rows[index].effects[-1].value)
    kinds = ("alone", "lost", "share") if has_shares else ("alone", "lost")

    def draw() -> Figure:
        figure, panels = panels_of(3.5 * len(kinds), 1.4 + 0.46 * len(order), columns=len(kinds))
        for axes, kind in zip(panels, kinds, strict=True):
            for place, learner in enumerate(found.learners):
                colour, shift = COLOURS[place % len(COLOURS)], 0.5 * (place / len(found.learners))
                for height, index in enumerate(order):
                    effect = getattr(learner.rows[index], kind)
                    heights, ends = [height - shift] * 2, [100 * effect.low, 100 * effect.high]
                    axes.plot(ends, heights, color=colour, linewidth=2)
                    label = learner.name if height == 0 else None
                    axes.scatter([100 * effect.value], heights[:1], color=colour, s=30, zorder=3, label=label)
            axes.axvline(100 * first.none if kind == "alone" else 0, color=GREY, linewidth=1, linestyle=":")
            axes.set_yticks(
                range(len(order)), [plain(first.rows[i].name) for i in order] if kind == "alone" else []
            )
        panels[0].set_xlabel("alone: accuracy, per cent")
        panels[1].set_xlabel(f"lost where it is {TAKEN[has_shares]}, points")
        if has_shares:
            panels[2].set_xlabel(f"share of {100 * first.total:.1f} points")
        if len(found.learners) > 1:
            panels[-1].legend(loc="lower right")
        return figure

    rows = [first.rows[index] for index in reversed(order)]
    said = "; ".join(f"{row.name} {100 * row.effects[-1].value:.1f}" for row in rows)
    title, what = ("Alone, without, and fair share", "Shares") if has_shares else ("Alone, and without", "Lost")
    return Picture(name="effects", title=title, alt=f"{what} in points, {first.name}: {said}.", draw=draw)


def _recalls(found: Traits, kind: str) -> Picture:
    first = found.learners[0]
    table = 100 * (first.recalls["all"] - first.recalls[kind] if kind == "without" else first.recalls[kind])

    def draw() -> Figure:
        figure, (axes,) = panels_of(1.8 + 0.85 * len(found.genres), 1.2 + 0.5 * len(first.rows))
        top = float(np.nanmax(np.abs(table))) or 1.0
        low, colours = (-top, "RdBu_r") if kind == "without" else (0.0, "Blues")
        image = axes.imshow(table, cmap=colours, vmin=low, vmax=top, aspect="auto")
        axes.set_xticks(
            range(len(found.genres)), [plain(genre) for genre in found.genres], rotation=30, ha="right"
        )
        axes.set_yticks(range(len(first.rows)), [plain(row.name) for row in first.rows])
        for (row, column), value in np.ndenumerate(table):
            is_dark = abs(value) > 0.6 * top
            axes.text(
                column,
                row,
                f"{value:z.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="#ffffff" if is_dark else "#1b1b1f",
            )
        figure.colorbar(image, ax=axes, shrink=0.8)
        return figure

    best = [
        (row.name, found.genres[int(np.nanargmax(values))], float(np.nanmax(values)))
        for row, values in zip(first.rows, table, strict=True)
    ]
    said = "; ".join(f"{name}: {genre} {value:z.0f}" for name, genre, value in best)
    titles = {
        "without": "Recall that each class loses without a row, points",
        "alone": "Recall of each class with one row alone, per cent",
    }
    return Picture(name=f"recall_{kind}", title=titles[kind], alt=f"Largest of each row: {said}.", draw=draw)


def _occlusion(found: Traits) -> Picture:
    columns = min(5, len(found.maps))
    rows = -(-len(found.maps) // columns)
    top = max(float(np.abs(each.drops).max()) for each in found.maps) or 1.0

    def draw() -> Figure:
        figure, panels = panels_of(2.1 * columns, 3.3 * rows, columns=columns, rows=rows)
        image = None
        for axes, each in zip(panels, found.maps, strict=False):
            height, width = each.picture.shape[:2]
            axes.imshow(each.picture.mean(2), cmap="gray", vmin=0, vmax=255)
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            image = axes.imshow(each.drops, cmap="RdBu_r", vmin=-top, vmax=top, alpha=0.55, extent=extent)
            axes.set_title(plain(f"{each.track}: {each.probability:.2f}"), fontsize=9)
        for axes in panels:
            axes.set_axis_off()
        assert image is not None
        figure.colorbar(image, ax=panels, shrink=0.6, label="probability lost")
        return figure

    said = "; ".join(f"{each.track} ({each.genre}) {each.probability:.2f}" for each in found.maps)
    words = found.words
    title = (
        f"An illustration, no evidence: what the best network of the study looks at in single {found.words.items}"
    )
    alt = (
        f"What masking a tile takes from the probability of its own {words.class_}, for the first "
        f"{found.maps[0].part} {words.item} of each {words.class_}; with the whole picture it is: {said}."
    )
    return Picture(name="occlusion", title=title, alt=alt, draw=draw)


def _write_rows(found: Traits, path: Path) -> None:
    """Write one line for each learner and row: its figures as fractions, with intervals."""
    ends = ("", "_low", "_high")
    head = [
        "learner",
        "kind",
        "name",
        "columns",
        *[f"{what}{end}" for what in ("alone", "lost", "share") for end in ends],
    ]
    rows: list[list[object]] = [[*head]]
    for learner in found.learners:
        for kind, group in _groups(learner):
            for row in group:
                alone = ("", "", "") if row.alone is None else (row.alone.value, row.alone.low, row.alone.high)
                lost, share = (
                    ("", "", "") if effect is None else (effect.value, effect.low, effect.high)
                    for effect in (row.lost, row.share)
                )
                rows.append([learner.name, kind, row.name, row.columns or "", *alone, *lost, *share])
    write_table(path, rows)


def _groups(learner: LearnerResult) -> list[tuple[str, tuple[Row, ...]]]:
    return [("", learner.rows), ("merged", learner.coarse), ("control", learner.controls)]
