"""The networks of one repeat of a comparison: a single one, or the members of an ensemble."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from harness.core.events import EpochDone, Event, FoldEpochDone, OpenedTestPart, RepeatEnded
from harness.core.journal import EventLog, RunLog
from harness.core.names import derive_seed
from harness.core.records import EpochMetrics, Split, TrialConfig, TrialResult
from harness.data import Part, TrainingData, View
from harness.models.classifier import Classifier, combined
from harness.models.spec import ModelSpec
from harness.training.checkpoint import load_checkpoint
from harness.training.devices import choose_device
from harness.training.folds import FoldJournal
from harness.training.loop import evaluate
from harness.training.run import CHECKPOINT, run_trial


@dataclass(frozen=True, slots=True)
class RepeatNetworks:
    """Trains the networks of one repeat, one after the other, and then opens the test part once."""

    device: str
    view: View
    split: Split
    config: TrialConfig
    model: ModelSpec
    journal: RunLog
    folder: Path
    stop: Callable[[], bool]

    def run(self) -> RepeatEnded:
        """Train one network, and return what it predicts."""
        data = self._data()
        result = self._train(data, self.config, self.journal, self.folder)
        return self._ended(data, result, [] if result.state == "interrupted" else [(result, self.folder)])

    def run_ensemble(self, members: int) -> RepeatEnded:
        """Train the members of an ensemble, and return what the mean of their probabilities predicts.

        The first is the single network of the same repeat, which `adopt` may have put in its place. Members that
        diverged are left out of the mean. Members that an earlier attempt has trained are on disk.
        """
        data = self._data()
        trained: list[tuple[TrialResult, Path]] = []
        for number in range(members):
            folder = self.folder / f"member-{number}"
            seed = self.config.seed if number == 0 else derive_seed(self.config.seed, "member", number)
            if (folder / CHECKPOINT).is_dir():
                result = TrialResult(state="complete", best=self._best_of(number + 1))
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

    def _best_of(self, fold: int) -> EpochMetrics | None:
        """Return the best epoch of a member that is trained, from the journal."""
        best: EpochMetrics | None = None
        for event in self.journal.events:
            if isinstance(event, FoldEpochDone) and event.fold == fold and event.metrics.better_than(best):
                best = event.metrics
        return best

    def _data(self) -> TrainingData:
        return self.view.training(self.split).to(choose_device(self.device))

    def _train(self, data: TrainingData, config: TrialConfig, journal: EventLog, folder: Path) -> TrialResult:
        device = data.train.inputs.device
        return run_trial(config, self.model, data, device, journal=journal, folder=folder, stop=self.stop)

    def _ended(
        self, data: TrainingData, result: TrialResult, trained: Sequence[tuple[TrialResult, Path]]
    ) -> RepeatEnded:
        """Return the end of the repeat, with the predictions of all networks that did not diverge.

        If all diverged they count as if they predicted the most frequent genre for every track.
        """
        guesses: list[torch.Tensor] = []
        if trained:
            test = open_test_part(self.view, self.split, self.journal).to(data.train.inputs.device)
            folders = [folder for found, folder in trained if found.state == "complete"]
            guess = Counter(data.train.targets.tolist()).most_common(1)[0][0]
            for part in (data.valid, test):
                if folders and len(part):
                    guesses.append(self._predicted(folders, part))
                else:
                    guesses.append(torch.full_like(part.targets.cpu(), guess))
        return repeat_ended(result, _seconds(self.journal), *guesses)

    def _predicted(self, folders: Sequence[Path], part: Part) -> torch.Tensor:
        """Return the genres that one network predicts, or several as an ensemble."""
        members = []
        for folder in folders:
            classifier, _ = load_checkpoint(folder / CHECKPOINT, trust_code=True)
            assert isinstance(classifier, Classifier)
            members.append(classifier)
        network = combined(members).eval()
        network.to(part.inputs.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return evaluate(network, part, self.config.precision).argmax(1).cpu()


def _seconds(journal: RunLog) -> float:
    """Return how long the epochs of a repeat took; one that was trained again counts once."""
    epochs: dict[tuple[int, int], float] = {}
    for event in journal.events:
        if isinstance(event, EpochDone):
            epochs[0, event.metrics.epoch] = event.metrics.seconds
        elif isinstance(event, FoldEpochDone):
            epochs[event.fold, event.metrics.epoch] = event.metrics.seconds
    return sum(epochs.values())


def open_test_part(view: View, split: Split, journal: RunLog) -> Part:
    """Journal the opening of a split's test part, then return the part."""
    journal.append(OpenedTestPart(), sync=True)  # written before the test part is opened
    return view.open_test(split)


def repeat_ended(result: TrialResult, seconds: float, *guesses: torch.Tensor) -> RepeatEnded:
    """Return the end of a repeat; `guesses` are those of the validation and the test part, none if interrupted."""
    valid, test = (tuple(part.tolist()) for part in guesses) if guesses else ((), ())
    return RepeatEnded(result=result, seconds=seconds, valid=valid, test=test)


def adopt(journal: RunLog, folder: Path, events: Sequence[Event], network: Path) -> None:
    """Take a network that another repeat has trained as the first member of the ensemble of a repeat.

    It must be what this repeat would train: of the same setting, seed and tracks. `events` are those of its
    training, `network` the folder of its checkpoint, which is moved.
    """
    own, part = folder / "member-0" / CHECKPOINT, FoldJournal(journal, 1)
    if own.is_dir() or not network.is_dir():
        return
    for event in events:
        if isinstance(event, EpochDone) and event.metrics.epoch > part.last_epoch:
            part.append(event)
    own.parent.mkdir(parents=True, exist_ok=True)
    network.rename(own)  # last: it says that the member is trained
