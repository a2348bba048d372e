"""Prediction: rows, pictures and sound with each format of a bundle, refused files, and warnings."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import Tensor

from harness.core.errors import CheckpointError
from harness.core.records import TrialConfig
from harness.data import FEATURE_COLUMNS, Tracks, View, load_tracks, open_pictures, stratified_split
from harness.export.formats import Source, write_formats
from harness.export.opening import open_bundle
from harness.export.predict import predict
from harness.models.registry import MODELS
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from harness.training.description import Architecture, Description, Origin
from harness.training.loop import fit, start_training
from tests.support.commands import Harness, last_json
from tests.support.terminal import CONTROL

SOUND = ".wav, .mp3, .flac, .ogg, .au"


def make_bundle(folder: Path, tracks: Tracks, model: str, columns: tuple[str, ...], epochs: int) -> Path:
    spec = MODELS[model]
    data = View(tracks, spec.representation, columns).training(stratified_split(tracks, seed=0))
    config = TrialConfig(model=model, params={"lr": 0.001, "batch_size": 32}, epochs=epochs, seed=0, threads=1)
    state = start_training(config, spec, data, torch.device("cpu"))
    list(fit(state, data))
    architecture = Architecture(
        model=model, representation=spec.representation, columns=columns, genres=tracks.genres
    )
    weights = state.best_weights
    assert weights is not None
    origin = Origin(study="s", trial=0, data_digest="d", split_digest="s", synthetic=tracks.synthetic)
    assert state.best is not None
    description = Description(architecture=architecture, config=state.config, metrics=state.best, origin=origin)
    save_checkpoint(folder, weights, description)
    return folder


@pytest.fixture(scope="session")
def fcnn(tmp_path_factory: pytest.TempPathFactory, demo_tracks: Tracks) -> Path:
    """A bundle of features, swept without `length`."""
    columns = tuple(name for name in FEATURE_COLUMNS if name != "length")
    return make_bundle(tmp_path_factory.mktemp("bundles") / "fcnn", demo_tracks, "fcnn", columns, 10)


@pytest.fixture(scope="session")
def cnn(tmp_path_factory: pytest.TempPathFactory, demo_tracks: Tracks) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "cnn", demo_tracks, "cnn", (), 1)


@pytest.fixture(scope="session")
def portable(fcnn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as pt2 and ONNX, without safetensors."""
    folder = Path(shutil.copytree(fcnn, tmp_path_factory.mktemp("portable") / "bundle"))
    classifier, about = load_checkpoint(fcnn)
    columns = len(about.architecture.columns)
    write_formats(folder, ("pt2", "onnx"), Source(classifier, "features", columns, {"genres": []}))
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def song(tmp_path: Path) -> Path:
    time = np.arange(4 * 44100) / 44100
    sound = 0.3 * np.sin(2 * np.pi * 330 * time) * (np.sin(4 * np.pi * time) > 0)
    soundfile.write(tmp_path / "song.flac", np.stack([sound, sound], axis=1), 44100)
    return tmp_path / "song.flac"


def expected(bundle: Path, tracks: Tracks) -> Tensor:
    """The probabilities of every demo track, computed without the prediction code."""
    classifier, description = load_checkpoint(bundle)
    if description.architecture.representation == "features":
        assert tracks.features is not None
        chosen = [FEATURE_COLUMNS.index(name) for name in description.architecture.columns]
        inputs = torch.from_numpy(tracks.features[:, chosen]).float()
    else:
        assert tracks.pictures is not None
        inputs = torch.from_numpy(open_pictures(tracks.pictures.path)[:20].copy())
    with torch.no_grad():
        probabilities: Tensor = classifier(inputs).softmax(1)
    return probabilities


def test_rows_of_a_csv_are_predicted(fcnn: Path, demo_data: Path, demo_tracks: Tracks, inside: Harness) -> None:
    found = last_json(inside("predict", str(fcnn), str(demo_data / "features_30_sec.csv"), "--json"))
    assert set(found) == {"bundle", "model", "synthetic", "predictions", "errors"}
    assert (found["model"], found["synthetic"], found["errors"]) == ("fcnn", True, [])
    probabilities = expected(fcnn, demo_tracks)
    assert len(found["predictions"]) == len(demo_tracks.ids) == 300
    for index, prediction in enumerate(found["predictions"]):
        assert set(prediction) == {"file", "row", "track", "genres", "far"}
        assert prediction["row"] == index + 1
        row = probabilities[demo_tracks.ids.index(prediction["track"])]
        values, places = row.topk(3)
        assert [genre["genre"] for genre in prediction["genres"]] == [demo_tracks.genres[i] for i in places]
        assert [genre["probability"] for genre in prediction["genres"]] == pytest.approx(values.tolist(), abs=1e-5)
        assert prediction["far"] == []


