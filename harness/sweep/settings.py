"""The settings of a sweep: flags take precedence over the environment, a TOML file and the defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from harness.core.attempts import ATTEMPTS
from harness.core.errors import SettingsError, listed, meant
from harness.core.files import regular
from harness.core.recorded import whole_number
from harness.core.records import DEFAULT_EPOCHS, MAX_MEMBERS, MAX_STACK, Precision

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Minutes = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def parse_jobs(jobs: object) -> object:
    """Return the number of jobs in a string, None for `auto`. A value of another type is returned unchanged."""
    if not isinstance(jobs, str):
        return jobs
    if jobs == "auto":
        return None
    if not (count := whole_number(jobs)):
        raise SettingsError(f"jobs is {jobs!r}", expected="auto, or a number from 1")
    return count


def parse_keep(keep: object) -> object:
    """Return the number of checkpoints that `best:N` keeps, None for `all`.

    A value of another type than string is returned unchanged.
    """
    if not isinstance(keep, str):
        return keep
    word, _, number = keep.partition(":")
    count = whole_number(number)
    if keep == "all":
        return None
    if word != "best" or not count:
        raise SettingsError(f"keep is {keep!r}", expected="all, or best:N with N from 1")
    return count


class SweepSettings(BaseModel):
    """The settings of `harness sweep`, one field for each flag; None if the default depends on other settings.

    `search` and `set` are tables of the settings file; `search_options` and `set_options` are the flags of the
    same names, one string each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    model: str
    trials: Count = 40
    data: str = "input"
    experiment: str | None = None
    study: str | None = None
    epochs: Count = DEFAULT_EPOCHS
    folds: Annotated[int, Field(ge=1, le=20)] = 1
    confirm: Annotated[int | None, Field(ge=0, le=100)] = None
    refit: bool | None = None
    ensemble: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    id_column: str | None = None
    label_column: str | None = None
    group: str | None = None
    impute: str | None = None
    categorical: str | None = None
    split: str | None = None
    split_seed: Seed = 0
    without: Annotated[tuple[str, ...], Field(strict=False)] = ()
    sampler: str = "tpe"
    pruner: str | None = None
    precision: Precision = "fp32"
    jobs: Annotated[Count | None, BeforeValidator(parse_jobs)] = None
    device: str = "auto"
    stack: Annotated[int | None, Field(ge=1, le=MAX_STACK)] = None
    ray: str | None = None
    gpus_per_trial: Annotated[float | None, Field(ge=0, le=64, allow_inf_nan=False)] = None
    timeout: Minutes | None = None
    patience: Count | None = None
    attempts: Count = ATTEMPTS
    keep: Annotated[Count | None, BeforeValidator(parse_keep)] = None
    tracking_uri: str | None = None
    storage: str | None = None
    from_studies: Annotated[tuple[str, ...], Field(strict=False)] = ()
    import_trials: Annotated[tuple[str, ...], Field(strict=False)] = ()
    search: dict[str, object] = {}
    set: dict[str, object] = {}
    search_options: Annotated[tuple[str, ...], Field(strict=False)] = ()
    set_options: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @property
    def data_options(self) -> dict[str, str]:
        """The keys of `dataset.toml` that are given here."""
        given = {
            "id": self.id_column,
            "label": self.label_column,
            "group": self.group,
            "impute": self.impute,
            "categorical": self.categorical,
        }
        return {key: value for key, value in given.items() if value is not None}


FLAGS_ONLY = ("search_options", "set_options")


def load_settings(config: Path | None, given: Mapping[str, object]) -> SweepSettings:
    """Return the settings. Values in `given` (flags and environment) override those of the file `config`.

    None in `given` means that the setting is not given.

    Raises SettingsError if the file cannot be read, for an unknown key or an invalid value, and if no model is
    named.
    """
    settings = {} if config is None else _read(config)
    settings |= {name: value for name, value in given.items() if value is not None and value != ()}
    if "model" not in settings:
        raise SettingsError(
            "no model was named",
            expected="--model fcnn, cnn, both or FILE.py:Class, or a --config that names one",
        )
    return checked(settings, "")


def checked(settings: Mapping[str, object], where: str) -> SweepSettings:
    """Return the validated settings.

    Raises SettingsError for the first invalid setting; its message begins with `where`.
    """
    try:
        return SweepSettings.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise SettingsError(f"{where}{name} is {first['input']!r}", expected=_expected(first["msg"])) from None


def _expected(message: str) -> str:
    """Return pydantic's message on an invalid value as a phrase that fits after `expected:`."""
    phrase = message.removeprefix("Input should be ").removeprefix("a valid ")
    return 'a table, such as { optimizer = "adamw" }' if phrase == "dictionary" else phrase


def _read(path: Path) -> dict[str, object]:
    """Return the settings of a file.

    A pipe is refused, `<(...)` of a shell too: the same command must work again after an interruption, and a pipe
    can be read once. One that nobody writes to would be waited for without end.
    """
    try:
        settings: dict[str, object] = tomllib.loads(regular(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SettingsError(
            f"there is no settings file {path}", expected="a TOML file, for example experiments/fcnn.toml"
        ) from None
    # ValueError: not TOML, not UTF-8, a number of thousands of digits.
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path} cannot be read as TOML: {error}") from error
    _check_numbers(path, settings)
    expected = [name for name in SweepSettings.model_fields if name not in FLAGS_ONLY]
    refuse_unknown(settings, expected, f"{path}: ")
    checked({"model": "any", **settings}, f"{path}: ")
    return settings


def _check_numbers(path: Path, settings: Mapping[str, object]) -> None:
    """Raise SettingsError for a number of more than the 64 bits that TOML asks for; it could not be shown."""
    values: list[object] = [settings]
    while values:
        value = values.pop()
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise SettingsError(f"{path} has a number of {value.bit_length()} bits", expected="up to 64 bits")
        if isinstance(value, Mapping | list):
            values += value.values() if isinstance(value, Mapping) else value


def refuse_unknown(table: Mapping[str, object], expected: Iterable[str], where: str) -> None:
    """Raise SettingsError for a key that is not expected."""
    for name in table:
        if name not in expected:
            names = list(expected)
            hint = meant(name, names)
            # All names are a list of no use to somebody who mistyped one.
            shown = listed(names, most=len(names) if hint is None else 8)
            raise SettingsError(f"{where}there is no setting {name!r}", expected=shown, hint=hint)


def check_timeout(minutes: float | None) -> float | None:
    """Return the minutes unchanged, None for no limit. Raises SettingsError if they are not above 0."""
    return checked({"model": "any", "timeout": minutes}, "").timeout


def check_split_seed(seed: int | None) -> int:
    """Return the seed of a split, the default for None. Raises SettingsError if it is not within 32 bits."""
    return checked({"model": "any", **({} if seed is None else {"split_seed": seed})}, "").split_seed


def check_jobs(text: str) -> int | None:
    """Return the number of jobs in a string, None for `auto`. Raises SettingsError for any other string."""
    return checked({"model": "any", "jobs": text}, "").jobs
