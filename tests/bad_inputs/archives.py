"""Zip archives for `harness data import`."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tests.bad_inputs.base import Base
from tests.bad_inputs.case import Case, Outcome, Prepare, cases_of, prints
from tests.bad_inputs.sets import FEATURES, NAMES, PICTURES, Bytes, png, rows, table, whole, write

KIND = "zip archives"
LOCAL, CENTRAL, LAST = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
PICTURE = f"{PICTURES}/blues/blues00000.png"
IMPORT = ["data", "import", "archive.zip", "--out", "out"]
Entry = tuple[str | zipfile.ZipInfo, bytes]
MIB = 1 << 20


def entries(prefix: str = "Data/") -> list[Entry]:
    """Return the data set's files as entries."""
    return [(prefix + name, content) for name, content in whole().items()]


def archive(files: Iterable[Entry], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    found = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(found, "w", method) as opened:
        warnings.simplefilter("ignore")  # of a name that comes twice
        for entry, content in files:
            opened.writestr(entry, content, method)
    return found.getvalue()


def changed(data: bytes, signature: bytes, offset: int, content: bytes) -> bytes:
    """Return an archive with other bytes in its first header of a kind, at an offset in the header."""
    start = data.index(signature) + offset
    return data[:start] + content + data[start + len(content) :]


def both(data: bytes, offset: int, content: bytes) -> bytes:
    """Return an archive with other bytes in both headers of its first entry; `offset` is that in the local one."""
    return changed(changed(data, LOCAL, offset, content), CENTRAL, offset + 2, content)


def special(name: str, mode: int) -> zipfile.ZipInfo:
    """Return an entry that is no plain file on Unix."""
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (mode | 0o777) << 16
    return entry


def imported(outcome: Outcome) -> str | None:
    """Return what is wrong with an import, or None: all tracks are there, and nothing is anywhere else."""
    wrong = prints("10 with")(outcome)
    stray = [path for path in outcome.left if not f"{path}/".startswith("here/out/")]
    pictures = len(list(outcome.here.glob(f"out/{PICTURES}/*/*.png")))
    if wrong is None and pictures not in (0, len(NAMES)):
        return f"{pictures} pictures"
    return wrong or (f"wrote to {stray[:3]}" if stray else None)


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    refused = {**_names(), **_kinds_of_entry(), **_damaged(), **_wrong_fields(), **_content()}
    yield from cases_of(KIND, refused, _writes)
    yield from cases_of(KIND, _doubtful(), _writes, right=imported, may_refuse=True)
    yield from cases_of(KIND, _sound(), _writes, right=imported)
    yield from _destinations()


def _writes(data: Bytes) -> Prepare:
    def prepare(here: Path) -> list[str]:
        (here / "archive.zip").write_bytes(data())
        return IMPORT

    return prepare


def _prefixed(prefix: str) -> Bytes:
    return lambda: archive(entries(prefix))


def _with(*more: Entry) -> Bytes:
    """The data set and these entries."""
    return lambda: archive([*entries(""), *more])


def _with_picture(entry: str | zipfile.ZipInfo, content: bytes) -> Bytes:
    """The data set with another picture of its first track."""
    return lambda: archive([*(found for found in entries("") if found[0] != PICTURE), (entry, content)])


def _with_table(entry: str | zipfile.ZipInfo, content: bytes) -> Bytes:
    """The data set with another table."""
    return lambda: archive([*(found for found in entries("") if found[0] != FEATURES), (entry, content)])


def _names() -> dict[str, Bytes]:
    prefixes = {
        "climbing": "../",
        "climbing in the middle": "Data/../../",
        "absolute": "/",
        "with a drive": "C:/",
        "with a drive and backslashes": "C:\\Data\\",
        "climbing by backslashes": "..\\",
    }
    pictures = {
        "a name with ESC": f"{PICTURES}/blues/blues\x1b[2J00009.png",
        "a name with a line break": f"{PICTURES}/blues/blues\n00009.png",
        "a name that is written right to left": f"{PICTURES}/blues/\u202eblues00009.png",
        "a genre that climbs": f"{PICTURES}/../blues00009.png",
        "a picture in too deep a folder": f"{PICTURES}/blues/more/blues00009.png",
        "a hundred folders": f"{PICTURES}/{'a/' * 100}blues00009.png",
        "a name of 60 000 letters": f"{PICTURES}/blues/{'b' * 60_000}00009.png",
        "a name of 300 letters": f"{PICTURES}/blues/{'b' * 300}00009.png",
        "a name without a number": f"{PICTURES}/blues/blues.png",
        "a name that contradicts its folder": f"{PICTURES}/blues/rock00009.png",
        "a picture twice": f"{PICTURES}/blues/blues00000.png",
        "a track with two pictures": f"{PICTURES}/blues/blues.00000.png",
        "a file that is a folder too": f"{PICTURES}/blues/blues00000.png/blues00001.png",
    }
    return {
        **{f"names {name}": _prefixed(prefix) for name, prefix in prefixes.items()},
        **{name: _with((path, png())) for name, path in pictures.items()},
        "the table twice": _with((f"other/{FEATURES}", b"")),
    }


def _kinds_of_entry() -> dict[str, Bytes]:
    kinds = {"a link": stat.S_IFLNK, "a device": stat.S_IFCHR, "a pipe": stat.S_IFIFO}
    many = [(f"{PICTURES}/blues/blues{number:05d}.png", b"") for number in range(20_001)]
    return {
        **{
            f"the table is {name}": _with_table(special(FEATURES, kind), b"/etc/passwd")
            for name, kind in kinds.items()
        },
        "a picture is a link": _with_picture(special(PICTURE, stat.S_IFLNK), b"/etc/passwd"),
        "20 001 pictures": lambda: archive(many, zipfile.ZIP_STORED),
    }


def _damaged() -> dict[str, Bytes]:
    return {
        "an empty file": lambda: b"",
        "a text": lambda: b"this is no archive\n" * 100,
        "a picture": png,
        "zeros": lambda: bytes(100_000),
        "an archive without entries": lambda: archive([]),
        "the first half": lambda: (data := archive(entries()))[: len(data) // 2],
        "all but the last byte": lambda: archive(entries())[:-1],
        "the first ten bytes": lambda: archive(entries())[:10],
        "the end without the beginning": lambda: (data := archive(entries()))[len(data) // 2 :],
        "a byte of the content": lambda: changed(archive(entries()), LOCAL, 120, b"\xff"),
        "the signature of the first entry": lambda: changed(archive(entries()), LOCAL, 0, b"PK\x00\x00"),
        "the signature of the directory": lambda: changed(archive(entries()), CENTRAL, 0, b"PK\x00\x00"),
        "damaged bzip2": lambda: changed(archive(entries(), zipfile.ZIP_BZIP2), LOCAL, 120, b"\xff" * 9),
        "damaged LZMA": lambda: changed(archive(entries(), zipfile.ZIP_LZMA), LOCAL, 120, b"\xff" * 9),
    }


def _wrong_fields() -> dict[str, Bytes]:
    """Archives with a wrong number in a header; see APPNOTE.TXT, 4.3.7, 4.3.12 and 4.3.16."""
    return {
        "a wrong CRC": lambda: both(archive(entries()), 14, b"\1\2\3\4"),
        "encrypted": lambda: both(archive(entries()), 6, b"\1\0"),
        "an unknown method": lambda: both(archive(entries()), 8, struct.pack("<H", 99)),
        "the method Deflate64": lambda: both(archive(entries()), 8, struct.pack("<H", 9)),
        "the method bzip2, which it is not": lambda: both(archive(entries()), 8, struct.pack("<H", 12)),
        "the method LZMA, which it is not": lambda: both(archive(entries()), 8, struct.pack("<H", 14)),
        "a size that is too small": lambda: both(archive(entries()), 22, struct.pack("<I", 10)),
        "a packed size that is too small": lambda: both(archive(entries()), 18, struct.pack("<I", 10)),
        "a name that differs in the directory": lambda: changed(archive(entries()), CENTRAL, 46, b"Dada"),
        "a name that is not UTF-8": lambda: changed(
            both(archive(entries()), 6, b"\0\x08"), CENTRAL, 46, b"\xff\xfe"
        ),
        "a directory that begins beyond the end": lambda: changed(archive(entries()), LAST, 16, b"\xff" * 3),
        "an entry that begins beyond the end": lambda: changed(
            archive(entries()), CENTRAL, 42, b"\xff\xff\xff\x0f"
        ),
        "a newer version is needed": lambda: both(archive(entries()), 4, b"\xff\xff"),
    }


def _content() -> dict[str, Bytes]:
    return {
        "a table of 65 MB of zeros": lambda: _with_table(FEATURES, bytes(65 * MIB))(),
        "a table of 60 MB of commas": lambda: _with_table(FEATURES, b"," * (60 * MIB))(),
        "a table of one line of 60 MB": lambda: _with_table(FEATURES, b"a" * (60 * MIB))(),
        "a table that is a text": _with_table(FEATURES, b"hello\n"),
        "a table with a header only": _with_table(FEATURES, table(rows()[:1])),
        "a picture of 17 MB of zeros": lambda: _with_picture(PICTURE, bytes(17 * MIB))(),
        "a picture that is a text": _with_picture(PICTURE, b"hi"),
        "an archive in an archive": lambda: archive([("inner.zip", archive(entries()))]),
        "hidden files only": lambda: archive([(f"__MACOSX/{FEATURES}", b"x"), (f".{FEATURES}", b"x")]),
        "other files only": lambda: archive([("readme.txt", b"hello"), ("setup.py", b"print()")]),
        "the table is a folder": lambda: archive([(f"{FEATURES}/", b"")]),
    }


def _doubtful() -> dict[str, Bytes]:
    sound = archive(entries(""))
    return {
        "names on another computer": lambda: archive(entries("\\\\server\\share\\")),
        "names with two slashes": lambda: archive(entries("//tmp/")),
        "a name with NUL": lambda: sound.replace(b"features_30_sec.csv", b"features_30_sec\0csv"),
        "a size that is too large": lambda: both(sound, 22, b"\xff\xff\xff\x7f"),
        "a packed size that is too large": lambda: both(sound, 18, b"\xff\xff\xff\x0f"),
        "two entries with the same content": lambda: changed(
            sound, CENTRAL, 42, struct.pack("<I", sound.index(LOCAL, 10))
        ),
        "a wrong number of entries": lambda: changed(sound, LAST, 8, b"\2\0\2\0"),
        "on the third of several disks": lambda: changed(sound, LAST, 4, b"\3\0\3\0"),
        "a directory without its 64-bit field": lambda: changed(sound, CENTRAL, 24, b"\xff" * 4),
        "a comment that is longer than the file": lambda: changed(sound, LAST, 20, b"\xff\xff"),
        "lines after the end": lambda: sound + b"\nmore\n" * 10,
    }


def _sound() -> dict[str, Bytes]:
    junk: Sequence[Entry] = [
        ("../../etc/passwd", b"x"),
        (f"__MACOSX/{PICTURES}/blues/._blues00000.png", b"x"),
        (f"{PICTURES}/Thumbs.db", b"x"),
        ("Data/genres_original/blues/blues.00000.wav", b"x"),
        (special("Data/link", stat.S_IFLNK), b"/etc/passwd"),
        (special(PICTURES, stat.S_IFLNK), b"/etc"),
    ]
    flat = [(str(name).replace("blues/", "").replace("rock/", ""), content) for name, content in entries("")]
    return {
        "sound, stored": lambda: archive(entries(), zipfile.ZIP_STORED),
        "sound, bzip2": lambda: archive(entries(), zipfile.ZIP_BZIP2),
        "sound, LZMA": lambda: archive(entries(), zipfile.ZIP_LZMA),
        "sound, with backslashes": lambda: archive(entries("Data\\")),
        "sound, without folders of genres": lambda: archive(flat),
        "sound, after a program": lambda: b"#!/bin/sh\nexit\n" * 50 + archive(entries()),
        "sound, with other entries that climb, hide and link": lambda: archive([*entries(), *junk]),
    }


def _destinations() -> Iterator[Case]:
    def has_data(here: Path) -> None:
        write(here / "out", {FEATURES: b"mine"})

    def is_file(here: Path) -> None:
        (here / "out").write_text("mine")

    def is_folder(here: Path) -> None:
        (here / "archive.zip").unlink()
        (here / "archive.zip").mkdir()

    def is_pipe(here: Path) -> None:
        (here / "archive.zip").unlink()
        os.mkfifo(here / "archive.zip")

    def into(name: str, change: Callable[[Path], None], arguments: list[str] = IMPORT) -> Case:
        def prepare(here: Path) -> list[str]:
            (here / "archive.zip").write_bytes(archive(entries()))
            change(here)
            return arguments

        return Case(KIND, name, prepare)

    yield into("the destination has data", has_data)
    yield into("the destination is a file", is_file)
    yield into("the destination lies below a file", lambda here: None, [*IMPORT[:-1], "archive.zip/out"])
    yield into("the archive is an empty folder", is_folder)
    yield into("the archive is a pipe", is_pipe)
    yield into("no archive of that name", lambda here: None, ["data", "import", "missing.zip", "--out", "out"])
