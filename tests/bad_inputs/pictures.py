"""PNG files for `harness data check` and `harness predict`."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from tests.bad_inputs.base import Base
from tests.bad_inputs.case import PREDICTED, Case, Prepare, prints
from tests.bad_inputs.sets import (
    END,
    ODD_FILES,
    PICTURES,
    SIDE,
    SIGNATURE,
    Bytes,
    Make,
    chunk,
    header,
    pixels,
    png,
    whole,
    write,
    writes,
)

KIND = "PNG files"
CHANGED = "blues/blues00003.png"
MUTATIONS, CHANGED_BYTES = 20, 12
MIB = 1 << 20


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    for name, content in {**_other_formats(), **_cut(), **_headers(), **_data(), **_chunks()}.items():
        yield _in_a_set(name, writes(content))
        yield Case(KIND, f"{name} (predict)", _predicts(base, writes(content)))
    for name, content in _doubtful().items():
        yield _in_a_set(name, writes(content), may_be_right=True)
        yield Case(
            KIND, f"{name} (predict)", _predicts(base, writes(content), "--json"), PREDICTED, may_refuse=True
        )
    for name, content in _other_sizes().items():
        yield _in_a_set(name, writes(content))
    for number in range(MUTATIONS):
        content = _mutated(seed, number)
        yield _in_a_set(f"{CHANGED_BYTES} bytes changed, number {number}", writes(content), may_be_right=True)
    for name, make in ODD_FILES.items():
        yield _in_a_set(f"the file is {name}", make)
        yield Case(KIND, f"the file is {name} (predict)", _predicts(base, make))
    yield from _names()


def _in_a_set(name: str, make: Make, may_be_right: bool = False) -> Case:
    def prepare(here: Path) -> list[str]:
        write(here / "set", whole())
        path = here / "set" / PICTURES / CHANGED
        path.unlink()
        make(path)
        return ["data", "check", "set"]

    return Case(KIND, name, prepare, prints("10 with") if may_be_right else None, may_refuse=may_be_right)


def _predicts(base: Base, make: Make, *options: str) -> Prepare:
    def prepare(here: Path) -> list[str]:
        make(here / "song.png")
        return ["predict", str(base.cnn), "song.png", *options]

    return prepare


def _other_formats() -> dict[str, Bytes]:
    def saved(format_: str) -> Bytes:
        def content() -> bytes:
            found = io.BytesIO()
            Image.new("RGB", (SIDE, SIDE), (90, 20, 10)).save(found, format=format_)
            return found.getvalue()

        return content

    return {
        "an empty file": lambda: b"",
        "a text": lambda: b"<svg></svg>\n",
        "zeros": lambda: bytes(1000),
        **{f"a {name} under this name": saved(name) for name in ("JPEG", "GIF", "BMP", "TIFF", "PPM")},
    }


def _cut() -> dict[str, Bytes]:
    places = {"the signature": 8, "the header's length": 12, "half of the header": 20, "the header": 33}
    return {
        **{f"cut after {name}": lambda end=end: png()[:end] for name, end in places.items()},  # type: ignore[misc]
        "cut within the pixels": lambda: png()[:50],
        "a byte of the signature": lambda: b"\x88" + png()[1:],
        "line breaks converted": lambda: png().replace(b"\r\n", b"\n"),
    }


def _headers() -> dict[str, Bytes]:
    data = chunk(b"IDAT", zlib.compress(pixels()))
    fields = {
        "no width": header(width=0),
        "no height": header(height=0),
        "a width of 2^31 - 1": header(width=2**31 - 1),
        "a width of 2^32 - 1": header(width=2**32 - 1),
        "100 000 x 100 000 pixels": header(100_000, 100_000),
        "a colour type of 9": header(colour=9),
        "a depth of 7": header(depth=7),
        "16 bits of grey": header(depth=16, colour=0),
        "a header of 5 bytes": chunk(b"IHDR", bytes(5)),
        "a wrong CRC of the header": chunk(b"IHDR", header()[8:21], crc=1),
        "no header": b"",
    }
    return {name: lambda first=first: SIGNATURE + first + data + END for name, first in fields.items()}  # type: ignore[misc]


def _data() -> dict[str, Bytes]:
    def with_data(*chunks: bytes) -> Bytes:
        return lambda: SIGNATURE + header() + b"".join(chunks) + END

    return {
        "no pixels": with_data(),
        "pixels that are not compressed": with_data(chunk(b"IDAT", pixels())),
        "half of the pixels": with_data(chunk(b"IDAT", zlib.compress(pixels()[: SIDE * SIDE]))),
        "empty pixels": with_data(chunk(b"IDAT", b"")),
    }


def _chunks() -> dict[str, Bytes]:
    rest = chunk(b"IDAT", zlib.compress(pixels())) + END
    bomb = zlib.compress(bytes(100 * MIB))
    return {
        "a chunk of 2^31 bytes": lambda: SIGNATURE + header() + struct.pack(">I", 2**31 - 1) + b"tEXt" + rest,
        "a chunk of 2^32 - 1 bytes": lambda: SIGNATURE + header() + b"\xff" * 4 + b"IDAT" + rest,
        "a text that unpacks to 100 MB": lambda: SIGNATURE + header() + chunk(b"zTXt", b"a\0\0" + bomb) + rest,
        "a colour profile of 100 MB": lambda: SIGNATURE + header() + chunk(b"iCCP", b"a\0\0" + bomb) + rest,
    }


def _doubtful() -> dict[str, Bytes]:
    def pixels_of(content: bytes, first: bytes = header()) -> Bytes:
        return lambda: SIGNATURE + first + chunk(b"IDAT", content) + END

    grey = zlib.compress(pixels(bytes_a_pixel=1))
    palette = header(colour=3) + chunk(b"PLTE", bytes(6))
    return {
        "16 bits a channel": pixels_of(zlib.compress(pixels(bytes_a_pixel=6)), header(depth=16)),
        "grey": pixels_of(grey, header(colour=0)),
        "one bit a pixel": pixels_of(zlib.compress(pixels(bytes_a_pixel=1)), header(depth=1, colour=0)),
        "with transparency": pixels_of(zlib.compress(pixels(bytes_a_pixel=4)), header(colour=6)),
        "a palette, and pixels beyond it": pixels_of(grey, palette),
        "a palette without colours": pixels_of(grey, header(colour=3)),
        "a wrong CRC of the pixels": lambda: (
            SIGNATURE + header() + chunk(b"IDAT", zlib.compress(pixels()), 1) + END
        ),
        "a filter of number 9": pixels_of(zlib.compress(b"\x09" + pixels()[1:])),
        "more pixels than the size says": pixels_of(zlib.compress(pixels() * 10)),
        "pixels that unpack to 100 MB": lambda: (
            SIGNATURE + header() + chunk(b"IDAT", zlib.compress(bytes(100 * MIB))) + END
        ),
        "interlaced": pixels_of(zlib.compress(pixels() * 2), header(interlace=1)),
        "an interlace of number 7": pixels_of(zlib.compress(pixels()), header(interlace=7)),
        "without an end": lambda: png()[: -len(END)],
        "lines after the end": lambda: png() + b"\nmore\n" * 100,
        "two headers": lambda: SIGNATURE + header() + png()[len(SIGNATURE) :],
        "an unknown chunk": lambda: SIGNATURE + header() + chunk(b"zzZZ", b"x") + png()[33:],
        "an animation of 2^31 pictures": lambda: (
            SIGNATURE + header() + chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + png()[33:]
        ),
        "EXIF that is none": lambda: SIGNATURE + header() + chunk(b"eXIf", b"\xff" * 40) + png()[33:],
        "a gamma of 0": lambda: SIGNATURE + header() + chunk(b"gAMA", bytes(4)) + png()[33:],
    }


def _other_sizes() -> dict[str, Bytes]:
    return {
        "another size than the others": lambda: png(width=SIDE + 1),
        "15 x 15 pixels": lambda: png(width=15, height=15),
        "4 097 pixels wide": lambda: png(width=4097),
        "1 x 1 pixel": lambda: png(width=1, height=1),
    }


def _mutated(seed: int, number: int) -> Bytes:
    def content() -> bytes:
        draw = random.Random(f"{seed} {number}")
        found = bytearray(png())
        for _ in range(CHANGED_BYTES):
            found[draw.randrange(8, len(found))] = draw.randrange(256)
        return bytes(found)

    return content


def _names() -> Iterator[Case]:
    def named(name: str) -> Prepare:
        def prepare(here: Path) -> list[str]:
            write(here / "set", {**whole(), f"{PICTURES}/{name}": png()})
            return ["data", "check", "set"]

        return prepare

    names = {
        "without a number": "blues/blues.png",
        "of another genre": "blues/rock00009.png",
        "with another ending": "blues/blues00009.jpg",
        "of a track that has one": "blues/blues.00000.png",
        "with digits of another script": "blues/blues\u0661\u0662\u0663\u0664\u0665.png",
        "with ESC": "blues/blues\x1b[2J.png",
        "in a folder too deep": "blues/more/blues00009.png",
        "beside the folders": "picture.png",
    }
    for name, path in names.items():
        yield Case(KIND, f"a picture's name {name}", named(path))
