"""What several sweeps of one study ask for: no later one takes away what an earlier one was to leave."""

from pathlib import Path

import pytest

from harness.core.study_record import Targets
from harness.study import Study, reading_storage
from tests.support.commands import SWEEP, Harness
from tests.support.stores import Stores
from tests.support.sweeps import sweep

STUDY = "demo-fcnn"


def kept() -> int:
    """How many trials have their checkpoint."""
    stores = Stores.here()
    folders = [
        stores.client().list_artifacts(run.info.run_id, "checkpoint") for run in stores.runs(STUDY, "trial")
    ]
    return sum(bool(files) for files in folders)


def targets() -> Targets:
    with reading_storage(Stores.here().storage) as storage:
        found = Study.open(storage, STUDY, Path("mlruns/work") / STUDY).targets
    assert found is not None
    return found


def asked() -> str:
    return str(Stores.here().runs(STUDY, "study")[0].data.tags["trials_asked"])


@pytest.mark.long
def test_no_checkpoint_goes_that_an_earlier_sweep_was_to_keep(place: Path, inside: Harness) -> None:
    sweep(trials=2, epochs=1)
    shown = inside(*SWEEP, "--model", "fcnn", "--trials", "3", "--epochs", "1", "--keep", "best:1", "--jobs", "1")
    assert "--keep has no effect" not in shown.stdout
    assert (
        "note: --keep has no effect: an earlier sweep of study demo-fcnn is to keep all checkpoints"
        in shown.stderr
    )
    assert (kept(), targets().keep) == (3, None)


@pytest.mark.long
def test_a_study_keeps_what_it_was_told_until_it_is_told_to_keep_more(place: Path) -> None:
    sweep(trials=2, epochs=1, keep="best:1")
    assert (kept(), targets().keep) == (1, 1)
    sweep(trials=3, epochs=1)
    assert (kept(), targets().keep) == (1, 1)
    sweep(trials=3, epochs=1, keep="best:2")
    assert targets().keep == 2
    sweep(trials=4, epochs=1, keep="all")
    assert (kept(), targets().keep) == (2, None)


@pytest.mark.long
@pytest.mark.parametrize("smaller", [1, 2])
def test_a_smaller_total_leaves_what_is_on_record(place: Path, smaller: int) -> None:
    sweep(trials=3, epochs=1)
    assert sweep(trials=smaller, epochs=1).counts.finished == 3
    assert (targets().n_trials, asked()) == (3, "3")
