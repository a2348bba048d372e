"""Runs of comparisons: one parent run, one run under it for each repeat, and the uses of the test part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core.candidate import Candidate
from harness.core.events import EpochDone, Event, OpenedTestPart, RepeatEnded, RepeatStarted, SubsetTrained
from harness.core.json_types import JsonObject
from harness.core.recorded import checked
from harness.tracking.run_info import RunInfo
from harness.tracking.runs import Point
from harness.tracking.tags import STATUS_OF, Kind, RunStatus, Tag, Tags, code_tags, origin_tags
from harness.tracking.tracker import Tracker
from harness.tracking.trials import best_points, end_tags, epoch_points

PREDICTIONS_FILE = "predictions.json"
OWN_FILE = "own_split.json"
SUBSETS_FILE = "subsets.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A run that has opened the test part of a split, and how often."""

    run_id: str
    name: str
    kind: Kind
    split_digest: str
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The predictions of a repeat: class indices in the order of the split's ids."""

    valid: tuple[int, ...]
    test: tuple[int, ...]

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Predictions:
        """Return the predictions of their JSON form; raises one of UNREADABLE for any other content."""
        return checked(cls(valid=tuple(recorded["valid"]), test=tuple(recorded["test"])))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnResult:
    """The predictions of a study's best checkpoint on the test part of the split that the study was tuned on.

    `run_id` is the run with the checkpoint, `test` are class indices in the order of the split's ids, and
    `parameters` is the number of the network's weights.
    """

    run_id: str
    test: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The runs that have opened the test part of one split, and of other splits of the same data."""

    own: tuple[Opening, ...]
    others: tuple[Opening, ...]

    def as_text(self) -> str:
        """Return the line that comparisons and exports print."""
        times = sum(opening.times for opening in self.own)
        text = f"the test part of this split has been opened {_times(times)}"
        if self.own:
            shown = [f"{o.name} {o.run_id[:8]}" + (f" ({o.times})" if o.times > 1 else "") for o in self.own]
            more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
            text += f", by {len(self.own)} {'run' if len(self.own) == 1 else 'runs'}: {', '.join(shown[:6])}{more}"
        if self.others:
            text += f"; other splits of the same tracks: {_times(sum(o.times for o in self.others))}"
        return text

    def as_json(self) -> JsonObject:
        """Return the ledger as a JSON-able mapping."""
        return {
            "own_split": sum(opening.times for opening in self.own),
            "other_splits": sum(opening.times for opening in self.others),
            "runs": [{"run_id": o.run_id, "name": o.name, "kind": o.kind, "times": o.times} for o in self.own],
        }


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def read_ledger(tracker: Tracker, data_digest: str, split_digest: str) -> Ledger:
    """Return the runs that have opened the test part of a split, and of other splits of the same data."""
    found = [
        Opening(
            run_id=run.run_id,
            name=run.name,
            kind=run.kind,
            split_digest=run.split_digest,
            times=run.test_openings,
        )
        for run in tracker.runs.with_data(data_digest)  # deleted runs count too
        if run.test_openings
    ]
    return Ledger(
        own=tuple(opening for opening in found if opening.split_digest == split_digest),
        others=tuple(opening for opening in found if opening.split_digest != split_digest),
    )


class ComparisonLog:
    """Writes the runs of one comparison. `identity` identifies it; all its runs use one data set.

    `kind` is that of its own run: a comparison, or the traits of a study.
    """

    def __init__(
        self, tracker: Tracker, experiment: str, identity: str, data_digest: str, kind: Kind = Kind.COMPARISON
    ) -> None:
        self.tracker = tracker
        self._kind = kind
        self._experiment = tracker.experiment_id(experiment)
        self._identity = identity
        self._tags = {**origin_tags(), **code_tags(), Tag.COMPARISON: identity, Tag.DATA_DIGEST: data_digest}
        self.parent = ""
        self._looks: tuple[int, ...] = ()

    def begin(self, name: str, description: str, params: dict[str, str], tags: Tags) -> None:
        """Make or reopen the comparison's own run, with status RUNNING; `parent` is its id from then on.

        `tags` are set before the status, so that a RUNNING run always names the process that works on it.
        """
        runs, found = self.tracker.runs, self._find(self._kind)
        if found:
            self.parent = found[0].run_id
            self._looks = found[0].looks
            runs.log(self.parent, tags=tags)
            runs.set_status(self.parent, RunStatus.RUNNING)
        else:
            about = {**self._tags, Tag.KIND: self._kind, Tag.NOTE: description, **tags}
            self.parent = runs.create(self._experiment, name, about)
            runs.log(self.parent, params=params)

    def looks_with(self, repeats: int) -> tuple[int, ...]:
        """Return with how many repeats the result has been seen, once it is seen with this number too.

        To see it again with the same number of repeats is no new look: it is the same result.
        """
        return self._looks if self._looks[-1:] == (repeats,) else (*self._looks, repeats)

    def finished(self) -> dict[tuple[str, int], RunInfo]:
        """Return the runs of the repeats that are recorded completely, by candidate and number."""
        over = (RunStatus.FINISHED, RunStatus.FAILED)
        found = (run for run in self._find(Kind.REPEAT) if run.status in over and run.is_numbered)
        return {(run.candidate, run.repeat): run for run in found}

    def predictions(self, run_id: str) -> Predictions:
        """Return the predictions of a repeat."""
        return self.tracker.artifacts.read_record(run_id, PREDICTIONS_FILE, Predictions.of)

    def subsets(self, run_id: str) -> dict[str, tuple[int, ...]]:
        """Return the predictions of each training of a repeat of the traits, by its key."""
        return self.tracker.artifacts.read_record(run_id, SUBSETS_FILE, _subsets)

    def record(self, candidate: Candidate, events: Sequence[Event], end: RepeatEnded, score: float) -> None:
        """Record a repeat completely.

        The run is made, unless an earlier attempt has made it, and is ended last. `score` is the test accuracy.
        """
        runs = self.tracker.runs
        start = [event for event in events if isinstance(event, RepeatStarted)][-1]
        found = self._find(Kind.REPEAT, {Tag.CANDIDATE: candidate.name, Tag.REPEAT: str(start.repeat)})
        run_id = found[0].run_id if found else self._create(candidate, events[0].time, start.repeat)
        points = [point for event in events if isinstance(event, EpochDone) for point in epoch_points(event)]
        points += best_points(end.result.best, end.time)
        points += [
            Point("test_accuracy", score, end.time),
            Point("train_seconds", end.seconds, end.time),
            Point("repeat", start.repeat, end.time),
        ]
        tags: dict[str, str] = {
            Tag.SPLIT_DIGEST: start.split_digest,
            Tag.DEVICE: start.device,
            Tag.THREADS: str(start.threads),
            Tag.TEST_OPENINGS: str(sum(isinstance(event, OpenedTestPart) for event in events)),
            **end_tags(end.result),
        }
        if start.node is not None and start.ray is not None:
            tags |= {Tag.NODE: start.node, Tag.RAY: start.ray}
        runs.log(run_id, points=points, params=_params(candidate, start, self._identity), tags=tags)
        predicted = {"valid": end.valid, "test": end.test}
        self.tracker.artifacts.log_json(run_id, predicted, PREDICTIONS_FILE)
        subsets = {event.subset: event.guesses for event in events if isinstance(event, SubsetTrained)}
        if subsets:
            self.tracker.artifacts.log_json(run_id, subsets, SUBSETS_FILE)
        runs.end(run_id, STATUS_OF[end.result.state], time=end.time)

    def _create(self, candidate: Candidate, time: int, number: int) -> str:
        tags = self._tags | {
            Tag.KIND: Kind.REPEAT,
            Tag.CANDIDATE: candidate.name,
            Tag.REPEAT: str(number),
            Tag.OF_STUDY: candidate.study or "",
            Tag.PARENT_ID: self.parent,
        }
        return self.tracker.runs.create(self._experiment, f"{candidate.name}-repeat-{number:02d}", tags, time)

    def own_split(self) -> dict[str, OwnResult]:
        """Return the results on the test part of the studies' split, by candidate; empty if there are none yet."""
        artifacts = self.tracker.artifacts
        if not artifacts.has(self.parent, OWN_FILE):
            return {}
        return artifacts.read_record(self.parent, OWN_FILE, _own_results)

    def keep_own_split(self, measured: dict[str, OwnResult]) -> None:
        """Store the results on the test part of the studies' split."""
        content = {name: asdict(result) for name, result in measured.items()}
        self.tracker.artifacts.log_json(self.parent, content, OWN_FILE)

    def conclude(
        self, folder: Path, metrics: dict[str, float], *, note: str, verdict: str, warnings: str, repeats: int
    ) -> None:
        """Write the files, metrics and tags of the comparison's run, and set its status FINISHED.

        The look is put on record before anything of the result is.
        """
        looks = ", ".join(map(str, self.looks_with(repeats)))
        self.tracker.runs.log(self.parent, tags={Tag.LOOKS: looks})
        self.tracker.artifacts.log_files(self.parent, folder)
        self.tracker.runs.add_metrics(self.parent, metrics)
        tags: dict[str, str] = {
            Tag.NOTE: note,
            Tag.VERDICT: verdict,
            Tag.WARNINGS: warnings,
            Tag.REPEATS: str(repeats),
        }
        self.tracker.runs.end(self.parent, RunStatus.FINISHED, tags=tags)

    def interrupt(self) -> None:
        """Set the status of the comparison's run to KILLED."""
        self.tracker.runs.end(self.parent, RunStatus.KILLED)

    def _find(self, kind: Kind, tags: Tags | None = None) -> list[RunInfo]:
        mine: dict[str, str] = {Tag.COMPARISON: self._identity, Tag.KIND: kind, **(tags or {})}
        return self.tracker.runs.find(mine, experiment=self._experiment)


def _own_results(recorded: Mapping[str, Any]) -> dict[str, OwnResult]:
    return {name: checked(OwnResult(**{**kept, "test": tuple(kept["test"])})) for name, kept in recorded.items()}


def _subsets(recorded: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {str(key): tuple(int(guess) for guess in guesses) for key, guesses in recorded.items()}


def _params(candidate: Candidate, start: RepeatStarted, comparison: str) -> dict[str, object]:
    # What the UI groups runs by, to show the repeats of a candidate as one line with a band, is a param.
    params: dict[str, object] = {"candidate": candidate.name, "comparison": comparison, "repeat": start.repeat}
    params |= {"model": candidate.model, "seed": start.seed, "split": start.split}
    if start.config is not None:
        config = start.config
        params |= {**config.params, "epochs": config.epochs}
        params |= {"precision": config.precision, "columns_count": len(candidate.columns)}
    return params
