"""Comparisons on record: one parent run each, the repeats under it, and how often the test part was opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from harness.core.journal import Event
from harness.core.records import Candidate
from harness.tracking.tracker import TAG_LIMIT, RunInfo, Tracker, code_and_environment, translated, who_and_what
from harness.tracking.trials import STATUS, best_points, epoch_points

PREDICTIONS_FILE = "predictions.json"
OWN_FILE = "own_split.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A run that has seen the test part of a split: what it is, and how often it did."""

    run_id: str
    name: str
    kind: str
    split_digest: str
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Who has opened the test part: of one split, and of other splits of the same data."""

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
            text += f"; other splits of these data: {_times(sum(o.times for o in self.others))}"
        return text

    def as_json(self) -> dict[str, Any]:
        """Return the ledger as a JSON-able mapping."""
        return {
            "own_split": sum(opening.times for opening in self.own),
            "other_splits": sum(opening.times for opening in self.others),
            "runs": [{"run_id": o.run_id, "name": o.name, "kind": o.kind, "times": o.times} for o in self.own],
        }


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def read_ledger(tracker: Tracker, data_digest: str, split_digest: str) -> Ledger:
    """Return who has opened the test part of a split, and of other splits of the same data."""
    found = [
        Opening(
            run_id=run.run_id,
            name=run.tags.get("mlflow.runName", run.run_id),
            kind=run.tags.get("kind", "unknown"),
            split_digest=run.tags.get("split_digest", ""),
            times=int(run.tags["test_openings"]),
        )
        for run in tracker.search(f"tags.data_digest = '{data_digest}'", deleted=True)  # what was seen stays seen
        if "test_openings" in run.tags
    ]
    return Ledger(
        own=tuple(opening for opening in found if opening.split_digest == split_digest),
        others=tuple(opening for opening in found if opening.split_digest != split_digest),
    )


class ComparisonLog:
    """The record of one comparison: `identity` tells it from every other, `tags` go to each of its runs."""

    def __init__(self, tracker: Tracker, experiment: str, identity: str, tags: dict[str, str]) -> None:
        self.tracker = tracker
        self._client = tracker.client
        self._experiment = tracker.experiment_id(experiment)
        self._identity = identity
        self._tags = {**tags, **who_and_what(), **code_and_environment(), "comparison": identity}
        self.parent = ""

    def begin(self, name: str, description: str, params: dict[str, Any], tags: dict[str, str]) -> str:
        """Return the id of the comparison's parent run, made or reopened, with status RUNNING.

        `tags` are the parent's own, set before the status: a RUNNING run always says who is at work on it.
        """
        with translated(f"opening the run of comparison {name!r}"):
            found = self._search("comparison")
            if found:
                self.parent = found[0].run_id
                self.tracker.set_tags(self.parent, tags)
                self._client.update_run(self.parent, status="RUNNING")
            else:
                about = {**self._tags, "kind": "comparison", "mlflow.note.content": description}
                run = self._client.create_run(self._experiment, run_name=name, tags={**about, **tags})
                self.parent = str(run.info.run_id)
                self._client.log_batch(self.parent, params=[Param(k, str(v)) for k, v in params.items()])
        return self.parent

    def finished(self) -> dict[tuple[str, int], RunInfo]:
        """Return the repeats that are on record whole, by candidate and number."""
        runs = [run for run in self._search("repeat") if run.status in ("FINISHED", "FAILED")]
        return {(run.tags["candidate"], int(run.tags["repeat"])): run for run in runs}

    def predictions(self, run_id: str) -> dict[str, Any]:
        """Return what a repeat predicted: `valid` and `test`, genres (indices) in the order of the split's ids."""
        found: dict[str, Any] = self.tracker.read_json(run_id, PREDICTIONS_FILE)
        return found

    def record(self, candidate: Candidate, events: list[Event], score: float) -> str:
        """Put a repeat on record, whole: its run is made unless an earlier try has, and ended last.

        `score` is the test accuracy.
        """
        start, end = [event for event in events if event["event"] == "start"][-1], events[-1]
        number = start["repeat"]
        query = f"tags.candidate = '{candidate.name}' and tags.repeat = '{number}'"
        with translated(f"recording repeat {number} of {candidate.name}"):
            found = self._search("repeat", query)
            run_id = found[0].run_id if found else self._create(candidate, events[0], number)
            metrics = [point for event in events if event["event"] == "epoch" for point in epoch_points(event)]
            metrics += best_points(end)
            metrics += [
                Metric("test_accuracy", score, end["time"], 0),
                Metric("train_seconds", end["seconds"], end["time"], 0),
                Metric("repeat", number, end["time"], 0),
            ]
            params: dict[str, Any] = {"model": candidate.model, "seed": start["seed"], "split": start["split"]}
            if candidate.config is not None:
                config = candidate.config
                params |= {**config.params, "epochs": config.epochs}
                params |= {"precision": config.precision, "columns_count": len(candidate.columns)}
            tags = {
                "split_digest": start["split_digest"],
                "device": start["device"],
                "threads": str(start["threads"]),
                "trial_state": end["state"],
                "reason": (end["reason"] or "")[-TAG_LIMIT:],
                "test_openings": str(sum(event["event"] == "test" for event in events)),
            }
            for first in range(0, len(metrics), 1000):
                self._client.log_batch(run_id, metrics=metrics[first : first + 1000])
            self._client.log_batch(
                run_id,
                params=[Param(name, str(value)) for name, value in params.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
            self._client.log_dict(run_id, {"valid": end["valid"], "test": end["test"]}, PREDICTIONS_FILE)
            self._client.set_terminated(run_id, STATUS[end["state"]], end["time"])
        return run_id

    def _create(self, candidate: Candidate, first: Event, number: int) -> str:
        tags = {
            **self._tags,
            "kind": "repeat",
            "candidate": candidate.name,
            "repeat": str(number),
            "of_study": candidate.study or "",
            "mlflow.parentRunId": self.parent,
        }
        run = self._client.create_run(
            self._experiment, start_time=first["time"], run_name=f"{candidate.name}-repeat-{number:02d}", tags=tags
        )
        return str(run.info.run_id)

    def own_split(self) -> dict[str, Any]:
        """Return what was measured on the studies' own test part, empty before it was."""
        with translated("looking for what was measured"):
            names = [file.path for file in self._client.list_artifacts(self.parent)]
        return dict(self.tracker.read_json(self.parent, OWN_FILE)) if OWN_FILE in names else {}

    def keep_own_split(self, measured: dict[str, Any]) -> None:
        """Store what was measured on the studies' own test part."""
        with translated("storing what was measured"):
            self._client.log_dict(self.parent, measured, OWN_FILE)

    def end(self, status: str, folder: Path | None, metrics: dict[str, float], tags: dict[str, str]) -> None:
        """Give the parent run its files, figures and status: FINISHED or KILLED."""
        if folder is not None:
            self.tracker.log_files(self.parent, folder)
        if metrics:
            self.tracker.add_metrics(self.parent, metrics)
        self.tracker.end_run(self.parent, status, tags)

    def _search(self, kind: str, query: str = "") -> list[RunInfo]:
        mine = f"tags.comparison = '{self._identity}' and tags.kind = '{kind}'"
        return self.tracker.search(f"{mine} and {query}" if query else mine, self._experiment)
