"""Which traits decide a genre of GTZAN, and whether pictures and features together are better than either.

    .venv/bin/python experiments/traits_of_gtzan.py --out report-runs --what fcnn --write

takes the studies that `reproduce_report.py` has left in `report-runs`, on random splits and on the
fault-filtered lists, and runs `harness traits` on them (`fcnn`), sweeps a CNN in bfloat16 and runs it on that
study (`cnn`), or sweeps the network of both inputs and compares it with the two (`both`). What it finds it keeps
in `finding/` beside itself, and does not measure again while that file is there; `--write` writes the tables,
the sentences and the pictures into `README.md` and `docs/traits.md`. On two cores `fcnn` takes half an hour on
each split, the others take hours; a command that was stopped goes on when it is given again, and says no minutes
then.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from reproduce_report import FOLDER, KEPT, ROOT, TITLES, SplitKind, harness

WHAT = ("fcnn", "cnn", "both")
MARKS = "<!-- traits_of_gtzan.py: begin -->", "<!-- traits_of_gtzan.py: end -->"
# Masks lie on what is in the frame, so that the border is cut in each training. bfloat16 takes 0.7 of the time.
QUICK = ("--set", "crop=frame", "--precision", "bf16")
PICTURES = {"effects": "", "recall_alone": "-genres-alone", "recall_without": "-genres-without"}
Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("input"), help="data folder (default: input)")
    parser.add_argument("--lists", type=Path, help="folder of the fault-filtered split's lists, for both")
    parser.add_argument("--out", type=Path, default=Path("report-runs"), help="that of reproduce_report.py")
    parser.add_argument("--results", type=Path, default=FOLDER / "finding", help="folder of what was measured")
    parser.add_argument("--split", nargs="+", choices=list(TITLES), default=list(TITLES), help="default: both")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=[], help="what to measure, unless it is known")
    parser.add_argument("--trials", type=int, default=40, help="of a network that is swept here")
    parser.add_argument("--repeats", type=int, default=10, help="of all but pictures, which have the default")
    parser.add_argument("--write", action="store_true", help="write README.md, docs/traits.md and the pictures")
    arguments = parser.parse_args()
    for name in ("data", "lists", "out", "results"):
        given = getattr(arguments, name)
        setattr(arguments, name, given and given.absolute())
    sweeps = {"cnn", "both"} & set(arguments.what)
    if sweeps and "filtered" in arguments.split and arguments.lists is None:
        parser.error(f"--what {' '.join(sorted(sweeps))} on the filtered split needs --lists")
    arguments.results.mkdir(parents=True, exist_ok=True)
    for what in arguments.what:
        for split in arguments.split:
            measure(arguments, what, split)
    found = {what: known(arguments, what) for what in WHAT}
    text = "\n".join(sections(found))
    print(text)
    if arguments.write:
        between_marks(ROOT / "docs" / "traits.md", text)
        between_marks(ROOT / "README.md", "\n".join(headlines(found)))
        for folder in (f"traits-{what}-{split}" for what in ("fcnn", "cnn") for split in found[what]):
            for picture, ending in PICTURES.items():
                file = arguments.out / folder / f"{picture}.png"
                if file.exists():  # else it is kept from an earlier call, and so are its pictures
                    shutil.copy(file, ROOT / "docs" / f"{folder}{ending}.png")


def path_of(arguments: argparse.Namespace, what: str, split: SplitKind) -> Path:
    results: Path = arguments.results
    return results / f"traits-{what}-{split}.json"


def known(arguments: argparse.Namespace, what: str) -> dict[SplitKind, Found]:
    """Return what is kept, by split."""
    paths = {split: path_of(arguments, what, split) for split in TITLES}
    return {split: json.loads(path.read_text(encoding="utf-8")) for split, path in paths.items() if path.exists()}


def measure(arguments: argparse.Namespace, what: str, split: SplitKind) -> None:
    """Run the command, unless its result is kept."""
    path = path_of(arguments, what, split)
    if path.exists():
        return
    begun = path.with_suffix(".begun")
    goes_on = begun.exists()
    begun.touch()
    study = f"report-{split}-fcnn"
    if what == "cnn":
        study = tuned(arguments, split, "traits", "cnn", *QUICK)
    started = time.monotonic()
    if what == "both":
        everything = together(arguments, split)
        found = {key: everything[key] for key in KEPT}
    else:
        folder = arguments.out / f"traits-{what}-{split}"
        repeats = ("--repeats", str(arguments.repeats)) if what == "fcnn" else ()
        words = ("--data", str(arguments.data), "--out", str(folder), "--yes", "--json")
        found = json.loads(harness(arguments, "traits", "--study", study, *repeats, *words))
    found["minutes"] = None if goes_on else round((time.monotonic() - started) / 60, 1)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    begun.unlink()


def tuned(arguments: argparse.Namespace, split: SplitKind, first: str, model: str, *words: str) -> str:
    """Tune a network in the space of the CNN, and return the study's name, which begins with `first`."""
    lists = ["--split", str(arguments.lists)] if split == "filtered" else []
    study = f"{first}-{split}-{model}"
    harness(
        arguments,
        *("sweep", "--study", study, "--experiment", "report", "--data", str(arguments.data)),
        *("--config", str(FOLDER / "cnn.toml"), "--model", model, "--trials", str(arguments.trials)),
        *words,
        *lists,
    )
    return study


