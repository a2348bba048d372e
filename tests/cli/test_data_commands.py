"""The output and the exit codes of the `harness data` commands; `test_commands` runs some as processes."""

import shutil
from pathlib import Path

import pytest

from harness.core.records import Split
from harness.data import FEATURES_FILE, PICTURES_FOLDER, Tracks
from tests.support.commands import Harness
from tests.support.sweeps import write_lists


def test_check_names_what_is_left_out_and_what_is_identical(demo_copy: Path, inside: Harness) -> None:
    (demo_copy / PICTURES_FOLDER / "jade" / "jade00007.png").unlink()
    lines = (demo_copy / FEATURES_FILE).read_text().splitlines()
    _, rest = lines[1].split(",", 1)
    lines[2] = f"amber.00001.wav,{rest}"
    (demo_copy / FEATURES_FILE).write_text("\n".join(lines) + "\n")
    out = inside("data", "check", str(demo_copy)).stdout
    assert "299 with 58 feature columns and pictures" in out
    assert "jade 29" in out
    assert "jade.00007: features but no picture" in out
    assert "amber.00000, amber.00001" in out


def test_check_takes_split_lists_too(
    demo_data: Path, demo_tracks: Tracks, tmp_path: Path, inside: Harness
) -> None:
    parts = {"train": demo_tracks.ids[::2], "valid": demo_tracks.ids[1::4], "test": demo_tracks.ids[3::4]}
    write_lists(tmp_path, Split(name="lists", drawn=False, **parts), "_filtered")
    out = inside("data", "check", str(demo_data), "--split", str(tmp_path)).stdout
    assert "150 train, 75 validation, 75 test" in out
    (tmp_path / "test_filtered.txt").write_text("amber/amber.00000.wav\nolive/olive.00000.wav\n")
    err = inside("data", "check", str(demo_data), "--split", str(tmp_path), code=1).stderr
    assert "test_filtered.txt" in err


def test_check_exits_1_on_a_fault_and_quotes_it(demo_copy: Path, inside: Harness) -> None:
    text = (demo_copy / FEATURES_FILE).read_text()
    (demo_copy / FEATURES_FILE).write_text(text.replace(",jade\n", ",pop\n", 1))
    done = inside("data", "check", str(demo_copy), code=1)
    assert done.stdout == ""
    assert "line 272, column label: 'pop' contradicts the track's name 'jade.00000.wav'" in done.stderr


@pytest.mark.long
def test_check_demo_makes_the_demo_set_if_it_is_missing(
    tmp_path: Path, demo_tracks: Tracks, inside: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = inside("data", "check", "demo").stdout
    assert "SYNTHETIC" in out
    assert demo_tracks.digest in out
    assert (tmp_path / "input" / "demo" / "SYNTHETIC.md").is_file()


def test_import_says_what_it_laid_out(
    demo_data: Path, demo_tracks: Tracks, tmp_path: Path, inside: Harness
) -> None:
    archive = shutil.make_archive(str(tmp_path / "demo"), "zip", demo_data)
    out = inside("data", "import", archive, "--out", str(tmp_path / "mine")).stdout
    assert "SYNTHETIC" in out
    assert demo_tracks.digest in out
    err = inside("data", "import", archive, "--out", str(tmp_path / "mine"), code=1).stderr
    assert f"{FEATURES_FILE} is there already" in err


def test_help_of_fetch_names_its_extra(inside: Harness) -> None:
    assert '"fetch"' in inside("data", "fetch", "--help").stdout
