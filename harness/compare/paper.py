"""Writes what a paper takes from a comparison: a table, figures as macros, a paragraph of methods, pictures.

The files are LaTeX in UTF-8. `table.tex` needs the package booktabs. Figures are rounded as in `report.html`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.compare.baselines import BASELINES
from harness.compare.figures import pictures_of
from harness.compare.result import Comparison
from harness.compare.verdict import Pair
from harness.core.records import TrialConfig
from harness.core.space import describe
from harness.core.stats import FEW_TRACKS
from harness.data import FOLDS

PICTURE_FORMATS = ("pdf", "svg")
# What TeX would read as a command, and the letters that stand for it.
ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
}
DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def write_paper(comparison: Comparison, folder: Path) -> None:
    """Write `table.tex`, `numbers.tex`, `methods.tex`, and each picture as PDF and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("table.tex", table(comparison)),
        ("numbers.tex", numbers(comparison)),
        ("methods.tex", methods(comparison)),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    for picture in pictures_of(comparison):
        for suffix in PICTURE_FORMATS:
            picture.save(folder / f"{picture.name}.{suffix}")


def escape(text: str) -> str:
    """Return a text as LaTeX prints it; control characters, which it cannot print, become spaces."""
    escaped = "".join(ESCAPES.get(letter, letter) for letter in _printable(text))
    return escaped.replace("--", "-{}-").replace("--", "-{}-")  # else two hyphens become a dash


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def table(comparison: Comparison) -> str:
    """Return the table of models and baselines, best first, as a `tabular` with the rules of booktabs."""
    lines = [
        "% Needs \\usepackage{booktabs}. Mean and standard deviation over the repeats, interval of the mean.",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"model & test accuracy & 95\,\% interval & macro F1 \\",
        r"\midrule",
    ]
    for judged in (True, False):
        rows = [row for row in comparison.rows if row.is_judged == judged]
        if not judged and rows:
            lines.append(r"\midrule")
        for row in sorted(rows, key=lambda row: -row.test.mean):
            cells = [
                escape(row.name),
                rf"${row.test.mean:.3f} \pm {row.test.std:.3f}$",
                rf"{row.test.low:.3f} to {row.test.high:.3f}",
                f"{row.macro_f1:.3f}",
            ]
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def numbers(comparison: Comparison) -> str:
    """Return a macro for each figure; the comment behind it says which."""
    lines = [
        f"% {len(comparison.splits)} repeats, MLflow run {comparison.run_id}. Points are hundredths of accuracy."
    ]
    taken: set[str] = set()
    for words, value, meaning in _figures(comparison):
        name = _macro(words, taken)
        lines.append(rf"\newcommand{{\{name}}}{{\ensuremath{{{value}}}}} % {_printable(meaning)}")
    return "\n".join([*lines, ""])


def _figures(comparison: Comparison) -> Iterator[tuple[str, str, str]]:
    """Yield each figure: the words of its macro's name, its value, and what it is."""
    scheme, items = comparison.scheme, comparison.words.items
    yield "repeats", str(len(comparison.splits)), "trainings of each model"
    yield "judges", str(scheme.pool), f"{items} that judge"
    yield "train", f"{scheme.train:.0f}", f"{items} that a repeat trains on (mean)"
    if comparison.protocol == "holdout":
        yield "valid", f"{scheme.valid:.0f}", f"{items} that choose the epoch (mean)"
    yield "test", f"{scheme.test:.0f}", f"test {items} of a repeat (mean)"
    for row in comparison.rows:
        for words, value, meaning in (
            ("test", row.test.mean, "mean test accuracy"),
            ("test std", row.test.std, "its standard deviation over the repeats"),
            ("test low", row.test.low, "lower end of its 95 % interval"),
            ("test high", row.test.high, "upper end of its 95 % interval"),
            ("valid", None if row.val is None else row.val[0], "mean validation accuracy, chosen on"),
            ("macro F", row.macro_f1, "mean macro F1 on the test parts"),
        ):
            if value is not None:
                yield f"{row.name} {words}", f"{value:.3f}", f"{row.name}: {meaning}"
    # In their own order, so that a macro's name does not depend on who leads.
    judged = [(pair, len(pairs)) for pairs in (comparison.pairs, comparison.gains) for pair in pairs]
    for pair, tests in judged:
        both = f"{pair.a} minus {pair.b}"
        for words, text, meaning in (
            ("points", f"{100 * pair.difference:z.1f}", "difference in points"),
            ("low", f"{100 * pair.low:z.1f}", "lower end of its interval, points"),
            ("high", f"{100 * pair.high:z.1f}", "upper end of its interval, points"),
            ("level", f"{100 * pair.confidence:.3g}", "coverage of this interval in per cent"),
            ("p", _tex_p(pair), "p-value" + (", Holm-corrected" if tests > 1 else "")),
            ("wins", str(pair.wins), f"repeats in which the first is ahead, of {pair.repeats}"),
        ):
            yield f"{both} {words}", text, f"{both}: {meaning}"


def _macro(words: str, taken: set[str]) -> str:
    """Return a name for a macro: TeX allows letters alone, so digits are spelt. A name that is taken gets an X."""
    spelt = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", words)
    parts = re.findall(r"[A-Za-z]+", spelt)
    name = "cmp" + "".join(part[0].upper() + part[1:] for part in parts)
    while name in taken:
        name += "X"
    taken.add(name)
    return name


def _tex_p(pair: Pair) -> str:
    return "<0.0001" if pair.p < 1e-4 else f"{pair.p:.2g}"


