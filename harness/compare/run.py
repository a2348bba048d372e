"""Runs a planned comparison: trains the repeats, measures the stored checkpoints, records the result."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from harness.compare.nested import search_nested
from harness.compare.page import write_files
from harness.compare.plan import ComparisonPlan, describe_plan, params_of
from harness.compare.result import Comparison, Outcome
from harness.compare.scheduling import AGAIN, Listener, RepeatScheduler, Watch
from harness.compare.training import candidate_view
from harness.compare.verdict import ResamplingScheme
from harness.compare.warnings import look_warnings
from harness.core.errors import StudyError, TrackingError
from harness.core.journal import comparison_folder, comparison_lock
from harness.core.names import new_name
from harness.core.trial_rows import TrialRow
from harness.tracking import (
    ComparisonLog,
    Heartbeat,
    Kind,
    Machine,
    OwnResult,
    Presence,
    RunInfo,
    Tracker,
    read_ledger,
)
from harness.training.checkpoint import load_checkpoint
from harness.training.loop import evaluate
from harness.workers.signals import interruptible

T = TypeVar("T")


def run_comparison(plan: ComparisonPlan, listener: Listener = lambda *_: None) -> Comparison:
    """Train the repeats that are not in MLflow yet, and return the result of all of them.

    Raises Stopped on a signal: the repeats that have ended are in MLflow, and the same command continues.
    Raises StudyError if another process runs the same comparison, or if a repeat cannot be trained.
    Raises TrackingError if MLflow did not accept every repeat.
    """
    if any(candidate.search and not candidate.chosen for candidate in plan.candidates):
        plan = search_nested(plan)
    return carry_out(plan, lambda tracker, log: _conclude(plan, tracker, log), listener)


def carry_out(
    plan: ComparisonPlan,
    conclude: Callable[[Tracker, ComparisonLog], T],
    listener: Listener,
    watch: Watch = lambda *_: None,
) -> T:
    """Run the repeats that are not in MLflow yet, and return what `conclude` makes of all of them.

    Raises what `run_comparison` raises.
    """
    folder = comparison_folder(plan.stores.work_root, plan.identity)
    lock = comparison_lock(plan.stores.work_root, plan.identity)
    if not lock.acquire(wait=False, patience=0.1):
        raise StudyError(
            f"another process runs this comparison ({plan.name})", hint="wait for it, or stop it first"
        )
    try:
        with interruptible("interrupted; the repeats that have ended are in MLflow", AGAIN):
            found = _record(plan, folder, lock.path, conclude, listener, watch)
        shutil.rmtree(folder, ignore_errors=True)
        return found
    finally:
        lock.release(remove=True)


def log_of(plan: ComparisonPlan, tracker: Tracker) -> ComparisonLog:
    """Return the log of a comparison, or of traits."""
    kind = Kind.COMPARISON if plan.game is None else Kind.TRAITS
    return ComparisonLog(tracker, plan.experiment, plan.identity, plan.compared[0].spec.data_digest, kind)


def _record(
    plan: ComparisonPlan,
    folder: Path,
    lock: Path,
    conclude: Callable[[Tracker, ComparisonLog], T],
    listener: Listener,
    watch: Watch,
) -> T:
    tracker = Tracker(plan.stores.tracking_uri)
    log = log_of(plan, tracker)
    machine = Machine.here(plan.stores.work_root, create=True)
    presence = Presence.of_this_process(machine, new_name(), lock)
    log.begin(plan.name, describe_plan(plan), params_of(plan), presence.as_tags())
    with Heartbeat(tracker, log.parent, machine, presence):
        try:
            RepeatScheduler(plan, log, folder, listener, watch).run()
            return conclude(tracker, log)
        except BaseException as error:
            try:
                log.interrupt()
            except (
                TrackingError
            ) as unsent:  # harness doctor ends the run then; the first error is the one to raise
                error.add_note(str(unsent))
            raise


def _conclude(plan: ComparisonPlan, tracker: Tracker, log: ComparisonLog) -> Comparison:
    own, parameters = _measure_own_split(plan, tracker, log)
    comparison = _collect(plan, tracker, log, own, parameters)
    with tempfile.TemporaryDirectory() as name:
        write_files(comparison, Path(name))
        log.conclude(
            Path(name),
            _figures(comparison),
            note=_note(comparison, describe_plan(plan)),
            verdict=comparison.verdict,
            warnings="\n".join(comparison.warnings),
            repeats=len(comparison.splits),
        )
    return comparison


def _measure_own_split(
    plan: ComparisonPlan, tracker: Tracker, log: ComparisonLog
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Return the predictions of each study's best checkpoint on the studies' test part, and its number of weights.

    The test part is opened once for each checkpoint: earlier predictions are read from MLflow. A nested comparison
    does not speak of these checkpoints.
    """
    if plan.settings.nested:
        return {}, {}
    known = log.own_split()
    found: dict[str, OwnResult] = {}
    identities = {study.spec.name: study.context.identity for study in plan.compared}
    for candidate in plan.candidates:
        if not candidate.is_single or candidate.study is None or candidate.config is None:
            continue
        run = tracker.parts.network_run(candidate.study, identities[candidate.study])
        measured = known.get(candidate.name)
        if measured is None or measured.run_id != run.run_id:
            tracker.studies.require_checkpoint(run)
            with tempfile.TemporaryDirectory() as name:
                folder = tracker.artifacts.download_checkpoint(run.run_id, Path(name))
                classifier, _ = load_checkpoint(folder, trust_code=plan.settings.trust_code)
            tracker.runs.count_test_opening(run.run_id)
            split = (
                plan.split if run.refit_of is None else plan.split.merged()
            )  # the crop is fitted on its train part
            part = candidate_view(plan.tracks, candidate, candidate.config).open_test(split)
            predicted = evaluate(classifier, part, candidate.config.precision).argmax(1)
            weights = sum(parameter.numel() for parameter in classifier.parameters())
            measured = OwnResult(run_id=run.run_id, test=tuple(predicted.tolist()), parameters=weights)
        found[candidate.name] = measured
    if found != known:
        log.keep_own_split(found)
    predictions = {name: np.array(measured.test) for name, measured in found.items()}
    return predictions, {name: measured.parameters for name, measured in found.items()}


