"""Sound files for `harness predict` and `harness data extract`."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tests.bad_inputs.base import Base
from tests.bad_inputs.case import PREDICTED, Case
from tests.bad_inputs.sets import ODD_FILES, Bytes, Make, writes

KIND = "sound files"
RATE, SECONDS = 22050, 3.2
FORMATS = ("WAV", "FLAC", "OGG", "MP3", "AU")
MUTATIONS, CHANGED_BYTES = 4, 30  # of each format


def missing() -> str | None:
    """Return why there are no such cases here, or None."""
    lacking = [name for name in ("librosa", "soundfile") if find_spec(name) is None]
    return f"the extra [audio] is not installed: {', '.join(lacking)}" if lacking else None


def warm_up() -> None:
    """Let Numba compile what the features need, before processes are forked."""
    from harness.data.audio.recipe import clip_features, clip_picture

    clip = _noise(SECONDS).astype(np.float32)
    clip_features(Path("warm-up"), clip)
    clip_picture(clip)


def _noise(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    random_ = np.random.default_rng(0)
    shape = (int(seconds * rate), channels) if channels > 1 else int(seconds * rate)
    return 0.3 * random_.standard_normal(shape)


def encoded(samples: np.ndarray, format_: str = "WAV", rate: int = RATE, subtype: str | None = None) -> bytes:
    """Return samples as a sound file."""
    import soundfile

    found = io.BytesIO()
    soundfile.write(found, samples, rate, format=format_, subtype=subtype)
    return found.getvalue()


@cache
def sound(format_: str = "WAV") -> bytes:
    """Return a sound file of noise."""
    return encoded(_noise(SECONDS), format_)


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    for name, (suffix, content) in {**_no_sound(), **_cut(), **_unusable()}.items():
        yield _predict(base, name, suffix, writes(content))
    for name, (suffix, content) in _doubtful().items():
        yield _predict(base, name, suffix, writes(content), doubtful=True)
    for format_ in FORMATS:
        for number in range(MUTATIONS):
            content = _mutated(format_, seed, number)
            name = f"{format_}, {CHANGED_BYTES} bytes changed, number {number}"
            yield _predict(base, name, format_.lower(), writes(content), doubtful=True)
    for name, make in ODD_FILES.items():
        yield _predict(base, f"the file is {name}", "wav", make)
    yield from _extractions()


def _predict(base: Base, name: str, suffix: str, make: Make, doubtful: bool = False) -> Case:
    file = f"song.{suffix}"

    def prepare(here: Path) -> list[str]:
        make(here / file)
        return ["predict", str(base.fcnn), file, *(["--json"] if doubtful else [])]

    return Case(KIND, name, prepare, PREDICTED if doubtful else None, may_refuse=doubtful)


def _no_sound() -> dict[str, tuple[str, Bytes]]:
    contents = {
        "an empty file": b"",
        "a text": b"hello\n" * 1000,
        "zeros": bytes(100_000),
        "the beginning of a RIFF file": b"RIFF\xff\xff\xff\xffWAVE",
    }
    return {
        f"{name} as {suffix}": (suffix, lambda content=content: content)  # type: ignore[misc]
        for name, content in contents.items()
        for suffix in ("wav", "mp3", "flac")
    }


def _cut() -> dict[str, tuple[str, Bytes]]:
    def start(format_: str, length: int) -> Bytes:
        return lambda: sound(format_)[:length]

    found = {f"{format_}, the first 60 bytes": (format_.lower(), start(format_, 60)) for format_ in FORMATS}
    return found | {f"{format_}, the first tenth": (format_.lower(), start(format_, 8000)) for format_ in FORMATS}


def _unusable() -> dict[str, tuple[str, Bytes]]:
    def noise(seconds: float = SECONDS, rate: int = RATE, channels: int = 1, format_: str = "WAV") -> Bytes:
        return lambda: encoded(_noise(seconds, rate, channels), format_, rate)

    def constant(value: float) -> Bytes:
        return lambda: encoded(np.full(int(RATE * SECONDS), value), subtype="FLOAT")

    def large() -> bytes:
        # Of the size of 120 s, rate and channels at their limits: 737 MB when decoded.
        import soundfile

        found = io.BytesIO()
        with soundfile.SoundFile(found, "w", 192_000, 8, format="FLAC") as file:
            for _ in range(120):
                file.write(np.zeros((192_000, 8), dtype=np.int16))
        return found.getvalue()

    return {
        "one second": ("wav", noise(1)),
        "no samples": ("wav", noise(0)),
        "11 minutes": ("wav", noise(660, 8000)),
        "silence": ("wav", constant(0.0)),
        "a constant": ("wav", constant(0.5)),
        "NaN": ("wav", constant(float("nan"))),
        "infinity": ("wav", constant(float("inf"))),
        "4 000 samples a second": ("wav", noise(rate=4000)),
        "400 000 samples a second": ("wav", noise(rate=400_000)),
        "9 channels": ("wav", noise(channels=9)),
        "40 channels": ("wav", noise(channels=40)),
        "120 s of 8 channels at 192 kHz, packed": ("flac", large),
        "a rate of 0": ("wav", lambda: _patched(sound(), 24, struct.pack("<I", 0))),
        "a rate of 2^31": ("wav", lambda: _patched(sound(), 24, struct.pack("<I", 2**31))),
        "no channels": ("wav", lambda: _patched(sound(), 22, struct.pack("<H", 0))),
        "65 535 channels": ("wav", lambda: _patched(sound(), 22, struct.pack("<H", 65535))),
        "an unknown coding": ("wav", lambda: _patched(sound(), 20, struct.pack("<H", 0x7777))),
        "0 bits a sample": ("wav", lambda: _patched(sound(), 34, struct.pack("<H", 0))),
    }


def _patched(data: bytes, offset: int, content: bytes) -> bytes:
    return data[:offset] + content + data[offset + len(content) :]


def _doubtful() -> dict[str, tuple[str, Bytes]]:
    loud = _noise(SECONDS) * 1e30
    samples = 26  # the last bytes of the number of samples in a FLAC file's header
    return {
        "very loud": ("wav", lambda: encoded(loud, subtype="DOUBLE")),
        "24 bits": ("wav", lambda: encoded(_noise(SECONDS), subtype="PCM_24")),
        "ADPCM": ("wav", lambda: encoded(_noise(SECONDS), subtype="IMA_ADPCM")),
        "a size of 4 GB": ("wav", lambda: _patched(sound(), 40, b"\xff" * 4)),
        "a size of 0": ("wav", lambda: _patched(sound(), 40, bytes(4))),
        "lines after the end": ("wav", lambda: sound() + b"more\n" * 1000),
        "FLAC that says it is longer": ("flac", lambda: _patched(sound("FLAC"), samples - 4, b"\x01")),
        "FLAC that says it is shorter": ("flac", lambda: _patched(sound("FLAC"), samples - 1, b"\1")),
        "FLAC under another name": ("wav", lambda: sound("FLAC")),
        "WAV under another name": ("mp3", lambda: sound()),
        "MP3 behind 200 kB of a tag": ("mp3", lambda: b"ID3\4\0\0\0\x0c\x1a\x40" + bytes(200_000) + sound("MP3")),
        "OGG, the first half": ("ogg", lambda: sound("OGG")[: len(sound("OGG")) // 2]),
        "two OGG files in one": ("ogg", lambda: sound("OGG") * 2),
    }


def _mutated(format_: str, seed: int, number: int) -> Bytes:
    def content() -> bytes:
        draw = random.Random(f"{seed} {format_} {number}")
        found = bytearray(sound(format_))
        for _ in range(CHANGED_BYTES):
            # Half of the bytes in the headers, where they say how to read the rest.
            found[draw.randrange(4, 200 if draw.random() < 0.5 else len(found))] = draw.randrange(256)
        return bytes(found)

    return content


def _extractions() -> Iterator[Case]:
    def extract(files: dict[str, Bytes], *options: str) -> Case:
        def prepare(here: Path) -> list[str]:
            for name, content in files.items():
                (here / "music" / name).parent.mkdir(parents=True, exist_ok=True)
                (here / "music" / name).write_bytes(content())
            return ["data", "extract", "music", "--out", "out", "--jobs", "1", *options]

        name = f"extract {', '.join(files) or 'no folder'} {' '.join(options)}".rstrip()
        return Case(KIND, name, prepare, leaves=("here/out*", "here/.out*"), seconds=60)

    yield extract({})
    yield extract({"song.wav": sound})
    yield extract({"blues/notes.txt": lambda: b"hello"})
    yield extract({"blues/a.wav": lambda: b"", "rock/b.mp3": lambda: b"hello"})
    yield extract({"bl\x1b[2Jues/a.wav": sound})
    yield extract({"blues/blues.00001.wav": sound, "blues/blues.00001.flac": lambda: sound("FLAC")})
    yield extract({"blues/a.wav": sound}, "--jobs", "²")
    yield extract({"blues/a.wav": sound}, "--out", "music/out")
    yield Case(KIND, "extract a missing folder", lambda here: ["data", "extract", "missing", "--out", "out"])
    yield _with_one_bad_file()


def _with_one_bad_file() -> Case:
    def prepare(here: Path) -> list[str]:
        (here / "music" / "blues").mkdir(parents=True)
        (here / "music" / "blues" / "good.wav").write_bytes(sound())
        (here / "music" / "blues" / "bad.wav").write_bytes(sound()[:100])
        return ["data", "extract", "music", "--out", "out", "--jobs", "1"]

    # The good file is used; the exit status and one error say that the other was not.
    return Case(KIND, "extract a bad file among good ones", prepare, leaves=("here/out*",), seconds=60)
