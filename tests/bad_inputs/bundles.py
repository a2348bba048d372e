"""Bundles for `harness predict`: `model.json`, safetensors, pt2 and ONNX, and single bits of files."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bad_inputs.base import Base, change_json, copy_bundle
from tests.bad_inputs.case import PREDICTED, Case, Prepare
from tests.bad_inputs.sets import writes

KIND, FLIPS_KIND = "bundles", "bit flips in pt2 and ONNX"
FLIPS = 40  # of each format
Change = Callable[[Path], None]
HEADER_BYTES = 8  # before the header of safetensors: its length


def cases(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases."""
    for name, change in {**_no_description(), **_missing_keys(), **_descriptions()}.items():
        yield Case(KIND, f"model.json: {name}", _changed(base, change))
    for name, change in _doubtful_descriptions().items():
        prepare = _changed(base, change, "--json")
        yield Case(KIND, f"model.json: {name}", prepare, PREDICTED, may_refuse=True)
    for name, content in _weights(base).items():
        yield Case(KIND, f"safetensors: {name}", _with_file(base, "model.safetensors", content))
    for format_ in ("pt2", "onnx"):
        file = f"model.{format_}"
        for name, content in _other_files(base, file).items():
            yield Case(KIND, f"{format_}: {name}", _with_file(base, file, content))
        for name, changes in _other_networks().items():
            yield Case(KIND, f"{format_}: {name}", _described(base, file, changes))
    yield Case(
        KIND, "no file of a network", _changed(base, lambda folder: (folder / "model.safetensors").unlink())
    )
    yield Case(KIND, "a CSV for a network on pictures", lambda here: ["predict", str(base.cnn), str(base.rows)])


def flips(base: Base, seed: int) -> Iterator[Case]:
    """Yield the cases of single bits."""
    for format_ in ("pt2", "onnx"):
        for number in range(FLIPS):
            yield Case(FLIPS_KIND, f"{format_}, bit {number}", _flipped(base, f"model.{format_}", seed, number))


def _predict(base: Base, *options: str) -> list[str]:
    return ["predict", "shared", str(base.rows), *options]


def _changed(base: Base, change: Change, *options: str) -> Prepare:
    """A bundle of safetensors alone after a change."""

    def prepare(here: Path) -> list[str]:
        change(copy_bundle(base.fcnn, here / "shared"))
        return _predict(base, *options)

    return prepare


def _with_file(base: Base, file: str, content: Callable[[], bytes]) -> Prepare:
    """A bundle of one format with another content, to which the SHA-256 in `model.json` belongs."""

    def prepare(here: Path) -> list[str]:
        folder = copy_bundle(base.fcnn, here / "shared", ["model.json"])
        (folder / file).write_bytes(content())
        sign(folder, file)
        return _predict(base, "--trust-code")

    return prepare


def _described(base: Base, file: str, changes: dict[str, Any]) -> Prepare:
    """A sound file of one format, of which `model.json` says something else."""

    def prepare(here: Path) -> list[str]:
        folder = copy_bundle(base.fcnn, here / "shared", ["model.json", file])
        change_json(folder / "model.json", changes)
        return _predict(base, "--trust-code")

    return prepare