def together(arguments: argparse.Namespace, split: SplitKind) -> Found:
    """Tune the network of both inputs, and compare it with the two networks."""
    tuned(arguments, split, "report", "both")
    names = [word for name in ("fcnn", "cnn", "both") for word in ("--study", f"report-{split}-{name}")]
    folder = str(arguments.out / f"comparison-{split}-both")
    wanted = ["--repeats", str(arguments.repeats), "--data", str(arguments.data), "--out", folder, "--json"]
    wanted.append("--no-untuned")  # what tuning gains each network is not the question here
    found: Found = json.loads(harness(arguments, "compare", *names, *wanted))
    return found


def sections(found: dict[str, dict[SplitKind, Found]]) -> Iterator[str]:
    """The measured part of docs/traits.md."""
    for what, title in (("fcnn", "Features"), ("cnn", "Pictures")):
        for split, traits in found[what].items():
            (learner,) = traits["learners"]
            yield f"### {title}, {TITLES[split].lower()}\n"
            command = f"harness traits --study {traits['study']} --repeats {traits['repeats']}"
            trainings = traits["repeats"] * traits["trainings"]
            minutes = traits["minutes"]
            cost = f"{trainings} trainings" + ("" if minutes is None else f", {minutes:.0f} minutes on two cores")
            whole, none = percent(learner["accuracy"]), f"{100 * learner['nothing']:.1f}"
            yield f"`{command}`: {cost}; {whole} % with everything, {none} % with nothing.\n"
            yield from table(learner)
            yield from (f"\nThe command warns: {line}." for line in traits["warnings"] if "too narrow" in line)
            name = f"{title.lower()}, {TITLES[split].lower()}"
            yield f"\n![Effects, {name}](traits-{what}-{split}.png)\n"
            yield "By genre, recall alone (per cent), and what is lost without (points):\n"
            yield f"![Recall of each genre alone, {name}](traits-{what}-{split}-genres-alone.png)\n"
            yield f"![Recall lost of each genre without, {name}](traits-{what}-{split}-genres-without.png)\n"
    for split, compared in found["both"].items():
        yield f"### Pictures and features together, {TITLES[split].lower()}\n"
        yield from (f"- {model['name']}: {percent(interval(model))} %" for model in compared["models"])
        yield f"\n{compared['verdict']}.\n"


def table(learner: Found) -> Iterator[str]:
    """A row for each family or region, the largest effect first, then the controls."""
    has_shares = learner["rows"][0]["share"] is not None
    kind = "share" if has_shares else "lost"
    whole = 100 * (learner["accuracy"]["value"] - learner["nothing"])
    head = ["family", "columns", "alone, %", "lost without, points", f"share of {whole:.1f} points"]
    head = head if has_shares else ["region", "alone, %", "lost without, points"]
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in sorted(learner["rows"], key=lambda row: -row[kind]["value"]) + learner["controls"]:
        name = f"{row['name']} (control)" if row in learner["controls"] else row["name"]
        columns = [str(row["columns"] or "")] if has_shares else []
        alone = "" if row["alone"] is None else percent(row["alone"])
        effects = [points(row["lost"])] + ([points(row["share"])] if has_shares else [])
        yield f"| {' | '.join([name, *columns, alone, *effects])} |"
    for row in merged_of(learner):
        yield f"\n{row['name']} as one family: share {points(row['share'])}, lost without {points(row['lost'])}."
    for name, alone in learner["apart"].items():
        yield f"\n`{name}` alone: {percent(alone)} %."


def headlines(found: dict[str, dict[SplitKind, Found]]) -> Iterator[str]:
    """What the README says: of features the shares on both splits, of pictures and of both the sentences."""
    features = found["fcnn"]
    if features:
        yield from shares_of(features)
    for split, traits in found["cnn"].items():
        yield f"\nPictures, {TITLES[split].lower()} ({traits['repeats']} repeats): {about_pictures(traits)}\n"
        yield f"![Each band and quarter alone, and what is lost without it](docs/traits-cnn-{split}.png)"
    for split, compared in found["both"].items():
        yield f"\nPictures and features together, {TITLES[split].lower()}: {about_both(compared)}"