def methods(comparison: Comparison) -> str:
    """Return a paragraph that says how the comparison was made, with its own figures."""
    scheme, repeats = comparison.scheme, len(comparison.splits)
    item, items = comparison.words.item, comparison.words.items
    names = [escape(candidate.name) for candidate in comparison.studied]
    settings = "; ".join(
        f"{escape(f'{c.name}: {describe(c.config.params)}')}, {_epochs(c.config)}"
        for c in comparison.studied
        if c.config is not None
    )
    rows = {candidate.name: comparison.trials[candidate.name] for candidate in comparison.studied}
    whole = {name: sum(row.state == "COMPLETE" for row in of_study) for name, of_study in rows.items()}
    trials = ", ".join(f"{len(rows[name])} ({escape(name)}; {whole[name]} to their end)" for name in rows)
    chosen = [
        f"Hyperparameters were chosen by the validation accuracy of a search; trials with a result: {trials}.",
        f"The chosen settings ({settings}) were then trained {repeats} times each.",
    ]
    if scheme.nested:
        chosen = [
            f"In each of the {repeats} repeats the hyperparameters of each model were chosen anew, by the "
            f"validation accuracy of a search on the {items} that the repeat did not test on, as large as the "
            f"model's first search (trials with a result there: {trials}).",
            "The setting that each search chose was then trained and tested once.",
        ]
    text = [
        f"We compared {_listed(names)} on the data set {escape(comparison.data)} "
        f"({len(comparison.labels)} {items}, {len(comparison.genres)} classes)"
        + (", which is synthetic." if comparison.synthetic else "."),
        *chosen,
    ]
    if scheme.redrawn:
        rounds = repeats // FOLDS
        judges = "" if scheme.nested else " that had not chosen the hyperparameters"
        text.append(
            f"The repeats were {rounds} {'round' if rounds == 1 else 'rounds'} of a stratified "
            f"{FOLDS}-fold partition "
            f"of the {scheme.pool} {items}{judges}; identical {items} were kept "
            f"together. All other {items} were used for training ({scheme.train:.0f} on average)"
            + (f" and for choosing the epoch ({scheme.valid:.0f})" if scheme.valid else "")
            + ". Folds and seeds were the same for all models."
        )
    else:
        text.append(
            f"All repeats used the given split ({len(comparison.split.train)} train, "
            f"{len(comparison.split.valid)} "
            f"validation, {len(comparison.split.test)} test {items}) and differ in the seed, which was "
            "the same for all models; the result is conditional on this train list."
        )
        if comparison.protocol == "refit":
            text.append(f"The models were trained on the train and validation {items} together.")
    members = max(candidate.members for candidate in comparison.candidates)
    if members > 1:
        text.append(f"An ensemble is the mean of the probabilities of {members} networks with different seeds.")
    factor = (
        rf"the latter multiplied by $1 + k\,n_\mathrm{{test}}/(n_\mathrm{{pool}} - n_\mathrm{{test}}) = "
        rf"{1 + repeats * scheme.ratio:.2f}$ for $k = {repeats}$ trainings with overlapping train parts "
        "(Nadeau and Bengio, 2003)"
        if scheme.redrawn
        else "both as observed, because nothing was redrawn"
    )
    text.append(
        f"The difference of two models is the mean over test {items} and repeats of the difference of their "
        f"correctness. Its variance is the sum of a part between {items} (cluster-robust, over all "
        f"repeats of a {item}; "
        f"Cameron, Gelbach and Miller, 2011) and a part between repeats, {factor}; intervals are "
        f"Student's $t$ with "
        f"Satterthwaite's degrees of freedom. Where fewer than {FEW_TRACKS} {items} differed, the "
        f"exact sign test over {items} had to agree. Identical {items}, and those of a group, counted as one."
    )
    if len(comparison.pairs) > 1:
        text.append(
            f"The {len(comparison.pairs)} $p$-values are Holm-corrected, and each interval has the "
            f"level of its step."
        )
    baselines = [name for name in BASELINES if any(c.model == name for c in comparison.candidates if not c.study)]
    if any(candidate.untuned for candidate in comparison.candidates):
        text.append("The default setting of each model was trained likewise and is not part of the verdict.")
    if baselines:
        text.append(f"Untuned baselines from scikit-learn ({_listed(baselines)}) were trained on the same splits.")
    text.append("Intervals of single accuracies are " + _accuracy_rule(comparison) + ".")
    if len(comparison.looks) > 1:
        seen = ", ".join(str(number) for number in comparison.looks)
        text.append(f"The result was looked at more than once, with {seen} repeats; the intervals ignore this.")
    else:
        text.append("The number of repeats was fixed before the result was seen.")
    text += [
        f"The test part of the split of the search was opened "
        f"{sum(o.times for o in comparison.ledger.own)} times in "
        "all.",
        *[f"Result: {_tex(pair.sentence(len(comparison.pairs) > 1))}." for pair in comparison.pairs],
        *[f"Tuning: {_tex(sentence)}." for sentence in comparison.gained],
    ]
    return "\n".join([*text, ""])


def _accuracy_rule(comparison: Comparison) -> str:
    if comparison.scheme.redrawn:
        return "corrected resampled $t$ intervals (Nadeau and Bengio, 2003)"
    return "made by the same rule over tracks and repeats"


def _epochs(config: TrialConfig) -> str:
    return f"at most {config.epochs} epochs" if config.last_epoch is None else f"{config.last_epoch} epochs"


def _tex(sentence: str) -> str:
    text = escape(sentence).replace("±", r"$\pm$")
    return re.sub(r"(?<=\s)-(?=\d)", "$-$", text)  # a minus sign, not a hyphen


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
