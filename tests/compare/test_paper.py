"""What a paper takes from a comparison: every figure is the comparison's, and no name is a command to TeX."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.compare.paper import ESCAPES, escape, methods, numbers, table, write_paper
from harness.compare.result import Comparison
from tests.support.comparisons import made_up

ODD = r"a_b & 50% {x} $y$ #1 ~^ \input{/etc/passwd}"


@pytest.fixture
def comparison() -> Comparison:
    return made_up(ODD, "net 2")


def unescaped(text: str) -> str:
    """The text that TeX prints for an escaped one."""
    for letter, command in sorted(ESCAPES.items(), key=lambda item: -len(item[1])):
        text = text.replace(command, chr(0xE000 + ord(letter)))
    text = text.replace("-{}-", "--").replace("-{}-", "--")
    assert not set(text) & set("\\{}$&%#_~^"), text
    return "".join(chr(ord(letter) - 0xE000) if ord(letter) >= 0xE000 else letter for letter in text)


@given(st.text(st.characters(max_codepoint=0x2FF)))
def test_tex_prints_any_name_as_it_is(text: str) -> None:
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    assert unescaped(escape(text)) == printable


def test_every_special_is_escaped() -> None:
    assert escape(r"\&%$#_{}~^") == (r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}")
    assert escape("a---b\n\x1b") == "a-{}-{}-b  "


def test_the_table_holds_the_rows_best_first(comparison: Comparison) -> None:
    lines = table(comparison).splitlines()
    rows = [line for line in lines if line.endswith(r"\\") and "pm" in line]
    best, worst = sorted(comparison.rows, key=lambda row: -row.test.mean)
    assert [row.split(" & ")[0] for row in rows] == [escape(best.name), escape(worst.name)]
    assert rf"${best.test.mean:.3f} \pm {best.test.std:.3f}$" in rows[0]
    assert f"{worst.test.low:.3f} to {worst.test.high:.3f}" in rows[1]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)
    assert [line for line in lines if "rule" in line and not line.startswith("%")] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]


def test_a_corrected_p_is_called_so_at_any_level() -> None:
    single = numbers(made_up("net 1", "net 2"))
    assert "p-value" in single
    assert "Holm" not in single
    three = made_up("net 1", "net 2", "net 3")
    # Holm's last step has this level, of pairs that all differ.
    object.__setattr__(three, "pairs", tuple(replace(pair, confidence=0.95) for pair in three.pairs))
    lines = [line for line in numbers(three).splitlines() if "p-value" in line]
    assert len(lines) >= 3
    assert all("p-value, Holm-corrected" in line for line in lines)


def test_each_macro_is_letters_and_has_its_figure(comparison: Comparison) -> None:
    text = numbers(comparison)
    found = dict(re.findall(r"^\\newcommand\{\\(\w+)\}\{\\ensuremath\{([^{}]*)\}\} % ", text, re.MULTILINE))
    assert len(found) == text.count(r"\newcommand") == 5 + 2 * 6 + 6
    assert all(re.fullmatch("[A-Za-z]+", name) for name in found)
    (pair,) = comparison.pairs
    net = next(row for row in comparison.rows if row.name == "net 2")
    assert found["cmpNetTwoTest"] == f"{net.test.mean:.3f}"
    assert found["cmpRepeats"] == "3"
    assert [value for name, value in found.items() if name.endswith("Points")] == [f"{100 * pair.difference:z.1f}"]


def test_names_that_would_be_one_macro_are_two() -> None:
    text = numbers(made_up("net_2", "net-2"))
    names = re.findall(r"\\newcommand\{\\(\w+)\}", text)
    assert len(names) == len(set(names))
    assert {"cmpNetTwoTest", "cmpNetTwoTestX"} <= set(names)


def test_the_paragraph_of_methods_says_what_was_done(comparison: Comparison) -> None:
    text = methods(comparison)
    assert "trained 3 times each" in text
    assert "which is synthetic" in text
    assert "The number of repeats was fixed before the result was seen." in text
    sentence = escape(comparison.pairs[0].sentence()).replace("±", r"$\pm$")
    assert f"Result: {sentence}." in text.replace("$-$", "-")
    assert "lr 0.1, at most 2 epochs" in text
    for command in re.findall(r"\\[A-Za-z]+", text):
        assert command in {r"\textbackslash", r"\textasciitilde", r"\textasciicircum", r"\pm", r"\mathrm"}
    again = methods(replace(comparison, looks=(3, 5)))
    assert "looked at more than once, with 3, 5 repeats" in again


def test_without_a_validation_part_nothing_is_said_of_one(comparison: Comparison) -> None:
    refit = replace(comparison, protocol="refit")
    assert "cmpValid" not in numbers(refit)
    assert "cmpNetTwoValid" not in numbers(refit)
    assert "choosing the epoch" in methods(comparison)
    trained = replace(refit.scheme, train=16.0, valid=0.0)
    assert "choosing the epoch" not in methods(replace(refit, scheme=trained))


@pytest.mark.long
def test_the_files_of_a_paper(tmp_path: Path) -> None:
    comparison = made_up("$x_$", "net 2")
    write_paper(comparison, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"table.tex", "numbers.tex", "methods.tex", "accuracy.pdf", "accuracy.svg", "confusion.pdf"} <= names
    assert len([name for name in names if name.endswith(".pdf")]) == 6
    assert (tmp_path / "accuracy.pdf").read_bytes().startswith(b"%PDF-")
    svg = (tmp_path / "accuracy.svg").read_text(encoding="utf-8")
    assert "<svg" in svg
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_paper(comparison, tmp_path)  # the same comparison gives the same files
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
