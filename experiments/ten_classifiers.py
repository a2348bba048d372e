"""The cited notebook's ten classifiers, split by row as it did and split by track.

    .venv/bin/python experiments/ten_classifiers.py --data input --lists LISTS --write
    .venv/bin/python experiments/ten_classifiers.py --data input --segments features_3_sec.csv --write

The notebook takes Kaggle's `features_3_sec.csv`, ten rows a track, scales all of it, and then draws the test part
by row: nearly every test row has rows of its own track in the train part. The second call measures this way and
the right one, by track with the scaler fitted on the train part, on the same rows. The first call has 30-second
rows alone, one a track, and measures by track. `--lists` adds the fault-filtered split, which keeps artists apart.

XGBoost's two rows need the extra "boost"; without it the table says so. `--write` writes docs/ten_classifiers.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from harness.compare.choose import draw_splits
from harness.compare.verdict import ResamplingScheme, Scores, estimate_accuracy
from harness.core.errors import DataError, HarnessError, SettingsError
from harness.core.files import replacing
from harness.core.records import Split
from harness.core.stats import Estimate
from harness.data import FEATURE_COLUMNS, Tracks, read_split, stratified_split
from harness.data.features import NOT_MUSIC
from harness.data.open import load_data
from harness.data.rows import read_rows

xgboost: Any = importlib.import_module("xgboost") if importlib.util.find_spec("xgboost") else None

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
PAGE = Path(__file__).parents[1] / "docs" / "ten_classifiers.md"
SEGMENTS_FILE = "features_3_sec.csv"
SEGMENT = re.compile(r"(?P<track>(?P<genre>.+)\.\d+)\.\d+\.wav")
COLUMNS = tuple(name for name in FEATURE_COLUMNS if name not in NOT_MUSIC)
ROW_SEED, ROW_TEST = 42, 0.3  # of the notebook's split
NO_BOOST = "XGBoost is not installed"

# What the notebook prints: accuracy on 30 % of the rows of features_3_sec.csv.
QUOTED = {
    "naive Bayes": 0.520,
    "SGD": 0.655,
    "19 nearest neighbours": 0.806,
    "decision tree": 0.648,
    "random forest": 0.814,
    "SVM": 0.754,
    "logistic regression": 0.698,
    "MLP": 0.671,
    "XGBoost": 0.901,
    "XGBoost random forest": 0.747,
}
# By name; each function makes a classifier from a seed. The settings are the notebook's, and with seed 0 its seeds
# too (it gives none to the tree). What is not named has the library's default, but XGBoost gets one thread: on few
# rows threads wait for one another, on a busy machine 14 times as long.
CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "naive Bayes": lambda seed: GaussianNB(),
    "SGD": lambda seed: SGDClassifier(max_iter=5000, random_state=seed),
    "19 nearest neighbours": lambda seed: KNeighborsClassifier(n_neighbors=19),
    "decision tree": lambda seed: DecisionTreeClassifier(random_state=seed),
    "random forest": lambda seed: RandomForestClassifier(n_estimators=1000, max_depth=10, random_state=seed),
    "SVM": lambda seed: SVC(decision_function_shape="ovo"),
    "logistic regression": lambda seed: LogisticRegression(random_state=seed),
    "MLP": lambda seed: MLPClassifier(
        solver="lbfgs", alpha=1e-5, hidden_layer_sizes=(5000, 10), random_state=seed + 1
    ),
    "XGBoost": lambda seed: xgboost.XGBClassifier(
        n_estimators=1000, learning_rate=0.05, random_state=seed, n_jobs=1
    ),
    "XGBoost random forest": lambda seed: xgboost.XGBRFClassifier(
        objective="multi:softmax", random_state=seed, n_jobs=1
    ),
}
BOOSTED = ("XGBoost", "XGBoost random forest")


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of features, float64 [n, columns], with the genre's number and the track of each row."""

    values: np.ndarray
    labels: np.ndarray
    tracks: np.ndarray


@dataclass(frozen=True)
class Column:
    """A column of the page's table: a title, and a figure for each classifier that was measured."""

    title: str
    figures: dict[str, Estimate | float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="input", help="data folder, or demo for the synthetic set")
    parser.add_argument("--segments", type=Path, help=f"Kaggle's {SEGMENTS_FILE} (default: the data folder's)")
    parser.add_argument("--lists", type=Path, help="split lists to measure on too: the fault-filtered split")
    parser.add_argument("--repeats", type=int, default=10, help="splits, a multiple of 5, and seeds on the lists")
    parser.add_argument("--only", action="append", choices=CLASSIFIERS, help="measure this one alone (repeatable)")
    parser.add_argument("--write", nargs="?", type=Path, const=PAGE, help="write the page, by default into docs/")
    wanted = parser.parse_args()
    names = tuple(name for name in CLASSIFIERS if not wanted.only or name in wanted.only)
    try:
        tracks = load_data(wanted.data)
        if tracks.synthetic and wanted.write == PAGE:
            raise SettingsError("the data are synthetic, and docs/ has figures of GTZAN", hint="--write FILE")
        columns = measure(tracks, names, wanted)
    except HarnessError as error:
        raise SystemExit(f"error: {error}") from error
    text = page(columns, names, synthetic=tracks.synthetic, repeats=wanted.repeats)
    print(text, end="")
    if wanted.write:
        with replacing(wanted.write) as temporary:
            temporary.write_text(text, encoding="utf-8")


