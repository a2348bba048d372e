"""The repeats of a comparison: each trains one candidate on one split, then opens the test part once.

They run in worker processes as trials do. Each has its own journal, so that a kill loses at most the epochs since
the last resume point. A lock file, not a study, says which worker runs a repeat.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from harness.compare.baselines import BASELINES
from harness.compare.traits.game import Game
from harness.compare.traits.work import Learner, SubsetTrainings
from harness.core.attempts import ATTEMPTS, Deaths, last_new_epoch
from harness.core.candidate import Candidate
from harness.core.events import (
    EpochDone,
    Event,
    FoldEpochDone,
    OpenedTestPart,
    RepeatEnded,
    RepeatStarted,
    has_ended,
)
from harness.core.files import FileLock
from harness.core.journal import Journal, read_events
from harness.core.names import derive_seed, digest_of
from harness.core.records import Split, TrialConfig, TrialResult
from harness.data import Part, Tracks, TrainingData, View
from harness.models.classifier import Classifier, combined
from harness.models.registry import recorded_model
from harness.models.spec import ModelSpec
from harness.training.checkpoint import load_checkpoint
from harness.training.devices import choose_device
from harness.training.folds import FoldJournal
from harness.training.loop import evaluate
from harness.training.run import EventLog, run_trial
from harness.workers.child import worker_main
from harness.workers.cpus import usable_cores


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
    torch.set_num_threads(min(task.threads, usable_cores()))
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
        journal.append(OpenedTestPart(), sync=True)  # the trainings read the test part as they are made
        end = _subsets(task, task.game, candidate, view, trained, config, seed).run(journal, stopping)
    elif config is None:
        end = _baseline(candidate, seed, view, trained, journal)
    else:
        model = recorded_model(
            candidate.model, candidate.source_digest, f"study {candidate.study!r}", trust_code=True
        )
        networks = _Networks(task, view, trained, config, model, journal, folder, stopping)
        end = networks.run() if candidate.members == 1 else networks.run_ensemble(candidate.members)
    journal.append(end, sync=True)
    if end.result.state != "interrupted":
        shutil.rmtree(folder, ignore_errors=True)


def _subsets(
    task: RepeatTask,
    game: Game,
    candidate: Candidate,
    view: View,
    split: Split,
    config: TrialConfig | None,
    seed: int,
) -> SubsetTrainings:
    model = None
    if config is not None:
        model = recorded_model(
            candidate.model, candidate.source_digest, f"study {candidate.study!r}", trust_code=True
        )
    device = str(choose_device(task.device)) if config is not None else "cpu"
    learner = Learner(name=candidate.model, seed=seed, config=config, model=model, device=device)
    return SubsetTrainings(game, learner, view, split)


@dataclass(frozen=True, slots=True)
class _Networks:
    """Trains the networks of one repeat, one after the other, and then opens the test part once."""

    task: RepeatTask
    view: View
    split: Split
    config: TrialConfig
    model: ModelSpec
    journal: Journal
    folder: Path
    stopping: threading.Event

    def run(self) -> RepeatEnded:
        """Train one network, and return what it predicts."""
        data = self._data()
        result = self._train(data, self.config, self.journal, self.folder)
        return self._ended(data, result, [] if result.state == "interrupted" else [(result, self.folder)])

    def run_ensemble(self, members: int) -> RepeatEnded:
        """Train the members of an ensemble, and return what the mean of their probabilities predicts.

        The first has the seed of the single network in the same repeat. Members that diverged are left out of the
        mean. Members that an earlier attempt has trained are on disk.
        """
        data = self._data()
        trained: list[tuple[TrialResult, Path]] = []
        for number in range(members):
            folder = self.folder / f"member-{number}"
            seed = self.config.seed if number == 0 else derive_seed(self.config.seed, "member", number)
            if (folder / "checkpoint").is_dir():
                result = TrialResult(state="complete", best=None)
            else:
                part = FoldJournal(self.journal, number + 1)
                result = self._train(data, replace(self.config, seed=seed), part, folder)
            if result.state == "interrupted":
                return self._ended(data, result, [])
            trained.append((result, folder))
        whole = [result for result, _ in trained if result.state == "complete"]
        result = whole[0] if whole else trained[0][0]
        if 0 < len(whole) < members:
            result = replace(result, reason=f"{members - len(whole)} of {members} members diverged")
        return self._ended(data, result, trained)

    def _data(self) -> TrainingData:
        return self.view.training(self.split).to(choose_device(self.task.device))

    def _train(self, data: TrainingData, config: TrialConfig, journal: EventLog, folder: Path) -> TrialResult:
        device = data.train.inputs.device
        return run_trial(
            config, self.model, data, device, journal=journal, folder=folder, stop=self.stopping.is_set
        )

    def _ended(
        self, data: TrainingData, result: TrialResult, trained: Sequence[tuple[TrialResult, Path]]
    ) -> RepeatEnded:
        """Return the end of the repeat, with the predictions of all networks that did not diverge.

        If all diverged they count as if they predicted the most frequent genre for every track.
        """
        guesses: list[torch.Tensor] = []
        if trained:
            test = _open(self.view, self.split, self.journal).to(data.train.inputs.device)
            folders = [folder for found, folder in trained if found.state == "complete"]
            guess = Counter(data.train.targets.tolist()).most_common(1)[0][0]
            for part in (data.valid, test):
                if folders and len(part):
                    guesses.append(self._predicted(folders, part))
                else:
                    guesses.append(torch.full_like(part.targets.cpu(), guess))
        return _ended(result, _seconds(self.journal), *guesses)

    def _predicted(self, folders: Sequence[Path], part: Part) -> torch.Tensor:
        """Return the genres that one network predicts, or several as an ensemble."""
        members = []
        for folder in folders:
            classifier, _ = load_checkpoint(folder / "checkpoint", trust_code=True)
            assert isinstance(classifier, Classifier)
            members.append(classifier)
        network = combined(members).eval()
        network.to(part.inputs.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return evaluate(network, part, self.config.precision).argmax(1).cpu()


def _seconds(journal: Journal) -> float:
    """Return how long the epochs of a repeat took; one that was trained again counts once."""
    epochs: dict[tuple[int, int], float] = {}
    for event in journal.events:
        if isinstance(event, EpochDone):
            epochs[0, event.metrics.epoch] = event.metrics.seconds
        elif isinstance(event, FoldEpochDone):
            epochs[event.fold, event.metrics.epoch] = event.metrics.seconds
    return sum(epochs.values())


def _baseline(candidate: Candidate, seed: int, view: View, split: Split, journal: Journal) -> RepeatEnded:
    data = view.training(split)
    classifier = BASELINES[candidate.model](seed % 2**32)
    began = time.perf_counter()
    classifier.fit(data.train.inputs.double().numpy(), data.train.targets.numpy())
    seconds = time.perf_counter() - began
    guesses = []
    for part in (data.valid, _open(view, split, journal)):
        empty = part.targets  # scikit-learn refuses to predict nothing
        found = np.asarray(classifier.predict(part.inputs.double().numpy())) if len(part) else empty.numpy()
        guesses.append(torch.from_numpy(found))
    return _ended(TrialResult(state="complete", best=None), seconds, *guesses)


def _open(view: View, split: Split, journal: Journal) -> Part:
    journal.append(OpenedTestPart(), sync=True)  # written before the test part is opened
    return view.open_test(split)


def _ended(result: TrialResult, seconds: float, *guesses: torch.Tensor) -> RepeatEnded:
    valid, test = (tuple(part.tolist()) for part in guesses) if guesses else ((), ())
    return RepeatEnded(result=result, seconds=seconds, valid=valid, test=test)
