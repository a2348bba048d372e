"""The rule that gives a training run up after deaths of its workers."""

from harness.core.attempts import Deaths, last_new_epoch
from harness.core.events import EpochDone, EpochRepeated, Event, FoldEpochDone, RepeatStarted
from harness.core.records import EpochMetrics, TrialConfig


def test_only_deaths_without_a_new_epoch_count() -> None:
    deaths = Deaths()
    for new_epoch, count in [(0, 1), (0, 2), (4, 0), (0, 1), (0, 2), (5, 0), (0, 1)]:
        deaths = deaths.add(new_epoch)
        assert deaths.count == count
    assert deaths.epoch == 5


def test_epochs_that_another_machine_had_reached_are_not_new() -> None:
    """A machine that takes a trial over starts a new journal, in which every epoch is new."""
    deaths = Deaths().add(4).add(4).add(3)
    assert deaths == Deaths(count=2, epoch=4)
    assert deaths.reason("out of memory") == (
        "its worker died 2 times in a row without a new epoch, the last time out of memory"
    )


def started(config: TrialConfig | None = None) -> Event:
    return RepeatStarted(
        candidate="cnn", repeat=0, seed=0, config=config, split="s", split_digest="d", device="cpu", threads=1
    )


def metrics(epoch: int) -> EpochMetrics:
    return EpochMetrics(epoch, 1.0, 1.0, 0.5, 0.1)


def test_the_last_new_epoch_is_that_of_the_last_attempt() -> None:
    steps: list[tuple[Event, int]] = [
        (started(), 0),
        (EpochDone(metrics=metrics(1)), 1),
        (EpochDone(metrics=metrics(2)), 2),
        (started(), 0),
        (EpochRepeated(metrics=metrics(1)), 0),
        (EpochRepeated(metrics=metrics(2)), 0),
        (EpochDone(metrics=metrics(3)), 3),
        (started(), 0),
    ]
    events: list[Event] = []
    for event, expected in steps:
        events.append(event)
        assert last_new_epoch(events) == expected
    assert last_new_epoch([]) == 0


def test_the_members_of_an_ensemble_are_counted_through() -> None:
    config = TrialConfig(model="fcnn", params={}, epochs=30, seed=0, threads=1)
    events: list[Event] = [started(config)]
    for member, epoch, expected in ((1, 30, 30), (2, 1, 31), (2, 25, 55), (3, 4, 64)):
        events.append(FoldEpochDone(fold=member, metrics=metrics(epoch)))
        assert last_new_epoch(events) == expected