def measure(tracks: Tracks, names: Sequence[str], wanted: argparse.Namespace) -> list[Column]:
    """Return every column of the table but the quoted one."""
    ways = {"random splits": draw_splits(tracks, stratified_split(tracks, seed=0), wanted.repeats, chose=())}
    if wanted.lists:
        ways["fault-filtered lists"] = draw_splits(
            tracks, read_split(wanted.lists, tracks), wanted.repeats, chose=()
        )
    beside = tracks.folder / SEGMENTS_FILE
    path = wanted.segments or (beside if beside.exists() else None)
    found = []
    if path is not None:
        segments = read_segments(path)
        found.append(Column("3 s, by row: the leak", by_row(segments, names)))
        found += [
            Column(f"3 s, by track, {way}", by_track(segments, tracks, splits, names))
            for way, splits in ways.items()
        ]
    whole = whole_tracks(tracks)
    found += [
        Column(f"30 s, by track, {way}", by_track(whole, tracks, splits, names)) for way, splits in ways.items()
    ]
    return found


def read_segments(path: Path) -> Table:
    """Read Kaggle's table of 3-second rows, named GENRE.NNNNN.K.wav; raises DataError for anything else."""
    rows = read_rows(path, COLUMNS)
    found = [SEGMENT.fullmatch(name or "") for name in rows.names]
    if None in found:
        wrong = rows.names[found.index(None)]
        raise DataError(f"{path}: {wrong!r} is no name of a 3-second row", expected="GENRE.NNNNN.K.wav")
    named = [match for match in found if match]
    _, labels = np.unique([match["genre"] for match in named], return_inverse=True)
    return Table(rows.values, labels, np.array([match["track"] for match in named]))


def whole_tracks(tracks: Tracks) -> Table:
    """Return the 30-second rows, one a track."""
    if tracks.features is None or not tracks.is_music:
        raise DataError(f"{tracks.folder} has no features of Kaggle's columns", expected="features_30_sec.csv")
    used = [tracks.columns.index(name) for name in COLUMNS]
    return Table(tracks.features[:, used], tracks.labels, np.array(tracks.ids))


def by_row(table: Table, names: Sequence[str]) -> dict[str, Estimate | float]:
    """Measure as the notebook did: the scaler sees all rows, and rows of one track are on both sides."""
    scaled = MinMaxScaler().fit_transform(table.values)
    train, test, right, wanted = train_test_split(scaled, table.labels, test_size=ROW_TEST, random_state=ROW_SEED)
    return {
        name: float(np.mean(predict(name, 0, train, right, test) == wanted)) for name in names if is_there(name)
    }


def by_track(
    table: Table, tracks: Tracks, splits: Sequence[Split], names: Sequence[str]
) -> dict[str, Estimate | float]:
    """Measure by track: all rows of a track are on one side, and the scaler sees the train part alone.

    All but the test part trains. The interval is that of a comparison: the rows of a track, and of tracks that are
    identical, are one cluster.
    """
    cluster_of = dict(zip(tracks.ids, tracks.units.tolist(), strict=True))
    parts = [
        (np.isin(table.tracks, split.train + split.valid), np.isin(table.tracks, split.test)) for split in splits
    ]
    clusters = [np.array([cluster_of[track] for track in table.tracks[test]]) for _, test in parts]
    scheme = ResamplingScheme(
        redrawn=splits[0].drawn,
        train=float(np.mean([train.sum() for train, _ in parts])),
        valid=0.0,
        test=float(np.mean([test.sum() for _, test in parts])),
        pool=int(np.any([test for _, test in parts], axis=0).sum()),
        clusters=tuple(clusters),
        own_clusters=clusters[0],
    )
    found: dict[str, Estimate | float] = {}
    for name in filter(is_there, names):
        correct = []
        for seed, (train, test) in enumerate(parts):
            scaler = MinMaxScaler().fit(table.values[train])
            rows, asked = scaler.transform(table.values[train]), scaler.transform(table.values[test])
            correct.append(predict(name, seed, rows, table.labels[train], asked) == table.labels[test])
        found[name] = estimate_accuracy(Scores(name=name, correct=tuple(correct)), scheme)
        over = f"{len(splits)} {'drawn splits' if scheme.redrawn else 'seeds on the lists'}"
        print(f"{name}: {shown(found[name])}, {len(table.labels)} rows, {over}", file=sys.stderr, flush=True)
    return found


def is_there(name: str) -> bool:
    return name not in BOOSTED or xgboost is not None


def predict(name: str, seed: int, rows: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # Two of the notebook's settings stop at the library's limit of iterations; the page says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        predicted: np.ndarray = CLASSIFIERS[name](seed).fit(rows, labels).predict(asked)
    return predicted


def shown(figure: Estimate | float) -> str:
    if isinstance(figure, float):
        return f"{figure:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def page(columns: Sequence[Column], names: Sequence[str], *, synthetic: bool, repeats: int) -> str:
    """Return the page, in Markdown; a data set that is synthetic is called so in its first line."""
    best = max(QUOTED, key=lambda name: QUOTED[name])
    reached = [f"{column.title} {shown(column.figures[best])}" for column in columns if best in column.figures]
    text: str = TEMPLATES.get_template("ten_classifiers.md.jinja").render(
        columns=columns,
        names=names,
        quoted=QUOTED,
        cell=lambda column, name: shown(column.figures[name]) if name in column.figures else NO_BOOST,
        sklearn=sklearn.__version__,
        xgboost=f"XGBoost {xgboost.__version__}" if xgboost else "no XGBoost: `pip install -e '.[boost]'`",
        repeats=repeats,
        best=best,
        best_shown="; ".join(reached),
        has_segments=any(column.title.startswith("3 s") for column in columns),
        synthetic=synthetic,
    )
    return text


if __name__ == "__main__":
    main()
