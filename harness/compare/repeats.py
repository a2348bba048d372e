"""The repeats of a comparison: each trains one candidate on one split, then opens the test part once.

They run in worker processes as trials do. Each has its own journal, so that a kill loses at most the epochs since
the last resume point. A lock file, not a study, says which worker runs a repeat.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from harness.compare.baselines import BASELINES
from harness.compare.networks import RepeatNetworks, open_test_part, repeat_ended
from harness.compare.traits.game import Game
from harness.compare.traits.inputs import inputs_of
from harness.compare.traits.work import Learner, run_trainings
from harness.core.attempts import ATTEMPTS, Deaths, last_new_epoch
from harness.core.candidate import Candidate
from harness.core.events import (
    Event,
    RepeatEnded,
    RepeatStarted,
    has_ended,
)
from harness.core.files import FileLock
from harness.core.journal import Journal, read_events
from harness.core.names import derive_seed, digest_of
from harness.core.records import Split, TrialConfig, TrialResult
from harness.data import Tracks, View
from harness.models.registry import recorded_model
from harness.training.devices import choose_device
from harness.training.run import CHECKPOINT
from harness.workers.child import worker_main
from harness.workers.cpus import threads_here


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatTask:
    """The input of a worker process of a comparison.

    `todo` has the repeats to run, as the index of the candidate and the number of the repeat. With `merges` a
    repeat trains on the train and the validation part together. `tracks` are only
    those of the repeats' splits. They include test parts, because a track of the train part of one repeat may be
    in the test part of another. Two rules protect the test parts. Training gets `View.training` only.
    `View.open_test` is called once for each repeat, after training, and after the event `test` is in the journal.
    A repeat of the traits opens its test part before its many trainings, once for each time that it goes on.
    """

    candidates: tuple[Candidate, ...]
    splits: tuple[Split, ...]  # by the number of the repeat
    todo: tuple[tuple[int, int], ...]
    tracks: Tracks
    folder: Path
    device: str
    threads: int
    merges: bool
    game: Game | None = None  # the trainings of a repeat of the traits; None: a repeat trains its candidate
    worker: str = ""  # the name of the process

    def for_worker(self, worker: str) -> RepeatTask:
        """Return the task for the worker process of that name."""
        return replace(self, worker=worker)


def candidate_view(tracks: Tracks, candidate: Candidate, config: TrialConfig | None) -> View:
    """Return the view of the tracks with the candidate's representation and columns, and the config's crop."""
    params = {} if config is None else config.params
    return View(tracks, candidate.representation, candidate.columns).for_params(params)


def repeat_path(folder: Path, candidate: Candidate, number: int) -> Path:
    """Return the path of a repeat's journal; it does not depend on the order of the candidates."""
    return folder / f"repeat-{digest_of(candidate.identity())[:12]}-{number:03d}.jsonl"


def read_repeat(path: Path) -> tuple[list[Event], RepeatEnded] | None:
    """Return the events of a repeat and its end; None if the repeat has not ended."""
    events, _ = read_events(path)
    last = events[-1] if events else None
    return (events, last) if isinstance(last, RepeatEnded) and has_ended(events) else None


class RepeatDeaths:
    """Counts the worker deaths of each repeat, by the same rule as for a study's trials (see `Deaths`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._deaths: dict[Path, Deaths] = {}  # by the repeat's journal

    def add(self, worker: str, cause: str) -> tuple[bool, str | None]:
        """Add a worker's death. Return whether it ran a repeat, and the reason if this repeat is given up."""
        locks = (path for path in self._folder.glob("repeat-*.lock") if FileLock(path).note() == worker)
        path = next((lock.with_suffix(".jsonl") for lock in locks), None)
        if path is None:
            return False, None
        events, _ = read_events(path)
        deaths = self._deaths[path] = self._deaths.get(path, Deaths()).add(last_new_epoch(events))
        if deaths.count < ATTEMPTS:
            return True, None
        start = next((event for event in events if isinstance(event, RepeatStarted)), None)
        name = path.stem if start is None else f"repeat {start.repeat} of {start.candidate}"
        return True, f"{name}: {deaths.reason(cause)}"


