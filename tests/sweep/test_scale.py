"""Large stores: the doctor's queries do not grow with the trials, and nothing slow runs under the study's lock."""

import csv
from pathlib import Path

import pytest

from harness.core.files import FileLock
from harness.study import Study, open_storage, plots
from harness.study.plots import write_study_report
from harness.sweep.driver import open_study
from harness.tracking import StudyState
from tests.support.commands import Harness
from tests.support.scale import counted_statements, fabricate
from tests.support.stores import Stores, artifacts
from tests.support.studies import complete, take
from tests.support.sweeps import train_without_uploading

COMMANDS = ("status", "doctor")


def statements(inside: Harness) -> dict[str, int]:
    """How many statements each command sends."""
    found = {}
    for command in COMMANDS:
        with counted_statements() as sent:
            inside(command)
        found[command] = len(sent.sent)
    return found


def test_the_queries_grow_neither_with_trials_nor_with_studies_at_rest(workspace: Path, inside: Harness) -> None:
    fabricate(Stores.here(), 1, 20)
    statements(inside)  # the first use of a library in a process sends more
    few = statements(inside)
    fabricate(Stores.here(), 1, 1500)
    assert statements(inside) == few
    fabricate(Stores.here(), 30, 5)
    assert statements(inside) == few
    assert few["status"] <= 10


def test_the_doctor_opens_what_is_busy_by_few_queries(workspace: Path, inside: Harness) -> None:
    counts = []
    for trials in (20, 1500):
        (spec,) = fabricate(Stores.here(), 1, trials)
        (parent,) = Stores.here().runs(spec.name, "study")
        client = Stores.here().client()
        client.update_run(parent.info.run_id, status="RUNNING")
        inside("doctor", code=1)  # the first use of a library in a process sends more
        with counted_statements() as sent:
            assert f"{spec.name}: the study's run was RUNNING" in inside("doctor", code=1).stdout
        counts.append(len(sent.sent))
        client.update_run(parent.info.run_id, status="FINISHED")
    assert counts[0] == counts[1]


@pytest.mark.long
def test_the_report_is_drawn_without_the_studys_lock_and_again_if_the_study_has_changed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsent = train_without_uploading(trials=2)
    unsent.uploader.pump(flush=True)
    drawn: list[tuple[int, bool]] = []

    def draw(folder, title, rows, *rest):  # type: ignore[no-untyped-def]
        drawn.append((len(rows), FileLock(unsent.plan.work_folder / "claim.lock").is_taken()))
        if len(drawn) == 1:  # another process runs a trial meanwhile
            complete(take(open_study(unsent.plan), total=3), 0.5)
        write_study_report(folder, title, rows, *rest)

    monkeypatch.setattr(plots, "write_study_report", draw)
    unsent.record.conclude(StudyState.COMPLETE)
    assert drawn == [(2, False), (3, False)]
    (parent,) = Stores.here().runs(unsent.study.name, "study")
    assert (parent.info.status, parent.data.metrics["trials_complete"]) == ("FINISHED", 3)
    with (artifacts(parent) / "trials.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3


def test_a_claim_reads_the_trials_before_it_takes_the_lock(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = fabricate(Stores.here(), 1, 50)
    storage = open_storage(Stores.here().storage)
    study = Study.open(storage, spec.name, workspace / "work")
    taken = []
    read = storage._get_trials

    def noting(*args, **options):  # type: ignore[no-untyped-def]
        found = read(*args, **options)
        taken.append((len(found), FileLock(workspace / "work" / "claim.lock").is_taken()))
        return found

    monkeypatch.setattr(storage, "_get_trials", noting)
    claim = take(study)
    assert claim.number == 50
    assert taken[0] == (50, False)
    assert all(number <= 1 for number, _ in taken[1:])
    claim.abandon()
    storage.engine.dispose()