def test_rows_without_names_and_in_another_order(
    fcnn: Path, demo_data: Path, demo_tracks: Tracks, tmp_path: Path
) -> None:
    with (demo_data / "features_30_sec.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in reversed(FEATURE_COLUMNS) if name != "length"]
    with (tmp_path / "bare.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["own", *columns], extrasaction="ignore", restval="x")
        writer.writeheader()
        writer.writerows(rows[:5])
    found = predict(open_bundle(fcnn), [tmp_path / "bare.csv"], top=10)
    assert [(made.row, made.track) for made in found.made] == [(row, None) for row in range(1, 6)]
    probabilities = expected(fcnn, demo_tracks)
    for made, row in zip(found.made, rows, strict=False):
        by_genre = dict(made.genres)
        assert sum(by_genre.values()) == pytest.approx(1, abs=1e-5)
        wanted = probabilities[demo_tracks.ids.index(row["filename"].removesuffix(".wav"))].tolist()
        assert [by_genre[genre] for genre in demo_tracks.genres] == pytest.approx(wanted, abs=1e-5)


def test_pictures_of_any_size(cnn: Path, demo_data: Path, demo_tracks: Tracks, tmp_path: Path) -> None:
    files = sorted((demo_data / "images_original" / "amber").iterdir())[:20]
    found = predict(open_bundle(cnn), files, top=10)
    probabilities = expected(cnn, demo_tracks)
    for made, wanted in zip(found.made, probabilities, strict=True):
        assert (made.row, made.track, made.far) == (None, None, ())
        by_genre = dict(made.genres)
        assert [by_genre[genre] for genre in demo_tracks.genres] == pytest.approx(wanted.tolist(), abs=1e-5)
    with Image.open(files[0]) as picture:
        picture.resize((100, 80)).save(tmp_path / "small.png")
    assert len(predict(open_bundle(cnn), [tmp_path / "small.png"]).made) == 1


@pytest.mark.long
def test_sound_files_are_predicted(fcnn: Path, cnn: Path, song: Path, inside: Harness) -> None:
    for bundle in (fcnn, cnn):
        done = inside("predict", str(bundle), str(song), "--top", "2")
        assert f" {song} " in done.stdout  # whole, because it goes into a pipe
        assert "SYNTHETIC" in done.stderr
        assert "1/1" in done.stderr
    shown = CONTROL.sub("", inside("predict", str(fcnn), str(song), FORCE_COLOR="1").stdout)  # as on a terminal
    assert max(map(len, shown.splitlines())) <= 80
    assert str(song) not in shown


@pytest.mark.long
def test_one_bad_file_stops_nothing(
    fcnn: Path, demo_data: Path, song: Path, inside: Harness, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"nonsense")
    picture = next((demo_data / "images_original" / "amber").iterdir())
    arguments = [str(path) for path in (bad, tmp_path / "none.csv", picture, song, song)]
    done = inside("predict", str(fcnn), *arguments, "--json", code=1)
    found = last_json(done)
    assert [made["file"] for made in found["predictions"]] == [str(song)]
    errors = {error["file"]: error["error"] for error in found["errors"]}
    assert set(errors) == {str(bad), str(tmp_path / "none.csv"), str(picture)}
    assert "cannot be decoded" in errors[str(bad)]
    assert errors[str(tmp_path / "none.csv")].endswith("none.csv does not exist")
    expected = "is a picture, and this bundle's fcnn takes features (expected: .csv, .parquet, .wav"
    assert expected in errors[str(picture)]
    assert "3 of the files" in done.stderr


def test_a_bundle_for_pictures_refuses_a_csv(cnn: Path, demo_data: Path, inside: Harness) -> None:
    done = inside("predict", str(cnn), str(demo_data / "features_30_sec.csv"), code=1)
    assert "is a table of features, and this bundle's cnn takes pictures" in done.stderr
    assert done.stdout == ""


def test_folders_are_searched(fcnn: Path, cnn: Path, demo_data: Path, song: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(song, folder / "deep" / ".hidden.flac")
    shutil.copy(demo_data / "features_30_sec.csv", folder / "rows.csv")
    shutil.copy(next((demo_data / "images_original" / "amber").iterdir()), folder / "deep" / "a.png")
    (folder / "tracks.csv").write_text("file,track\na.wav,a.00000\n")
    (folder / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    found = predict(open_bundle(cnn), [folder, tmp_path / "empty"])
    assert {Path(made.file).name for made in found.made} == {"a.png"}
    assert found.errors == (
        (
            str(tmp_path / "empty"),
            "the folder has no file of type .png, .jpg, .jpeg, .wav, .mp3, .flac, .ogg, .au",
        ),
    )
    found = predict(open_bundle(fcnn), [folder, folder / "rows.csv"])
    assert len(found.made) == 300
    assert found.errors == ()
    assert found.ignored == (str(folder / "tracks.csv"),)


@pytest.mark.long  # the first sound compiles librosa's functions, 40 s on a new machine
def test_sound_in_a_folder_is_found(fcnn: Path, cnn: Path, song: Path, tmp_path: Path) -> None:
    (tmp_path / "all" / "deeper").mkdir(parents=True)
    shutil.copy(song, tmp_path / "all" / "deeper" / "song.FLAC")
    for bundle in (fcnn, cnn):
        (made,) = predict(open_bundle(bundle), [tmp_path / "all"]).made
        assert Path(made.file).name == "song.FLAC"
        assert len(made.genres) == 3


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("filename,length\na.wav,1\n", "lacks, or has twice, 'chroma_stft_mean'.* and others"),
        ("", "lacks, or has twice"),
        ("{header}\n", "no rows"),
        ("{header}\n1,2\n", "line 2: 2 cells"),
        ("{header}\n{row}x\n", "line 2, column mfcc20_var: '1x'"),
        ("{header}\n{row}\n{row}e99\n", "line 3, column mfcc20_var: '1e99'"),
    ],
)
def test_faulty_csv_files_are_refused(fcnn: Path, tmp_path: Path, text: str, found: str) -> None:
    row = ",".join(["1"] * len(FEATURE_COLUMNS))
    path = tmp_path / "rows.csv"
    path.write_text(text.format(header=",".join(FEATURE_COLUMNS), row=row))
    ((file, error),) = predict(open_bundle(fcnn), [path]).errors
    assert file == str(path)
    assert re.search(found, error), error


def test_outliers_are_reported(demo_tracks: Tracks, demo_data: Path, tmp_path: Path, inside: Harness) -> None:
    """A clip of 4 s is an outlier for a network trained with the length of 30 s clips, in both formats."""
    header, row = (demo_data / "features_30_sec.csv").read_text().splitlines()[:2]
    cells = row.split(",")
    cells[header.split(",").index("length")] = str(4 * 22050)
    short = tmp_path / "short.csv"
    short.write_text(f"{header}\n{','.join(cells)}\n")
    bundle = make_bundle(tmp_path / "all", demo_tracks, "fcnn", FEATURE_COLUMNS, 1)
    classifier, _ = load_checkpoint(bundle)
    write_formats(bundle, ("pt2",), Source(classifier, "features", len(FEATURE_COLUMNS), {"genres": []}))
    for _ in range(2):
        done = inside("predict", str(bundle), str(short), "--json", "--trust-code")
        assert "length" in last_json(done)["predictions"][0]["far"]
        assert "1 of 1 inputs lie far outside" in done.stderr
        (bundle / "model.safetensors").unlink(missing_ok=True)


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_each_format_gives_the_same_predictions(fcnn: Path, demo_data: Path, tmp_path: Path, form: str) -> None:
    folder = Path(shutil.copytree(fcnn, tmp_path / "bundle"))
    classifier, about = load_checkpoint(fcnn)
    columns = len(about.architecture.columns)
    write_formats(folder, (form,), Source(classifier, "features", columns, {"genres": []}))
    (folder / "model.safetensors").unlink()
    table = demo_data / "features_30_sec.csv"
    found, wanted = (predict(open_bundle(each, trust_code=True), [table]) for each in (folder, fcnn))
    assert len(found.made) == len(wanted.made) == 300
    for one, other in zip(found.made, wanted.made, strict=True):
        assert dict(one.genres) == pytest.approx(dict(other.genres), abs=1e-5)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, "holds no model.json"),
        ({"model.json": "{}"}, "not a checkpoint's description"),
        ({"model.json": '{"format": 1}'}, "not a checkpoint's description"),
        ({"model.json": None}, "holds no model"),
        ({"model.json": None, "model.safetensors": "x"}, "damaged or was changed"),
        ({"model.json": None, "model.pt2": "x"}, "model.pt2 cannot be read"),
        ({"model.json": None, "model.onnx": "x"}, "model.onnx cannot be read"),
    ],
)
def test_a_folder_that_is_not_a_bundle_is_refused(
    fcnn: Path, tmp_path: Path, files: dict[str, str | None], found: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text((fcnn / name).read_text() if text is None else text)
    with pytest.raises(CheckpointError, match=found):
        open_bundle(tmp_path, trust_code=True)


@pytest.mark.long
def test_sound_without_the_extra_says_what_to_install(
    fcnn: Path, demo_data: Path, song: Path, tmp_path: Path
) -> None:
    """Sound is refused with a hint what to install, and the rest is predicted."""
    table = demo_data / "features_30_sec.csv"
    code = (
        "import sys; sys.modules['librosa'] = None\n"
        f"sys.argv[1:] = ['predict', {str(fcnn)!r}, {str(song)!r}, {str(table)!r}, '--json']\n"
        "from harness.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert len(found["predictions"]) == 300
    assert "reading audio needs the package librosa" in found["errors"][0]["error"]


def test_a_real_clip_and_its_row_have_the_same_prediction(gtzan: Path, tmp_path: Path) -> None:
    """The features of the clip are those of Kaggle's row, so both have the same prediction."""
    (tmp_path / "data").mkdir()
    table = Path(shutil.copy(gtzan / "features_30_sec.csv", tmp_path / "data"))
    bundle = open_bundle(make_bundle(tmp_path / "b", load_tracks(tmp_path / "data"), "fcnn", FEATURE_COLUMNS, 5))
    clips = sorted((gtzan / "genres_original").glob("*/*.wav"))
    found = predict(bundle, [table, *clips], top=10)
    rows = {made.track: dict(made.genres) for made in found.made if made.track is not None}
    assert len(found.made) == 1000 + len(clips)
    for made in found.made[1000:]:
        assert dict(made.genres) == pytest.approx(rows[Path(made.file).stem], abs=1e-4)
    assert not found.notes()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"genres": ["one", "two"]}, r"model\.(pt2|onnx) gives \(2, 10\) for two inputs\nexpected: \(2, 2\)"),
        ({"columns": list(FEATURE_COLUMNS)}, r"model\.(pt2|onnx) cannot be read"),
        ({"representation": "pictures", "columns": []}, r"model\.(pt2|onnx) cannot be read"),
    ],
    ids=["genres", "columns", "pictures"],
)
@pytest.mark.parametrize("format_", ["pt2", "onnx"])
def test_a_file_that_does_not_fit_its_description_is_refused(
    portable: Path, tmp_path: Path, format_: str, changes: dict[str, object], found: str
) -> None:
    shutil.copy(portable / f"model.{format_}", tmp_path)
    description = json.loads((portable / "model.json").read_text(encoding="utf-8"))
    description["architecture"] |= changes
    (tmp_path / "model.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(CheckpointError, match=found):
        open_bundle(tmp_path, trust_code=True)


def test_pipes_are_errors_and_the_rest_is_predicted(fcnn: Path, demo_data: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "b.wav"):
        os.mkfifo(tmp_path / name)
    shutil.copy(demo_data / "features_30_sec.csv", tmp_path / "c.csv")
    found = predict(open_bundle(fcnn), [tmp_path, tmp_path / "a.csv"])
    assert len(found.made) == 300
    assert sorted(Path(file).name for file, _ in found.errors) == ["a.csv", "b.wav"]
    assert all("not a regular file" in error for _, error in found.errors)


def test_values_that_give_no_probability_are_null_in_json(
    fcnn: Path, demo_data: Path, tmp_path: Path, inside: Harness
) -> None:
    with (demo_data / "features_30_sec.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerow({name: "3.4e38" if name in FEATURE_COLUMNS else value for name, value in lines[0].items()})
    text = inside("predict", str(fcnn), str(tmp_path / "a.csv"), "--json").stdout
    found = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in {text}"))
    assert found["predictions"][0]["genres"][0]["probability"] is None


@pytest.mark.parametrize("content", [b"", b"hello\n" * 100, b"PK\x05\x06" + bytes(18)])
def test_a_broken_pt2_file_is_one_error_and_no_log(
    portable: Path, tmp_path: Path, content: bytes, inside: Harness
) -> None:
    shutil.copy(portable / "model.json", tmp_path)
    (tmp_path / "model.pt2").write_bytes(content)
    error = inside("predict", str(tmp_path), "rows.csv", "--trust-code", code=1).stderr
    assert error.startswith("error: ")
    assert "model.pt2 cannot be read" in error
    assert "warnings above" not in error
    assert "Traceback" not in error


@pytest.mark.parametrize("format_", ["pt2", "onnx"])
def test_a_file_that_gives_nan_is_refused(fcnn: Path, tmp_path: Path, format_: str) -> None:
    shutil.copy(fcnn / "model.json", tmp_path)
    classifier, about = load_checkpoint(fcnn)
    with torch.no_grad():
        next(classifier.parameters()).fill_(torch.nan)
    write_formats(tmp_path, (format_,), Source(classifier, "features", len(about.architecture.columns), {}))
    with pytest.raises(CheckpointError, match="not finite numbers"):
        open_bundle(tmp_path, trust_code=True)