def _flipped(base: Base, file: str, seed: int, number: int) -> Prepare:
    def prepare(here: Path) -> list[str]:
        folder = copy_bundle(base.fcnn, here / "shared", ["model.json", file])
        draw = random.Random(f"{seed} {file} {number}")
        content = bytearray((folder / file).read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (folder / file).write_bytes(content)
        return _predict(base, "--trust-code")

    return prepare


def sign(folder: Path, file: str) -> None:
    """Write the SHA-256 of a file into `model.json`, as somebody does who has changed it on purpose."""
    from harness.core.files import sha256_of

    about = json.loads((folder / "model.json").read_text())
    found = sha256_of(folder / file)
    if file == "model.safetensors":
        about["sha256"] = found
    for check in about["formats"]:
        if check["file"] == file:
            check["sha256"] = found
    (folder / "model.json").write_text(json.dumps(about))


def _no_description() -> dict[str, Change]:
    contents = {
        "an empty file": b"",
        "a text": b"hello\n",
        "zeros": bytes(1000),
        "UTF-16": '{"format": 1}'.encode("utf-16"),
        "a list": b"[]",
        "null": b"null",
        "a number": b"1",
        "a word": b'"format"',
        "an empty object": b"{}",
        "200 000 brackets": b"[" * 200_000,
        "200 000 objects": b'{"a":' * 200_000,
        "a number of 5 000 digits": b'{"format": ' + b"9" * 5000 + b"}",
        "a format of 1 MB": b'{"format": "' + b"a" * 1_000_000 + b'"}',
        "a format with ESC": b'{"format": "\\u001b[2J"}',
    }

    def written(content: bytes) -> Change:
        return lambda folder: writes(lambda: content)(folder / "model.json")

    def cut(folder: Path) -> None:
        content = (folder / "model.json").read_bytes()
        (folder / "model.json").write_bytes(content[: len(content) // 2])

    def is_folder(folder: Path) -> None:
        (folder / "model.json").unlink()
        (folder / "model.json").mkdir()

    found = {name: written(content) for name, content in contents.items()}
    return found | {
        "the first half": cut,
        "a folder": is_folder,
        "missing": lambda folder: (folder / "model.json").unlink(),
    }


def _missing_keys() -> dict[str, Change]:
    def without(*path: str) -> Change:
        def change(folder: Path) -> None:
            content = inner = json.loads((folder / "model.json").read_text())
            for name in path[:-1]:
                inner = inner[name]
            del inner[path[-1]]
            (folder / "model.json").write_text(json.dumps(content))

        return change

    paths = [("format",), ("architecture",), ("config",), ("metrics",), ("versions",), ("sha256",), ("split",)]
    inner = [("architecture", name) for name in ("model", "representation", "columns", "genres", "box")]
    return {f"without {'.'.join(path)}": without(*path) for path in [*paths, *inner, ("config", "model")]}


def changes(**values: Any) -> Change:
    """Return the change of some keys of `model.json`; `a__b` is the key `b` of the object `a`."""
    found = {name.replace("__", "."): value for name, value in values.items()}
    return lambda folder: change_json(folder / "model.json", found)


def _descriptions() -> dict[str, Change]:
    of = "architecture__"

    def architecture(**values: Any) -> Change:
        return changes(**{of + name: value for name, value in values.items()})

    return {
        "format 2": changes(format=2),
        "format null": changes(format=None),
        "another SHA-256": changes(sha256="0" * 64),
        "no SHA-256": changes(sha256=None),
        "an architecture that is a list": changes(architecture=[]),
        "metrics that are a number": changes(metrics=3),
        "formats that are a number": changes(formats=3),
        "formats of numbers": changes(formats=[3]),
        "an unknown network": architecture(model="vgg"),
        "no network": architecture(model=None),
        "a network that is a list": architecture(model=["fcnn"]),
        "a network's name with ESC": architecture(model="\x1b[2Jvgg"),
        "a network's name of 60 000 letters": architecture(model="v" * 60_000),
        "another network": architecture(model="cnn"),
        "pictures for features": architecture(representation="pictures"),
        "an unknown input": architecture(representation="sound"),
        "no columns": architecture(columns=[]),
        "a column too few": architecture(columns=["tempo"]),
        "columns that the file lacks": architecture(columns=[f"c{number}" for number in range(58)]),
        "columns that are numbers": architecture(columns=list(range(58))),
        "columns that are a word": architecture(columns="tempo"),
        "columns that are a number": architecture(columns=58),
        "no genres": architecture(genres=[]),
        "too few genres": architecture(genres=["blues"]),
        "too many genres": architecture(genres=[f"g{number}" for number in range(11)]),
        "10^9 columns": architecture(columns=["tempo"] * 1_000_000),
        "a box that is a list": architecture(box=[1, 2]),
        "an unknown hyperparameter": architecture(hyperparameters={"depth": 3}),
        "a width of 10^9": architecture(hyperparameters={"width": 1e9}),
        "a width of 10^18": architecture(hyperparameters={"width": 1e18}),
        "a negative width": architecture(hyperparameters={"width": -1}),
        "a width that is a word": architecture(hyperparameters={"width": "wide"}),
        "a width of NaN": architecture(hyperparameters={"width": float("nan")}),
        "hyperparameters that are a list": architecture(hyperparameters=[1]),
        "a key too many": architecture(more=1),
    }


def _doubtful_descriptions() -> dict[str, Change]:
    genres = [f"g{number}" for number in range(10)]
    return {
        "a genre with ESC": changes(architecture__genres=["\x1b[2J", *genres[1:]]),
        "genres that are numbers": changes(architecture__genres=list(range(10))),
        "a genre twice": changes(architecture__genres=["g1", *genres[1:]]),
        "a genre that is null": changes(architecture__genres=[None, *genres[1:]]),
        "a genre of 60 000 letters": changes(architecture__genres=["g" * 60_000, *genres[1:]]),
        "a dropout of 2": changes(architecture__hyperparameters={"dropout": 2.0}),
        "a box for features": changes(
            architecture__box={"height": 1, "width": 1, "top": 0, "bottom": 9, "left": 0, "right": 9}
        ),
        "a word for synthetic": changes(synthetic="no"),
        "metrics that are words": changes(metrics__val_accuracy="high"),
        "a config of another network": changes(config__model="cnn"),
        "versions that are a list": changes(versions=[1]),
    }


def _weights(base: Base) -> dict[str, Callable[[], bytes]]:
    import torch
    from safetensors.torch import load_file, save

    file = base.fcnn / "model.safetensors"

    def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[], bytes]:
        def content() -> bytes:
            found = load_file(file)
            change(found)
            return save(found)

        return content

    def with_header(header: bytes) -> Callable[[], bytes]:
        return lambda: struct.pack("<Q", len(header)) + header

    first = "network.fc1.weight"
    beyond = b'{"a": {"dtype": "F32", "shape": [99999999], "data_offsets": [0, 399999996]}}'
    return {
        "an empty file": lambda: b"",
        "a text": lambda: b"hello\n" * 100,
        "a pickle": lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "the first half": lambda: file.read_bytes()[: file.stat().st_size // 2],
        "all but the last byte": lambda: file.read_bytes()[:-1],
        "a byte too many": lambda: file.read_bytes() + b"\0",
        "a header of 2^63 bytes": lambda: struct.pack("<Q", 2**63) + file.read_bytes()[HEADER_BYTES:],
        "a header that is a text": with_header(b"hello world"),
        "a header of brackets": with_header(b"[" * 100_000),
        "a tensor beyond the end": with_header(beyond),
        "no tensors": tensors(lambda found: found.clear()),
        "a tensor is missing": tensors(lambda found: found.pop(first)),
        "a tensor too many": tensors(lambda found: found.update(more=torch.zeros(3))),
        "a tensor of another shape": tensors(lambda found: found.update({first: found[first].T.contiguous()})),
        "an empty tensor": tensors(lambda found: found.update({first: torch.zeros(0)})),
        "weights that are NaN": tensors(lambda found: found.update({first: found[first] * float("nan")})),
        "weights that are infinite": tensors(lambda found: found.update({first: found[first] * float("inf")})),
        "a tensor's name of 1 MB": tensors(lambda found: found.update({"a" * 1_000_000: torch.zeros(1)})),
    }


def _other_files(base: Base, file: str) -> dict[str, Callable[[], bytes]]:
    path = base.fcnn / file
    return {
        "an empty file": lambda: b"",
        "a text": lambda: b"hello\n" * 100,
        "the first half": lambda: path.read_bytes()[: path.stat().st_size // 2],
        "all but the last 100 bytes": lambda: path.read_bytes()[:-100],
        "a network on pictures": lambda: (base.cnn / file).read_bytes(),
        "the other format": lambda: (base.fcnn / {"model.pt2": "model.onnx"}.get(file, "model.pt2")).read_bytes(),
        "safetensors": lambda: (base.fcnn / "model.safetensors").read_bytes(),
        "an archive of nothing": lambda: b"PK\x05\x06" + bytes(18),
    }


def _other_networks() -> dict[str, dict[str, Any]]:
    return {
        "fewer genres than it has": {"architecture.genres": ["blues", "rock"]},
        "more genres than it has": {"architecture.genres": [f"g{number}" for number in range(12)]},
        "fewer columns than it takes": {"architecture.columns": ["tempo", "rms_mean"]},
        "pictures, which it does not take": {
            "architecture.representation": "pictures",
            "architecture.columns": [],
        },
    }