def shares_of(features: dict[SplitKind, Found]) -> Iterator[str]:
    """The shares of the families as a table, the sentence for each split, and the picture."""
    learners = {split: traits["learners"][0] for split, traits in features.items()}
    yield f"| share of the accuracy above guessing, points | {' | '.join(TITLES[s].lower() for s in learners)} |"
    yield "|---" * (1 + len(learners)) + "|"
    rows = {split: {row["name"]: row for row in each["rows"]} for split, each in learners.items()}
    first = next(iter(rows.values()))
    for name in sorted(first, key=lambda name: -first[name]["share"]["value"]):
        yield f"| {name} | {' | '.join(points(rows[split][name]['share']) for split in rows)} |"
    for place, row in enumerate(next(iter(learners.values()))["controls"]):
        values = (points(each["controls"][place]["share"]) for each in learners.values())
        yield f"| {row['name']} (control) | {' | '.join(values)} |"
    yield ""
    yield from (f"{TITLES[split]}: {sentence(each)}" for split, each in learners.items())
    split = next(iter(features))
    yield ""
    yield f"![Each family alone, what is lost without it, its share](docs/traits-fcnn-{split}.png)"


def about_both(compared: Found) -> str:
    """What each input adds to the other, in words."""
    accuracies = {model["name"]: percent(interval(model)) for model in compared["models"]}
    text = ", ".join(f"{name} {accuracy} %" for name, accuracy in accuracies.items()) + "."
    for other, what in (("fcnn", "The picture adds to the features"), ("cnn", "The features add to the picture")):
        pair = next(each for each in compared["pairs"] if set(each["names"]) == {"both", other})
        sign = 1 if pair["names"][0] == "both" else -1
        low, high = sorted(sign * pair[end] for end in ("low", "high"))
        shown = "" if pair["winner"] else ", which shows no difference"
        text += f" {what} {points({'value': sign * pair['difference'], 'low': low, 'high': high})} points{shown}."
    return text


def about_pictures(traits: Found) -> str:
    """What a network on pictures finds, in words."""
    (learner,) = traits["learners"]
    rows = sorted(learner["rows"], key=lambda row: -row["alone"]["value"])
    best, worst = (f"{row['name']} ({percent(row['alone'])} %)" for row in (rows[0], rows[-1]))
    lost = [row["name"] for row in rows if row["lost"]["low"] > 0]
    (control,) = learner["controls"]
    shown = f"shown for: {', '.join(lost) or 'none'}"
    if excludes_zero(control["lost"]):
        shown = "not known: the control fails, so the intervals of so few seeds are too narrow"
    return (
        f"{percent(learner['accuracy'])} % with the whole picture, {100 * learner['nothing']:.1f} % with none. "
        f"Of one region alone the CNN learns most from {best}, least from {worst}. "
        f"What the others cannot replace is {shown}. "
        f"The control, nothing masked but another seed, loses {points(control['lost'])} points."
    )


def merged_of(learner: Found) -> list[Found]:
    """The rows of families that are several of the others; the rest of the coarser grouping is as it was."""
    names = {row["name"] for row in learner["rows"]}
    return [row for row in learner["merged"] if row["name"] not in names]


def sentence(learner: Found) -> str:
    """What one network finds, in words."""
    whole = 100 * (learner["accuracy"]["value"] - learner["nothing"])
    merged = "".join(f" {row['name']} as one family brings {points(row['share'])}." for row in merged_of(learner))
    effects = {row["name"]: (row["share"], row["lost"]) for row in learner["rows"]}
    idle = [name for name, found in effects.items() if not any(map(excludes_zero, found))]
    shown = f"no effect is shown of: {', '.join(idle)}" if idle else "each has an effect"
    lost = [name for name, (_, lost) in effects.items() if lost["low"] > 0]
    pairs = "; ".join(" / ".join(pair) for pair in ties_of(learner))
    ties = f" Which of two neighbours has the larger share is not shown for: {pairs}." if pairs else ""
    return (
        f"the shares sum to {whole:.1f} points, the accuracy with all families less that with all permuted."
        f"{merged} "
        f"What the others cannot replace is shown for: {', '.join(lost) or 'none'}. "
        f"Beside the others {shown}.{ties}"
    )


def ties_of(learner: Found) -> list[tuple[str, str]]:
    """The neighbours in the order of the shares whose difference is not shown."""
    ordered = sorted(learner["rows"], key=lambda row: -row["share"]["value"])
    found = learner["differences_of_shares"]
    apart = {frozenset(each["names"]) for each in found if excludes_zero(each)}
    return [pair for pair in pairwise(row["name"] for row in ordered) if frozenset(pair) not in apart]


def excludes_zero(effect: Found) -> bool:
    """Whether an effect is shown."""
    return bool(effect["low"] > 0 or effect["high"] < 0)


def interval(model: Found) -> Found:
    low, high = model["test"]["interval"]
    return {"value": model["test"]["mean"], "low": low, "high": high}


def percent(estimate: Found) -> str:
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return f"{value:.0f} ({low:.0f} to {high:.0f})"


def points(effect: Found) -> str:
    """An effect in points with its interval; an end next to zero gets a second digit."""
    value, low, high = (100 * effect[key] for key in ("value", "low", "high"))
    digits = 1 if round(low, 1) and round(high, 1) else 2
    return f"{value:z.1f} ({low:z.{digits}f} to {high:z.{digits}f})"


def between_marks(path: Path, text: str) -> None:
    """Replace what stands between the marks of a document."""
    begin, end = MARKS
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{path.name} has no lines {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
