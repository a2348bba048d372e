"""The events of a journal, one frozen dataclass each, and their form as lines.

A line is `<crc32> <json>`. A line counts as damaged if a kill cut it short, if its checksum is wrong, or if its
event is unknown. No other module knows the JSON form of an event.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, TypeAlias

from harness.core.clock import now
from harness.core.records import EpochMetrics, TrialConfig, TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    """A worker starts a trial, or continues it (`resumed`).

    `sweep` is the id of the worker's sweep. `total` is the study's target number of trials. `node` and `ray` (a
    version) say where it trains, if not on the machine of the sweep.
    """

    trial: int
    sweep: str
    config: TrialConfig
    resumed: bool
    device: str
    gpu: str | None
    total: int
    node: str | None = None
    ray: str | None = None
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatStarted:
    """A worker starts or continues a repeat of a comparison. `config` is None for a baseline.

    `node` and `ray`: see `TrialStarted`.
    """

    candidate: str
    repeat: int
    seed: int
    config: TrialConfig | None
    split: str
    split_digest: str
    device: str
    threads: int
    node: str | None = None
    ray: str | None = None
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochDone:
    """An epoch has ended for the first time.

    For a trial with several folds it is an epoch of the mean curve, written when the last fold has ended; `std` is
    the standard deviation of the validation accuracy over the folds, None for fewer than two.
    """

    metrics: EpochMetrics
    std: float | None = None
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldEpochDone:
    """An epoch of one fold of a trial has ended for the first time; folds are numbered from 1.

    In a repeat of a comparison it is an epoch of one member of an ensemble.
    """

    fold: int
    metrics: EpochMetrics
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldEnded:
    """A fold of a trial has been trained to its end, and its curve is on disk."""

    fold: int
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRepeated:
    """An epoch was trained again after a resume; its `EpochDone` is in the journal already."""

    metrics: EpochMetrics
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Training continues from the resume point after `epoch`."""

    epoch: int
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeSaved:
    """The resume point after `epoch` is on disk."""

    epoch: int
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedTestPart:
    """The worker is about to read the test part."""

    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetTrained:
    """One of the many trainings of a repeat of the traits has ended.

    `subset` is its key, `guesses` are the predicted classes (indices) in the order of the split's test part,
    `seconds` is the training time. A training that `diverged` predicts the most frequent class.
    """

    subset: str
    guesses: tuple[int, ...]
    seconds: float
    diverged: bool = False
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A trial has ended, was interrupted, or pauses.

    `mended` is the reason why the event was made up from Optuna's record, None if it was not.
    """

    result: TrialResult
    mended: str | None = None
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatEnded:
    """A repeat has ended, or was interrupted.

    `seconds` is the training time; `valid` and `test` are the predicted classes (indices), in the order of the
    split's ids; both are empty if the repeat was interrupted.
    """

    result: TrialResult
    seconds: float
    valid: tuple[int, ...] = ()
    test: tuple[int, ...] = ()
    time: int = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """Optuna has the trial's result. The journal can be removed once MLflow has the events."""

    time: int = field(default_factory=now)


Event: TypeAlias = (
    TrialStarted
    | RepeatStarted
    | EpochDone
    | FoldEpochDone
    | FoldEnded
    | EpochRepeated
    | Resumed
    | ResumeSaved
    | OpenedTestPart
    | SubsetTrained
    | Ended
    | RepeatEnded
    | Acknowledged
)
# The name of each event in a line.
_KINDS: dict[str, Callable[..., Event]] = {
    "start": TrialStarted,
    "repeat": RepeatStarted,
    "epoch": EpochDone,
    "fold_epoch": FoldEpochDone,
    "fold_end": FoldEnded,
    "again": EpochRepeated,
    "resumed": Resumed,
    "saved": ResumeSaved,
    "test": OpenedTestPart,
    "subset": SubsetTrained,
    "end": Ended,
    "repeat_end": RepeatEnded,
    "closed": Acknowledged,
}
_NAMES = {event: name for name, event in _KINDS.items()}


def _metrics(recorded: Mapping[str, Any]) -> EpochMetrics:
    return EpochMetrics(**recorded)


def _result(recorded: Mapping[str, Any]) -> TrialResult:
    best, folds = recorded["best"], tuple(recorded.get("folds", ()))
    return TrialResult(**{**recorded, "best": None if best is None else _metrics(best), "folds": folds})


# Functions that read the JSON form of a field, for fields that are not plain numbers or texts.
_READERS: dict[str, Callable[[Any], object]] = {
    "config": lambda recorded: None if recorded is None else TrialConfig.of(recorded),
    "metrics": _metrics,
    "result": _result,
    "valid": tuple,
    "test": tuple,
    "guesses": tuple,
}


@cache
def _names_of(kind: type[Event | EpochMetrics | TrialResult]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _jsonable(value: object) -> Mapping[str, object]:
    if isinstance(value, TrialConfig):
        return value.as_dict()
    # Not `asdict`: its deep copy takes longer than all other work for a line.
    return {name: getattr(value, name) for name in _names_of(type(value))}  # type: ignore[arg-type]


_encode = json.JSONEncoder(separators=(",", ":"), default=_jsonable).encode


def to_line(event: Event) -> bytes:
    """Return the line of an event, with its checksum and a newline."""
    body = _encode({"event": _NAMES[type(event)], **_jsonable(event)}).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def from_line(line: bytes) -> Event | None:
    """Return the event of a line, or None if the line is damaged."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        found = json.loads(body)
        kind = _KINDS[found.pop("event")]
        read = {name: _READERS[name](value) if name in _READERS else value for name, value in found.items()}
        return kind(**read)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def has_ended(events: Sequence[Event]) -> bool:
    """Return True if the training run of these events has ended. One that was interrupted or pauses has not."""
    match events[-1] if events else None:
        case Acknowledged():
            return True
        case Ended(result=result) | RepeatEnded(result=result):
            return result.is_over
        case _:
            return False
