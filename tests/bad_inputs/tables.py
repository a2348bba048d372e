"""CSV files, each for both readers: `harness data check` and `harness predict`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.bad_inputs.base import Base
from tests.bad_inputs.case import PREDICTED, Case, Check, Prepare, prints
from tests.bad_inputs.sets import FEATURES, HEADER, NAMES, ODD_FILES, Bytes, Make, rows, table, with_cell, writes

KIND = "CSV files"
MIB = 1 << 20
Expected = Literal["refused", "right", "either"]
CHECKED = prints(f"{len(NAMES)} with")


@dataclass(frozen=True, slots=True)
class Table:
    """One CSV file, and what each of the two readers is to do with it."""

    name: str
    content: Bytes
    check: Expected = "refused"
    predict: Expected = "refused"


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    for each in (*_broken(), *_headers(), *_cells(), *_widths(), *_names(), *_sound()):
        yield from _both(base, each.name, writes(each.content), each.check, each.predict)
    for name, make in ODD_FILES.items():
        yield from _both(base, f"the file is {name}", make, "refused", "refused")


def _both(base: Base, name: str, make: Make, check: Expected, predict: Expected) -> Iterator[Case]:
    def check_set(here: Path) -> list[str]:
        (here / "set").mkdir()
        make(here / "set" / FEATURES)
        return ["data", "check", "set"]

    def predict_rows(here: Path) -> list[str]:
        make(here / "rows.csv")
        return ["predict", str(base.fcnn), "rows.csv", *(["--json"] if predict != "refused" else [])]

    yield _case(f"{name} (data check)", check_set, check, CHECKED)
    yield _case(f"{name} (predict)", predict_rows, predict, PREDICTED)


def _case(name: str, prepare: Prepare, expected: Expected, right: Check) -> Case:
    return Case(KIND, name, prepare, None if expected == "refused" else right, may_refuse=expected == "either")


def _broken() -> Iterator[Table]:
    text = table(rows()).decode()
    yield Table("an empty file", lambda: b"")
    yield Table("a byte order mark only", lambda: b"\xef\xbb\xbf")
    yield Table("line breaks only", lambda: b"\n\n\r\n\n")
    yield Table("zeros", lambda: bytes(10_000))
    yield Table("a picture", lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    yield Table("UTF-16", lambda: text.encode("utf-16"))
    yield Table("UTF-16 without a mark", lambda: text.encode("utf-16-be"))
    yield Table("Latin-1", lambda: text.replace("rock", "röck").encode("latin-1"))
    yield Table("a quote that is not closed", lambda: text.replace("rock.00002.wav", '"rock.00002.wav').encode())
    yield Table("text after a quote", lambda: text.replace("rock.00002.wav", '"rock.00002".wav').encode())
    yield Table("the first half", lambda: text.encode()[: len(text) // 2])
    yield Table("a comment as the first line", lambda: b"# made by hand\n" + text.encode())
    yield Table("semicolons", lambda: table(rows(), ";"))
    yield Table("tabs", lambda: table(rows(), "\t"))
    yield Table("a header only", lambda: table(rows()[:1]))
    yield Table("rows without a header", lambda: table(rows()[1:]))
    yield Table("a second header", lambda: table([*rows(), HEADER]))
    yield Table("one line of 20 MB", lambda: b"a" * (20 * MIB))


def _headers() -> Iterator[Table]:
    def without(name: str) -> Bytes:
        index = HEADER.index(name)
        return lambda: table([row[:index] + row[index + 1 :] for row in rows()])

    def renamed(name: str, new: str) -> Bytes:
        return lambda: table([[new if cell == name else cell for cell in HEADER], *rows()[1:]])

    def widened(count: int) -> Bytes:
        """So many columns more, each with a name and a value."""
        return lambda: table(
            [[*row, *(f"c{c}" if row[0] == "filename" else "1" for c in range(count))] for row in rows()]
        )

    yield Table("a column is missing", without("tempo"))
    yield Table("no column filename", without("filename"), predict="right")
    yield Table("no column label", without("label"), predict="right")
    yield Table("a column twice", renamed("rms_var", "tempo"))
    yield Table("another column", widened(1), predict="right")
    yield Table("a column without a name", renamed("label", ""), predict="right")
    yield Table("a column with upper case", renamed("tempo", "Tempo"))
    yield Table("a column with ESC", renamed("tempo", "\x1b[31mtempo"))
    yield Table("a column of 60 000 letters", renamed("tempo", "t" * 60_000))
    yield Table("10 000 columns more", widened(10_000), predict="either")
    yield Table("100 000 columns more", widened(100_000), predict="either")
    yield Table("10 MB of commas", lambda: b"," * (10 * MIB))


def _cells() -> Iterator[Table]:
    for text in ("nan", "inf", "-inf", "1e39", "1e400", "1_000", "0x10", "", " ", "1,5", "½", "--1", "1e", "1 2"):
        yield Table(f"a number is {text!r}", lambda text=text: with_cell(text))  # type: ignore[misc]
    yield Table("a number is a formula", lambda: with_cell("=1+1|cmd"))
    yield Table("a number has NUL", lambda: with_cell("1\x002"))
    yield Table("a number has ESC", lambda: with_cell("\x1b[2J1"))
    yield Table("a number of 60 000 letters", lambda: with_cell("x" * 60_000))
    yield Table("a number of 200 000 letters", lambda: with_cell("x" * 200_000))
    yield Table("a number of 5 000 digits", lambda: with_cell("9" * 5_000))
    yield Table("a number with a line break", lambda: with_cell("1\n2"))
    yield Table("a number in Arabic digits", lambda: with_cell("\u0661\u0662"), check="right", predict="right")
    yield Table("the largest number of 32 bits", lambda: with_cell("3.4e38"), check="right", predict="either")
    yield Table("the smallest number", lambda: with_cell("5e-324"), check="right", predict="right")


def _widths() -> Iterator[Table]:
    def longer(count: int) -> Bytes:
        return lambda: table([*rows()[:4], rows()[4] + ["1"] * count, *rows()[5:]])

    yield Table("a cell too many", longer(1))
    yield Table("100 000 cells too many", longer(100_000))
    yield Table("a cell too few", lambda: table([*rows()[:4], rows()[4][:-1]]))
    yield Table("a line that says END", lambda: table([*rows(), ["END"]]))


def _names() -> Iterator[Table]:
    def named(track: str) -> Bytes:
        return lambda: with_cell(track, column="filename")

    yield Table("a track that climbs", named("../blues.00002.wav"), predict="right")
    yield Table("a track of another format", named("blues.00002.mp3"), predict="right")
    yield Table("a track without a number", named("blues.wav"), predict="right")
    yield Table("a track without a name", named(""), predict="right")
    yield Table("a track with ESC", named("blues\x1b[2J.00002.wav"), predict="right")
    yield Table("a track twice", named("blues.00001.wav"), predict="right")
    yield Table("a genre that contradicts the track", lambda: with_cell("rock", column="label"), predict="right")
    yield Table("one genre only", lambda: table(rows()[:6]), predict="right")
    yield Table("four tracks of a genre", lambda: table(rows()[:10]), predict="right")

    def genre(name: str) -> Bytes:
        return lambda: table([[cell.replace("rock", name) for cell in row] for row in rows()])

    for name in ("\x1b]0;x\x07", "ro\u202eck", "ro\x00ck", "ro\x9bck"):
        yield Table(f"a genre is {name!r}", genre(name), check="either", predict="right")
    for name in ("r\u043eck", "ro[bold]ck", "$a^$", "=1+1|cmd", "a" * 300, "ro\u200bck", "."):
        yield Table(f"a genre is {name[:20]!r}", genre(name), check="either", predict="right")


def _sound() -> Iterator[Table]:
    text = table(rows()).decode()
    sound = {
        "sound, with a byte order mark": text.encode("utf-8-sig"),
        "sound, with CRLF": text.replace("\n", "\r\n").encode(),
        "sound, with CR": text.replace("\n", "\r").encode(),
        "sound, with empty lines": text.replace("\n", "\n\n").encode(),
        "sound, all quoted": "\n".join(
            ",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()
        ).encode(),
        "sound, in another order of columns": table([row[::-1] for row in rows()]),
    }
    for name, content in sound.items():
        yield Table(name, lambda content=content: content, check="right", predict="right")  # type: ignore[misc]