def work_on_repeats(task: RepeatTask) -> None:
    """Run a worker process of a comparison."""
    worker_main(lambda stopping: do_repeats(task, stopping))


def do_repeats(task: RepeatTask, stopping: threading.Event) -> None:
    """Run the repeats that have not ended and that no other worker runs, until `stopping` is set."""
    torch.set_num_threads(threads_here(task.threads))
    for index, number in task.todo:
        if stopping.is_set():
            return
        path = repeat_path(task.folder, task.candidates[index], number)
        lock = FileLock(path.with_suffix(".lock"))
        if not lock.acquire(wait=False):
            continue
        lock.annotate(task.worker)
        journal = Journal(path)
        if not has_ended(journal.events):
            _run(task, task.candidates[index], number, journal, path.with_suffix(""), stopping)
        journal.close()
        lock.release(remove=True)


def _run(
    task: RepeatTask,
    candidate: Candidate,
    number: int,
    journal: Journal,
    folder: Path,
    stopping: threading.Event,
) -> None:
    seed, config = derive_seed(candidate.seed, "repeat", number), candidate.config_in(number)
    split, view = task.splits[number], candidate_view(task.tracks, candidate, config)
    config = None if config is None else replace(config, seed=seed)
    journal.append(
        RepeatStarted(
            candidate=candidate.name,
            repeat=number,
            seed=seed,
            config=config,
            split=split.name,
            split_digest=split.digest,
            device=task.device if config is not None else "cpu",
            threads=task.threads,
        )
    )
    trained = split.merged() if task.merges else split
    if task.game is not None:
        learner = _learner(task, candidate, config, seed)
        made, genres = partial(inputs_of, task.game, seed, view, trained), len(view.tracks.genres)
        end = run_trainings(task.game, learner, made, genres, journal, stopping.is_set)
    elif config is None:
        end = _baseline(candidate, seed, view, trained, journal)
    else:
        model = recorded_model(
            candidate.model, candidate.source_digest, f"study {candidate.study!r}", trust_code=True
        )
        networks = RepeatNetworks(task.device, view, trained, config, model, journal, folder, stopping)
        if candidate.members == 1:
            end = networks.run()
        else:
            single = repeat_path(task.folder, candidate.first_member(), number)
            if (repeat := read_repeat(single)) is not None:
                networks.adopt(repeat[0], single.with_suffix("") / CHECKPOINT)
            end = networks.run_ensemble(candidate.members)
    journal.append(end, sync=True)
    if end.result.state != "interrupted" and not _is_member(candidate, task.candidates):
        shutil.rmtree(folder, ignore_errors=True)


def _is_member(candidate: Candidate, others: Sequence[Candidate]) -> bool:
    """Whether an ensemble among the candidates takes over what this one has trained, if it comes later."""
    return any(other.members > 1 and other.first_member().identity() == candidate.identity() for other in others)


def _learner(task: RepeatTask, candidate: Candidate, config: TrialConfig | None, seed: int) -> Learner:
    model, device = None, "cpu"
    if config is not None:
        what = f"study {candidate.study!r}"
        model = recorded_model(candidate.model, candidate.source_digest, what, trust_code=True)
        device = str(choose_device(task.device))
    return Learner(name=candidate.model, seed=seed, config=config, model=model, device=device)


def _baseline(candidate: Candidate, seed: int, view: View, split: Split, journal: Journal) -> RepeatEnded:
    data = view.training(split)
    classifier = BASELINES[candidate.model](seed % 2**32)
    began = time.perf_counter()
    classifier.fit(data.train.tensor.double().numpy(), data.train.targets.numpy())
    seconds = time.perf_counter() - began
    guesses = []
    for part in (data.valid, open_test_part(view, split, journal)):
        empty = part.targets  # scikit-learn refuses to predict nothing
        found = np.asarray(classifier.predict(part.tensor.double().numpy())) if len(part) else empty.numpy()
        guesses.append(torch.from_numpy(found))
    return repeat_ended(TrialResult(state="complete", best=None), seconds, *guesses)
