"""Split lists for `harness data check --split` and `harness sweep --split`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bad_inputs.base import Base
from tests.bad_inputs.case import Case, Prepare, cases_of, prints
from tests.bad_inputs.sets import FEATURES, ODD_FILES, Make, rows, table

KIND = "split lists"
MIB = 1 << 20
# Tracks 0 and 1 of each genre train, track 2 validates, tracks 3 and 4 test.
TRAIN = "blues/blues.00000.wav\nblues/blues.00001.wav\nrock/rock.00000.wav\nrock/rock.00001.wav\n"
VALID = "blues/blues.00002.wav\nrock/rock.00002.wav\n"
TEST = "blues/blues.00003.wav\nrock/rock.00003.wav\nblues/blues.00004.wav\n"
SOUND = {"train.txt": TRAIN.encode(), "valid.txt": VALID.encode(), "test.txt": TEST.encode()}
Lists = Mapping[str, bytes]


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    yield from cases_of(KIND, {**_missing(), **_broken(), **_lines(), **_tracks()}, _writes)
    yield from cases_of(KIND, _sound(), _writes, right=prints("4 train, 2 validation"))
    odd = {f"the list is {name}": make for name, make in ODD_FILES.items()}
    yield from cases_of(KIND, odd, _with_odd_file)
    yield Case(KIND, "no such folder", lambda here: [*_write(here, SOUND)[:-1], "missing"])
    yield Case(KIND, "the folder is a file", lambda here: [*_write(here, SOUND)[:-1], "lists/train.txt"])
    yield Case(KIND, "a sweep on lists of other tracks", lambda here: _sweep(base, here))


def _write(here: Path, lists: Lists) -> list[str]:
    (here / "set").mkdir()
    (here / "set" / FEATURES).write_bytes(table(rows()))
    (here / "lists").mkdir()
    for name, content in lists.items():
        (here / "lists" / name).write_bytes(content)
    return ["data", "check", "set", "--split", "lists"]


def _with_odd_file(make: Make) -> Prepare:
    def prepare(here: Path) -> list[str]:
        arguments = _write(here, {name: content for name, content in SOUND.items() if name != "train.txt"})
        make(here / "lists" / "train.txt")
        return arguments

    return prepare


def _sweep(base: Base, here: Path) -> list[str]:
    _write(here, SOUND)
    return ["sweep", "--model", "fcnn", "--data", str(base.data), "--split", "lists"]


def _writes(lists: Lists) -> Prepare:
    return lambda here: _write(here, lists)


def _missing() -> dict[str, Lists]:
    found: dict[str, Lists] = {"an empty folder": {}}
    for part in SOUND:
        found[f"no {part}"] = {name: content for name, content in SOUND.items() if name != part}
        found[f"{part} is empty"] = SOUND | {part: b""}
    found["two lists of a part"] = SOUND | {"train_2.txt": b"blues/blues.00004.wav\n"}
    found["lists with empty lines only"] = dict.fromkeys(SOUND, b"\n \n\t\n")
    return found


def _broken() -> dict[str, Lists]:
    contents = {
        "UTF-16": TRAIN.encode("utf-16"),
        "Latin-1": TRAIN.replace("blues.00001", "blüs.00001").encode("latin-1"),
        "zeros": bytes(1000),
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "a line of 10 MB": b"a" * (10 * MIB),
        "a line of 1 MB with slashes": b"a/" * (MIB // 2),
        "a line of 100 000 dots": b"." * 100_000,
        "the same track 100 000 times": b"blues/blues.00000.wav\n" * 100_000,
        "all tracks in one line": TRAIN.replace("\n", " ").encode(),
        "a comment": b"# made by hand\n" + TRAIN.encode(),
        "separated by commas": TRAIN.replace("\n", ",1\n").encode(),
    }
    return {f"the list: {name}": SOUND | {"train.txt": content} for name, content in contents.items()}


def _lines() -> dict[str, Lists]:
    lines = {
        "a track that climbs": "../blues/blues.00004.wav",
        "an absolute path": "/data/blues/blues.00004.wav",
        "the wrong genre's folder": "rock/blues.00004.wav",
        "no ending": "blues/blues.00004",
        "another ending": "blues/blues.00004.mp3",
        "no number": "blues/blues.wav",
        "NUL": "blues/blues.00004\x00.wav",
        "ESC": "blues/\x1b[2Jblues.00004.wav",
        "a right-to-left mark": "blues/\u202eblues.00004.wav",
        "a line separator": "blues/blues.00004.wav\u2028rock",
        "a look-alike letter": "blues/blu\u0435s.00004.wav",
        "backslashes": "blues\\blues.00004.wav",
        "upper case": "Blues/Blues.00004.wav",
        "Arabic digits": "blues/blues.\u0660\u0660\u0660\u0660\u0664.wav",
    }
    return {
        f"a line with {name}": SOUND | {"train.txt": f"{TRAIN}{line}\n".encode()} for name, line in lines.items()
    }


def _tracks() -> dict[str, Lists]:
    return {
        "a track that the data lack": SOUND | {"train.txt": f"{TRAIN}jazz/jazz.00001.wav\n".encode()},
        "a track twice in a list": SOUND | {"train.txt": (TRAIN + TRAIN).encode()},
        "a track in two lists": SOUND | {"test.txt": (TEST + VALID).encode()},
        "a genre that does not train": SOUND | {"train.txt": b"blues/blues.00000.wav\n"},
    }


def _sound() -> dict[str, Lists]:
    return {
        "sound, with a byte order mark": SOUND | {"train.txt": TRAIN.encode("utf-8-sig")},
        "sound, with CRLF": SOUND | {"train.txt": TRAIN.replace("\n", "\r\n").encode()},
        "sound, with spaces and empty lines": SOUND | {"train.txt": TRAIN.replace("\n", "  \n\n").encode()},
        "sound, without folders": SOUND | {"train.txt": TRAIN.replace("blues/", "").replace("rock/", "").encode()},
        "sound, other files beside": SOUND | {"readme.md": b"hello"},
    }
