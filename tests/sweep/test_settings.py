import os
from pathlib import Path

import pytest

from harness.core.errors import SettingsError
from harness.core.space_parsing import parse_space
from harness.models.registry import model_spec
from harness.sweep.settings import SweepSettings, load_settings, parse_jobs, parse_keep
from harness.training.hyperparameters import accepted_by, default_space
from tests.support import EXPERIMENTS, REPOSITORY
from tests.support.commands import python


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_was_given_is_stronger_than_the_file(tmp_path: Path) -> None:
    config = write(tmp_path, 'model = "cnn"\ntrials = 7\nwithout = ["length"]\n')
    settings = load_settings(config, {"model": "fcnn", "trials": None, "epochs": 3, "without": ()})
    assert settings == SweepSettings(model="fcnn", trials=7, epochs=3, without=("length",))


@pytest.mark.parametrize("model", ["fcnn", "cnn"])
def test_the_recipes_contain_the_default_search_space(model: str) -> None:
    settings = load_settings(EXPERIMENTS / f"{model}.toml", {})
    assert settings.model == model
    spec = model_spec(model)
    default, found = default_space(spec), parse_space(settings.search, accepted_by(spec), "")
    assert {name: found[name] for name in default} == default
    own = {"fcnn": "width", "cnn": "crop"}[model]
    assert set(found) - set(default) == {"weight_decay", "dropout", "label_smoothing", own}


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("modle = 'fcnn'", ["modle", "model", "epochs"]),
        ("model = 'fcnn'\ntrials = 'many'", ["trials", "many", "int"]),
        ("model = 'fcnn'\ntrials = true", ["trials", "True"]),
        ("model = 'fcnn'\ntrials = 0", ["trials", "0", "greater than or equal to 1"]),
        ("model = 'fcnn'\ntimeout = -1", ["timeout", "-1"]),
        ("model = 'fcnn'\nkeep = 'best:0'", ["best:0", "best:N"]),
        ("model = 'fcnn'\njobs = 'some'", ["some", "auto"]),
        ("trials = 3", ["no model", "--model fcnn"]),
        ("model = ", ["TOML"]),
        ("model = 'fcnn'\njobs = -3", ["jobs", "-3"]),
        ("model = 'fcnn'\njobs = '²'", ["jobs", "²"]),
        ("model = 'fcnn'\nkeep = 'best:²'", ["best:²", "best:N"]),
        ("model = 'fcnn'\nseed = " + "9" * 5000, ["TOML"]),
        ("model = 'fcnn'\nseed = 0x" + "f" * 5000, ["number of 20000 bits"]),
        ("model = 'fcnn'\n[search]\nlr = { low = 1, high = 1" + "0" * 400 + " }", ["number of 1329 bits"]),
        ("model = " + "[" * 5000 + "]" * 5000, ["TOML"]),
        ("model = " + "[" * 100 + "]" * 100, ["model is [[["]),
    ],
)
def test_a_wrong_file_is_named_and_put_right(tmp_path: Path, text: str, quoted: list[str]) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(write(tmp_path, text), {})
    for word in quoted:
        assert word in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no settings file .*none\.toml"):
        load_settings(tmp_path / "none.toml", {})


def test_words() -> None:
    assert parse_jobs("auto") is None
    assert parse_jobs("3") == 3
    assert parse_keep("all") is None
    assert parse_keep("best:5") == 5


@pytest.mark.parametrize("digits", ["²", "٣", "9" * 5000, "-1", "1_0", " 1", ""])
def test_words_that_python_takes_for_digits(digits: str) -> None:
    with pytest.raises(SettingsError, match="jobs is"):
        parse_jobs(digits)
    with pytest.raises(SettingsError, match="keep is"):
        parse_keep(f"best:{digits}")


def test_a_settings_file_is_utf_8_in_every_locale(tmp_path: Path) -> None:
    write(tmp_path, "model = 'fcnn'\ndata = 'Ⅳ'")
    code = "from harness.sweep.settings import *; print(ascii(load_settings(Path('settings.toml'), {}).data))"
    own = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONPATH": str(REPOSITORY)}
    assert python(code, tmp_path, {**os.environ, **own}) == "'\\u2163'\n"


@pytest.mark.parametrize("changes", [{"attempts": 0}, {"timeout": 0.0}, {"timeout": float("nan")}])
def test_numbers_out_of_range(changes: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes))):
        load_settings(None, {"model": "fcnn", **changes})


def test_a_settings_file_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    """One that is never written to, one of a shell's process substitution, and an endless device."""
    os.mkfifo(tmp_path / "pipe")
    reading, writing = os.pipe()
    os.close(writing)
    for path in (tmp_path / "pipe", Path(f"/dev/fd/{reading}"), Path("/dev/zero")):
        with pytest.raises(SettingsError, match="not a regular file"):
            load_settings(path, {"model": "fcnn"})
    os.close(reading)
