"""What a sweep is asked to do: from flags, environment, a TOML file and defaults, in that order of strength."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from harness.core.errors import SettingsError
from harness.core.space import SearchSpace, parse_search, refuse_unknown

CHOICES = {
    "sampler": ("tpe", "gp", "random"),
    "pruner": ("median", "none"),
    "precision": ("fp32", "bf16"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """The settings of `harness sweep`, one field for each flag; None where the default depends on others."""

    model: str
    trials: int = 40
    data: str = "input"
    experiment: str | None = None
    study: str | None = None
    epochs: int = 30
    seed: int = 0
    split: str | None = None
    split_seed: int = 0
    without: tuple[str, ...] = ()
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    pruner: Literal["median", "none"] | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    jobs: int | None = None
    device: str = "auto"
    timeout: float | None = None
    attempts: int = 3
    keep: int | None = None
    tracking_uri: str | None = None
    storage: str | None = None
    search: SearchSpace | None = None


TYPES: dict[str, type | tuple[type, ...]] = {
    "trials": int,
    "epochs": int,
    "seed": int,
    "split_seed": int,
    "attempts": int,
    "timeout": (int, float),
    "jobs": (int, str),
}


def load_settings(config: Path | None, given: dict[str, Any]) -> SweepSettings:
    """Return the settings: what was `given` by flag or environment (None: not given) over the file's.

    Raises SettingsError for a file that cannot be read, a key or a value that does not exist, and where no
    model is named.
    """
    settings = {} if config is None else _read(config)
    settings |= {name: value for name, value in given.items() if value is not None and value != ()}
    if "model" not in settings:
        raise SettingsError(
            "no model was named",
            expected="--model fcnn, --model cnn, --model FILE.py:Class, or a --config that names one",
        )
    if isinstance(settings.get("jobs"), str):
        settings["jobs"] = parse_jobs(settings["jobs"])
    if isinstance(settings.get("keep"), str):
        settings["keep"] = parse_keep(settings["keep"])
    if isinstance(settings.get("search"), dict):
        from harness.models.spec import DEFAULT_SEARCH  # imports torch, which --help must not pay for

        settings["search"] = parse_search(settings["search"], f"{config}: [search] ", DEFAULT_SEARCH)
    settings["without"] = tuple(settings.get("without", ()))
    return _checked(SweepSettings(**settings))


def parse_jobs(text: str) -> int | None:
    """Return the number of jobs that a word means, None for `auto`."""
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"jobs is {text!r}", expected="auto, or a number from 1")
    return int(text)


def parse_keep(text: str) -> int | None:
    """Return how many checkpoints `all` or `best:N` keeps, None for all."""
    if text == "all":
        return None
    word, _, number = text.partition(":")
    if word != "best" or not number.isdigit() or int(number) < 1:
        raise SettingsError(f"keep is {text!r}", expected="all, or best:N with N from 1")
    return int(number)


def check_timeout(minutes: float | None) -> float | None:
    """Return the minutes as they are; None is no limit.

    Raises SettingsError for what is not above 0.
    """
    if minutes is not None and not 0 < minutes < math.inf:
        raise SettingsError(f"timeout is {minutes}", expected="a number of minutes above 0")
    return minutes


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise SettingsError(
            f"there is no settings file {path}", expected="a TOML file, as experiments/fcnn.toml"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as TOML: {error}") from error
    expected = [field.name for field in fields(SweepSettings)]
    refuse_unknown(settings, expected, f"{path}: ")
    for name, value in settings.items():
        wanted = TYPES.get(name, {"without": list, "search": dict}.get(name, str))
        if not isinstance(value, wanted) or isinstance(value, bool):
            words = " or ".join(t.__name__ for t in (wanted if isinstance(wanted, tuple) else (wanted,)))
            raise SettingsError(f"{path}: {name} is {value!r}", expected=f"a value of type {words}")
    return settings


def _checked(settings: SweepSettings) -> SweepSettings:
    for name, expected in CHOICES.items():
        value = getattr(settings, name)
        if value is not None and value not in expected:
            raise SettingsError(f"{name} is {value!r}", expected=", ".join(expected))
    for name, low in (("trials", 1), ("epochs", 1), ("seed", 0), ("split_seed", 0), ("attempts", 1)):
        if getattr(settings, name) < low:
            raise SettingsError(f"{name} is {getattr(settings, name)}", expected=f"a whole number from {low}")
    if settings.split_seed >= 2**32:
        raise SettingsError(f"split_seed is {settings.split_seed}", expected="a whole number below 2**32")
    check_timeout(settings.timeout)
    if settings.sampler == "gp" and settings.pruner == "median":
        raise SettingsError(
            "the gp sampler cannot learn from pruned trials", expected="--pruner none with --sampler gp"
        )
    return settings