def _collect(
    plan: ComparisonPlan,
    tracker: Tracker,
    log: ComparisonLog,
    own: dict[str, np.ndarray],
    parameters: dict[str, int],
) -> Comparison:
    finished = log.finished()
    outcomes = {}
    for candidate in plan.candidates:
        runs = [finished[candidate.name, number] for number in range(plan.settings.repeats)]
        outcomes[candidate.name] = tuple(
            _outcome(tracker, log, run, curves=candidate.study is not None) for run in runs
        )
    spec = plan.compared[0].spec
    looks = log.looks_with(plan.settings.repeats)
    return Comparison(
        name=plan.name,
        run_id=log.parent,
        experiment=plan.experiment,
        data=plan.tracks.folder.name,
        synthetic=plan.tracks.synthetic,
        genres=plan.tracks.genres,
        words=plan.tracks.words,
        split=plan.split,
        splits=plan.splits,
        scheme=scheme_of(plan),
        candidates=plan.candidates,
        outcomes=outcomes,
        labels=dict(zip(plan.tracks.ids, plan.tracks.labels.tolist(), strict=True)),
        own={name: guesses == plan.labels_of(plan.split.test) for name, guesses in own.items()},
        trials=_trials(plan),
        looks=looks,
        warnings=(
            *plan.warnings,
            *look_warnings(looks),
            *_divergence_warnings(outcomes, plan.tracks.words.class_),
        ),
        ledger=read_ledger(tracker, spec.data_digest, spec.split_digest),
        parameters=parameters,
        protocol=plan.settings.protocol,
    )


def scheme_of(plan: ComparisonPlan) -> ResamplingScheme:
    """Return how the repeats of a plan were drawn."""
    tracks, clusters = plan.tracks, plan.tracks.units
    trained = [split.merged() if plan.merges else split for split in plan.splits]
    return ResamplingScheme(
        redrawn=plan.split.drawn,
        nested=plan.settings.nested,
        train=float(np.mean([len(split.train) for split in trained])),
        valid=float(np.mean([len(split.valid) for split in trained])),
        test=float(np.mean([len(split.test) for split in plan.splits])),
        pool=len({track for split in plan.splits for track in split.test}),  # a round tests on each once
        clusters=tuple(clusters[tracks.indices(split.test)] for split in plan.splits),
        own_clusters=clusters[tracks.indices(plan.split.test)],
    )


def _trials(plan: ComparisonPlan) -> dict[str, tuple[TrialRow, ...]]:
    """Return the trials of each study that have a validation accuracy, by the candidate's name."""
    # The single networks of the studies are the first candidates, in the order of the studies.
    return {
        candidate.name: tuple(row for row in study.rows if row.val_accuracy is not None)
        for candidate, study in zip(plan.candidates, plan.compared, strict=False)
    }


def _divergence_warnings(outcomes: dict[str, tuple[Outcome, ...]], word: str) -> list[str]:
    diverged = {name: sum(o.state == "diverged" for o in repeats) for name, repeats in outcomes.items()}
    found = [
        f"{count} repeat(s) of {name} diverged: counted as guessing the most frequent {word}"
        for name, count in diverged.items()
        if count
    ]
    for name, repeats in outcomes.items():
        found += [
            f"repeat {number} of {name}: {outcome.reason}, and were left out of the mean"
            for number, outcome in enumerate(repeats)
            if outcome.state == "complete" and outcome.reason
        ]
    return found


def _outcome(tracker: Tracker, log: ComparisonLog, run: RunInfo, *, curves: bool) -> Outcome:
    predicted = log.predictions(run.run_id)
    return Outcome(
        state=run.trial_state or "",
        seconds=run.metric("train_seconds"),
        curves=_curves(tracker, run.run_id) if curves else {},
        valid=np.array(predicted.valid),
        test=np.array(predicted.test),
        reason=run.reason,
    )


def _curves(tracker: Tracker, run_id: str) -> dict[str, list[float]]:
    epochs = tracker.runs.epochs(run_id).values()
    return {
        name: [figures.get(name, float("nan")) for figures in epochs] for name in ("train_loss", "val_accuracy")
    }


def _figures(comparison: Comparison) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for row in comparison.rows:
        name = row.name.replace(" ", "_")
        metrics[f"test_accuracy_{name}"] = row.test.mean
        if row.val is not None:
            metrics[f"val_accuracy_{name}"] = row.val[0]
    for pair in comparison.gains:
        metrics[f"tuning_gain_{pair.a.replace(' ', '_')}"] = pair.difference
    return metrics


def _note(comparison: Comparison, description: str) -> str:
    # MLflow's UI shows the note of a run in full, but cuts tags short.
    sentences = "".join(f"- {line}\n" for line in (*comparison.verdict.split("; "), *comparison.gained))
    return f"{description}\n\n{sentences}"
